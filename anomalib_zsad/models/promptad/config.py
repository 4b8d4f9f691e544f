# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Schema of PromptAD."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from anomalib_zsad.clip.config import ClipConfig
from anomalib_zsad.models.base import MethodConfig, check_heads, check_layers


class PromptADConfig(MethodConfig):
    """Names, defaults and ranges of PromptAD. Defaults are the paper's unless the description says otherwise."""

    default_backbone: ClassVar[str] = "ViT-B-16"
    default_image_size: ClassVar[int] = 352
    fixed_by_adapter: ClassVar[frozenset[str]] = MethodConfig.fixed_by_adapter | {
        "layers", "width", "num_heads", "branches", "cross_view", "interaction",
    }  # fmt: skip
    never_from_adapter: ClassVar[frozenset[str]] = MethodConfig.never_from_adapter | {
        "class_name", "class_definition", "defect_types", "k_shot", "few_shot_source",
    }  # fmt: skip

    layers: list[int] | None = Field(
        default=None,
        description="1-based image blocks whose patch tokens enter the branches, one for each block of a branch (not "
        "stated). ``None``: the quarter, seven twelfths and three quarters of the tower, 3, 7 and 9 on ViT-B.",
    )
    width: int = Field(default=64, ge=1, description="Width D of the branches (not stated).")
    num_heads: int = Field(default=4, ge=1, description="Attention heads in the branches; must divide ``width``.")
    branches: Literal["both", "abnormal", "normal"] = Field(
        default="both", description="Branches to build and to score with; one alone is an ablation of the paper."
    )
    cross_view: bool = Field(
        default=True, description="Compare with the other view's prototype; off is an ablation of the paper."
    )
    interaction: bool = Field(
        default=True,
        description="Let the map of each branch weight the features of the other; off is an ablation of the paper.",
    )
    class_name: str | None = Field(
        default=None,
        min_length=1,
        description="What the pictures to inspect show. ``None``: the class word of each image where the data has one, "
        "otherwise ``object``. Training takes each auxiliary image's own word in any case.",
    )
    class_definition: str | None = Field(
        default=None,
        min_length=1,
        description="Dictionary-style sentence that says what a good part looks like. ``None``: the one known for the "
        "class word, otherwise ``a photo of a normal CLASS``, which the log tells. For all pictures to inspect, "
        "whatever their class words, not for training.",
    )
    defect_types: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Defect words of the abnormality prompt. ``None``: those that things of this class commonly have. "
        "For all pictures to inspect, whatever their class words, not for training.",
    )
    k_shot: int = Field(
        default=0,
        ge=0,
        description="Normal images of the inspected class that replace its normality prototype. Above 0 this is "
        "few-shot, no longer zero-shot: it takes images of the target that somebody knows to be good.",
    )
    few_shot_source: str | Path | None = Field(
        default=None,
        description="Folder of these normal images. ``None``: the training images of the target's datamodule.",
    )
    top_fraction: float = Field(
        default=0.1, gt=0, le=1, description="Share of the tokens, those with the largest values, that make a score."
    )
    margin: float = Field(default=5.0, gt=0, description="Margin alpha of the deviation loss.")
    anomaly_repeats: int = Field(
        default=10,
        ge=1,
        description="How often an epoch shows each anomalous image of ``ZeroShot`` data. The paper has 1 or 10 of them "
        "per class; with a balanced auxiliary data set, such as VisA's test split, use 1.",
    )
    mask_supervision: bool = Field(
        default=False, description="Add focal and Dice losses on the final map where masks are known (not the paper's)."
    )
    smoothing_sigma: float = Field(
        default=4.0, ge=0, description="Gaussian smoothing of the map at test time, in pixels; 0 is none (not stated)."
    )
    learning_rate: float = Field(default=1e-4, gt=0, description="Learning rate of AdamW (not stated).")
    warmup_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Share of the steps over which the learning rate rises linearly; constant afterwards (not stated).",
    )
    epochs: int = Field(
        default=30,
        ge=1,
        description="Epochs of training when the trainer is given neither epochs, steps nor time (not stated).",
    )

    @field_validator("few_shot_source")
    @classmethod
    def _plain(cls, path: str | Path | None) -> str | None:
        """Config and checkpoint hold plain data."""
        return None if path is None else str(path)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_heads(self.num_heads, self.width, f"width={self.width}")
        if self.few_shot_source is not None and not self.k_shot:
            msg = f"few_shot_source={self.few_shot_source!r} is not read with k_shot=0; set k_shot, e.g. 4."
            raise ValueError(msg)
        if self.k_shot and (self.branches == "normal" or not self.cross_view):
            msg = (
                f"k_shot={self.k_shot} replaces the prototype that the abnormality branch compares with, which "
                f"branches={self.branches!r}, cross_view={self.cross_view} leaves out; use k_shot=0."
            )
            raise ValueError(msg)
        return self

    def fitted(self, sizes: ClipConfig) -> Self:
        """Fill in ``layers`` and check them against the backbone."""
        depth = sizes.vision.layers
        default = [max(1, round(depth * twelfths / 12)) for twelfths in (3, 7, 9)]
        layers = default if self.layers is None else self.layers
        check_layers(layers, depth, self.backbone)
        return super().fitted(sizes).model_copy(update={"layers": layers})
