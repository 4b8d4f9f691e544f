# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Schema of BayesPFL."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from anomalib_zsad.clip.config import ClipConfig
from anomalib_zsad.models.base import MethodConfig, check_heads, check_layers, check_prompt, quarter_layers


class BayesPFLConfig(MethodConfig):
    """Names, defaults and ranges of BayesPFL. Defaults are the released code's unless a description says otherwise."""

    fixed_by_adapter: ClassVar[frozenset[str]] = MethodConfig.fixed_by_adapter | {
        "layers", "num_prompts", "context_tokens", "state_tokens", "num_flows", "num_heads",
    }  # fmt: skip

    never_from_adapter: ClassVar[frozenset[str]] = MethodConfig.never_from_adapter | {"rules", "uncertainty_map"}

    activation: Literal["recorded", "gelu", "quick_gelu"] = Field(
        default="gelu",
        description="Activation of the towers. The released code and checkpoints run OpenAI's weights with the exact "
        "``gelu`` although they were trained with ``quick_gelu``; ``recorded`` is the one recorded with the weights.",
    )
    layers: list[int] | None = Field(
        default=None,
        description="1-based image blocks whose patch tokens are used. ``None``: the four quarter points, which are "
        "6, 12, 18, 24 on ViT-L.",
    )
    class_name: str | None = Field(
        default=None,
        min_length=1,
        description="Class word in the prompts. ``None``: the class word of each image where the data has one, "
        "otherwise ``object``.",
    )
    rules: Literal["deployable", "official"] = Field(
        default="deployable",
        description="``deployable``: one rule for all data and one image at a time. ``official``: the released "
        "evaluation, whose top-k depends on data set and class and whose score is scaled over the whole test set.",
    )
    num_samples: int = Field(
        default=10, ge=1, description="Monte-Carlo samples R of the prompt distributions at test time; may be changed."
    )
    noise_seed: int = Field(
        default=0, ge=0, description="Seed of the fixed noise at test time; nothing else depends on it."
    )
    num_prompts: int = Field(default=3, ge=1, description="Prompts B_p in each bank.")
    context_tokens: int = Field(default=5, ge=1, description="Context vectors P of a prompt.")
    state_tokens: int = Field(default=5, ge=1, description="State vectors Q of a prompt.")
    num_flows: int = Field(default=10, ge=1, description="Planar flows K of each distribution.")
    num_heads: int = Field(
        default=4, ge=1, description="Heads of the residual cross-attention; must divide the joint width."
    )
    top_fraction: float = Field(
        default=0.0075,
        gt=0,
        le=1,
        description="Share of the pixels whose mean is the map's part of the image score under ``deployable`` rules "
        "(the released code takes 2000 of 518 x 518, or 20).",
    )
    smoothing_sigma: float = Field(
        default=8.0, ge=0, description="Gaussian smoothing of the map at test time, in pixels; 0 is none."
    )
    uncertainty_map: bool = Field(
        default=False,
        description="Also give the map of how far the sampled prompts disagree, in pictures and in exported models.",
    )
    divergence_weight: float = Field(default=0.01, ge=0, description="Weight of the three divergence terms.")
    prompt_learning_rate: float = Field(
        default=1e-3, gt=0, description="Learning rate of prompt banks, flows and state inputs."
    )
    temperature_learning_rate: float = Field(default=1e-2, gt=0, description="Learning rate of the two temperatures.")
    learning_rate: float = Field(default=1e-4, gt=0, description="Learning rate of everything else, and of stage 2.")
    warmup_share: float = Field(
        default=0.1, ge=0, lt=1, description="Share of the first stage over which its learning rates rise linearly."
    )
    first_stage_epochs: int = Field(
        default=15,
        ge=1,
        description="Epochs of stage 1 (everything but the image branch). The rest of the training is stage 2. "
        "The released code chooses the length on target classes; here it is fixed.",
    )
    epochs: int = Field(
        default=20, ge=1, description="Epochs of training when the trainer is given neither epochs, steps nor time."
    )

    @model_validator(mode="after")
    def _stages(self) -> Self:
        if self.first_stage_epochs > self.epochs:
            msg = f"first_stage_epochs={self.first_stage_epochs} exceeds epochs={self.epochs}; use 1..{self.epochs}."
            raise ValueError(msg)
        return self

    def fitted(self, sizes: ClipConfig) -> Self:
        """Fill in ``layers`` and check layers, widths and heads against the backbone."""
        layers = quarter_layers(sizes.vision.layers) if self.layers is None else self.layers
        check_layers(layers, sizes.vision.layers, self.backbone)
        width = sizes.embed_dim
        if width != sizes.text.width:
            msg = (
                f"BayesPFL adds image-conditioned vectors to token embeddings, so the text width must equal the joint "
                f"width; {self.backbone} has {sizes.text.width} and {width}. ViT-L-14-336 and ViT-B-16 fit."
            )
            raise ValueError(msg)
        check_heads(self.num_heads, width, f"{self.backbone}'s joint width {width}")
        length = 1 + self.context_tokens + self.state_tokens + 2
        check_prompt(length, sizes, self.backbone, "context_tokens or state_tokens")
        return super().fitted(sizes).model_copy(update={"layers": layers})
