# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Schema of CoPS."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from pydantic import Field, model_validator
from typing_extensions import Self

from anomalib_zsad.clip.config import ClipConfig
from anomalib_zsad.models.base import MethodConfig, check_heads, check_prompt


class InferenceRule(NamedTuple):
    """Constants of inference.

    Attributes:
        neighbourhood (int): Side of the neighbourhood over which patch features are averaged.
        alpha (float): Share of the distance to the normal prototypes in the weight of a patch.
        beta (float): Share of the image probability in the image score; the rest is the largest weighted patch.
    """

    neighbourhood: int
    alpha: float
    beta: float


OFFICIAL_RULES = {"visa": InferenceRule(3, 0.35, 1.0), "other": InferenceRule(5, 0.26, 0.9)}


class CoPSConfig(MethodConfig):
    """Names, defaults and ranges of CoPS. Defaults are those of the released code for training on VisA."""

    fixed_by_adapter: ClassVar[frozenset[str]] = MethodConfig.fixed_by_adapter | {
        "context_tokens", "num_prototypes", "class_tokens", "deep_layers", "deep_tokens", "num_heads",
        "swap_prototypes", "half_tokens",
    }  # fmt: skip

    never_from_adapter: ClassVar[frozenset[str]] = MethodConfig.never_from_adapter | {
        "rules", "official_target", "distance_maps",
    }  # fmt: skip

    neighbourhood: int = Field(
        default=5,
        ge=1,
        description="Side, in patches, of the odd neighbourhood over which patch features are averaged, in training "
        "and under the deployable rules. Officially 5 when trained on VisA, 3 when trained on MVTec AD.",
    )
    reconstruction: bool = Field(
        default=False,
        description="Train with the reconstruction loss. Officially off when trained on VisA, on when trained on MVTec "
        "AD.",
    )
    rules: Literal["deployable", "official"] = Field(
        default="deployable",
        description="Constants of inference: ``deployable``, one set for all data; ``official``, those that the "
        "released code picks by the name of the test set, which ``official_target`` has to tell.",
    )
    official_target: Literal["visa", "other"] | None = Field(
        default=None,
        description="Test set under the official rules: ``visa``, or ``other`` for any other one.",
    )
    num_samples: int = Field(
        default=10, ge=1, description="Samples R of the VAE's prior, averaged in the text features; may be changed."
    )
    noise_seed: int = Field(
        default=0,
        ge=0,
        description="Seed of these samples, which are the same for every image; nothing else depends on it.",
    )
    context_tokens: int = Field(default=6, ge=0, description="Context vectors at the head of either prompt.")
    num_prototypes: int = Field(
        default=6,
        ge=1,
        description="Prototypes per class, and state vectors in a prompt: each state carries one prototype.",
    )
    class_tokens: int = Field(
        default=2, ge=0, description="Class vectors in a prompt, all shifted by the VAE's sample."
    )
    deep_layers: int | None = Field(
        default=None,
        ge=0,
        description="Text blocks, from the second on, that get deep tokens. ``None``: the released 8, or as many as a "
        "shallower text tower has.",
    )
    deep_tokens: int = Field(default=4, ge=1, description="Prompt positions that the deep tokens overwrite.")
    num_heads: int | None = Field(
        default=None,
        ge=1,
        description="Heads of the prototype extractor, a divisor of the joint width. ``None``: the released 12, or the "
        "largest divisor below.",
    )
    swap_prototypes: bool = Field(
        default=True,
        description="Give the anomalous prototypes to the normal prompt and the other way round, as the released code "
        "and weights do.",
    )
    half_tokens: bool = Field(
        default=True,
        description="Round deep tokens to half precision, as the released code does; changes maps by 1e-4.",
    )
    temperature: float = Field(default=0.07, gt=0, description="Temperature of patch and image probabilities.")
    patch_weight: float = Field(default=4.0, ge=0, description="Weight of the focal and Dice losses.")
    smoothing_sigma: float = Field(
        default=4.0, ge=0, description="Gaussian smoothing of the map at test time, in pixels; 0 is none."
    )
    distance_maps: bool = Field(
        default=False,
        description="Also give the maps of the distances to the image's normal and anomalous prototypes, in pictures "
        "and in exported models.",
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="Learning rate of Adam.")
    epochs: int = Field(
        default=10,
        ge=1,
        description="Epochs of training when the trainer is given neither epochs, steps nor time. Officially 10 on "
        "VisA, 5 on MVTec AD.",
    )

    @property
    def rule(self) -> InferenceRule:
        """Constants of inference that the config asks for.

        The deployable rule takes the neighbourhood of training and the official constants of every set but VisA.
        """
        if self.rules == "official" and self.official_target is not None:
            return OFFICIAL_RULES[self.official_target]
        return OFFICIAL_RULES["other"]._replace(neighbourhood=self.neighbourhood)

    @property
    def prompt_tokens(self) -> int:
        """Learned vectors in a prompt."""
        return self.context_tokens + self.num_prototypes + self.class_tokens

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.neighbourhood % 2 == 0:
            msg = (
                f"neighbourhood={self.neighbourhood} has no centre; use {self.neighbourhood - 1} or "
                f"{self.neighbourhood + 1}."
            )
            raise ValueError(msg)
        if (self.rules == "official") != (self.official_target is not None):
            msg = (
                f"rules={self.rules!r} with official_target={self.official_target!r}: the official constants depend on "
                "the name of the test set. Use rules='official' with official_target='visa' or 'other', or "
                "rules='deployable' without official_target."
            )
            raise ValueError(msg)
        if self.deep_layers != 0 and self.deep_tokens > self.prompt_tokens:
            msg = f"deep_tokens={self.deep_tokens} is more than a prompt's {self.prompt_tokens} vectors."
            raise ValueError(msg)
        return self

    def fitted(self, sizes: ClipConfig) -> Self:
        """Fill in ``num_heads`` and ``deep_layers`` and check widths and lengths against the backbone."""
        width, blocks = sizes.embed_dim, sizes.text.layers - 1
        heads = self.num_heads or max(divisor for divisor in range(1, 13) if width % divisor == 0)
        deep_layers = min(8, blocks) if self.deep_layers is None else self.deep_layers
        if sizes.text.width != width:
            msg = (
                "CoPS adds image features to prompt vectors, so the text width has to be the joint width; "
                f"{self.backbone} has {sizes.text.width} and {width}. Use ViT-L-14-336, ViT-L-14 or ViT-B-16."
            )
            raise ValueError(msg)
        check_heads(heads, width, f"{self.backbone}'s joint width {width}")
        if deep_layers > blocks:
            msg = (
                f"deep_layers={deep_layers}: behind the first block {self.backbone}'s text tower has {blocks} others; "
                f"use 0..{blocks}."
            )
            raise ValueError(msg)
        lower = "context_tokens, num_prototypes or class_tokens"
        check_prompt(self.prompt_tokens + 3, sizes, self.backbone, lower)
        return super().fitted(sizes).model_copy(update={"num_heads": heads, "deep_layers": deep_layers})
