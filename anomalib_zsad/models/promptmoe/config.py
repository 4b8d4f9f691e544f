# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Schema of PromptMoE."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from anomalib_zsad.clip.config import ClipConfig
from anomalib_zsad.models.base import MethodConfig, check_heads, check_layers, check_prompt, quarter_layers


class PromptMoEConfig(MethodConfig):
    """Names, defaults and ranges of PromptMoE. Defaults are the paper's unless the description says otherwise."""

    fixed_by_adapter: ClassVar[frozenset[str]] = MethodConfig.fixed_by_adapter | {
        "layers", "patch_features", "num_experts", "top_k", "num_queries", "num_heads", "router_hidden",
        "normal_tokens", "anomalous_tokens", "context_tokens",
    }  # fmt: skip

    layers: list[int] | None = Field(
        default=None,
        description="1-based image blocks whose patch tokens are used. ``None``: the four quarter points, which are "
        "the paper's 6, 12, 18, 24 on ViT-L.",
    )
    patch_features: Literal["value_attention", "projection"] = Field(
        default="value_attention",
        description="Patch tokens that enter map and routing (the paper leaves it open): ``value_attention``, the V-V "
        "path from the first tapped block on with CLIP's frozen projection; ``projection``, the plain tokens with one "
        "trainable linear map per layer.",
    )
    class_name: str | None = Field(
        default="object",
        min_length=1,
        description="Class word in the prompts. ``None``: the class word of each image where the data has one, "
        "otherwise ``object``.",
    )
    num_experts: int = Field(default=8, ge=1, description="Prompt segments E in each expert pool.")
    top_k: int = Field(default=4, ge=1, description="Experts that are mixed, at most ``num_experts``.")
    num_queries: int = Field(default=8, ge=1, description="Learnable queries N_q of each router.")
    num_heads: int = Field(
        default=8, ge=1, description="Heads of the routers' cross-attention; must divide the text width."
    )
    router_hidden: int = Field(default=256, ge=1, description="Hidden width of the routers.")
    normal_tokens: int = Field(default=5, ge=1, description="Vectors M_n in a normal segment.")
    anomalous_tokens: int = Field(default=6, ge=1, description="Vectors M_a in an anomalous segment.")
    context_tokens: int = Field(default=8, ge=0, description="Learnable context vectors M_q behind the class word.")
    temperature: float = Field(default=0.07, gt=0, description="Temperature of the map (not stated in the paper).")
    image_temperature: float = Field(
        default=0.07, gt=0, description="Temperature of the image probability (not stated in the paper)."
    )
    balance_weight: float = Field(default=0.01, ge=0, description="Weight alpha of the load-balance loss.")
    decouple_weight: float = Field(default=0.005, ge=0, description="Weight beta of the expert-orthogonality loss.")
    focal_gamma: float = Field(default=2.0, ge=0, description="Focusing exponent of the focal loss (not stated).")
    map_supervision: Literal["mean", "per_layer"] = Field(
        default="mean",
        description="Focal and Dice losses on the mean map of Eq. 8, or on the map of each layer and added.",
    )
    smoothing_sigma: float = Field(
        default=4.0, ge=0, description="Gaussian smoothing of the map at test time, in pixels; 0 is none (not stated)."
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="Learning rate of Adam.")
    warmup_epochs: float = Field(
        default=3.0, ge=0, description="Epochs over which the learning rate rises linearly; constant afterwards."
    )
    epochs: int = Field(
        default=15, ge=1, description="Epochs of training when the trainer is given neither epochs, steps nor time."
    )

    @model_validator(mode="after")
    def _experts(self) -> Self:
        if self.top_k > self.num_experts:
            msg = f"top_k={self.top_k} is larger than num_experts={self.num_experts}; use 1..{self.num_experts}."
            raise ValueError(msg)
        return self

    def fitted(self, sizes: ClipConfig) -> Self:
        """Fill in ``layers`` and check layers and heads against the backbone."""
        layers = quarter_layers(sizes.vision.layers) if self.layers is None else self.layers
        check_layers(layers, sizes.vision.layers, self.backbone)
        width = sizes.text.width
        check_heads(self.num_heads, width, f"{self.backbone}'s text width {width}")
        length = 2 + self.normal_tokens + self.anomalous_tokens + self.context_tokens + 1
        check_prompt(length, sizes, self.backbone, "normal_tokens, anomalous_tokens or context_tokens")
        return super().fitted(sizes).model_copy(update={"layers": layers})
