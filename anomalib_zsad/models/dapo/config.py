# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Schema of DAPO."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator
from typing_extensions import Self

from anomalib_zsad.clip.config import ClipConfig
from anomalib_zsad.clip.tokenizer import word_ids
from anomalib_zsad.data.defect_tables import words_of
from anomalib_zsad.data.words import class_word
from anomalib_zsad.models.base import MethodConfig, check_layers, quarter_layers

MAX_WORD_TOKENS = 20
"""A defect word is a name, not a description."""

_NOT_A_DEFECT = {"normal", "flawless", "good", "ok", "perfect"}


class DAPOConfig(MethodConfig):
    """Names, defaults and ranges of DAPO. Defaults are those of the released code, but for ``text_behaviour``."""

    fixed_by_adapter: ClassVar[frozenset[str]] = MethodConfig.fixed_by_adapter | {
        "layers", "text_behaviour", "num_prompts", "context_tokens", "text_tokens", "text_depth", "vision_tokens",
        "vision_depth",
    }  # fmt: skip
    never_from_adapter: ClassVar[frozenset[str]] = MethodConfig.never_from_adapter | {"type_maps"}

    cache: Literal["none", "memory", "disk"] = Field(
        default="none",
        description="Must stay ``none``: DAPO learns tokens inside the image tower, so that what the tower gives for a "
        "picture changes with every step and cannot be kept.",
    )
    cache_dir: str | Path | None = Field(default=None, description="Not used, because ``cache`` is not.")
    layers: list[int] | None = Field(
        default=None,
        description="1-based image blocks whose patch tokens are used. ``None``: the four quarter points, which are "
        "the released 6, 12, 18, 24 on ViT-L.",
    )
    defect_types: list[str] | str | None = Field(
        default=None,
        description="Words for the kinds of defect, such as ``[scratch, dent, missing screw]``; or the name of a data "
        "set or product whose words are known, such as ``Visa`` or ``MVTecAD/bottle``. They can be changed at any time "
        "without training. ``None``: the adapter's; without one, those of the training data.",
    )
    normal_word: str = Field(default="flawless", min_length=1, description="Word in the prompt of the normal state.")
    text_behaviour: Literal["released", "corrected"] = Field(
        default="corrected",
        description="``corrected``: the text tower is causal, as CLIP was trained, and read at the end of the text. "
        "``released``: it attends in both directions and is read where the end was before tokens were inserted, as in "
        "the released code.",
    )
    num_prompts: int = Field(default=10, ge=1, description="Prompts E of each state, whose features are averaged.")
    context_tokens: int = Field(default=5, ge=1, description="Learnable vectors l in front of a prompt's words.")
    text_tokens: int = Field(default=4, ge=0, description="Tokens inserted in each layer of the text tower; 0 is none.")
    text_depth: int | None = Field(
        default=None, ge=1, description="Layers of the text tower that get tokens. ``None``: all."
    )
    vision_tokens: int = Field(
        default=4, ge=0, description="Tokens inserted in each layer of the image tower; 0 is none."
    )
    vision_depth: int | None = Field(
        default=None, ge=1, description="Layers of the image tower that get tokens. ``None``: all."
    )
    carry: float = Field(
        default=0.01, ge=0, le=1, description="Share alpha of the previous layer's output in the inserted tokens."
    )
    temperature: float = Field(default=0.07, gt=0, description="Temperature of maps and image score.")
    image_score: Literal["global", "both"] = Field(
        default="global",
        description="Image score: the probability from CLIP's global feature alone, or ``both``, its mean with the "
        "highest value of the map.",
    )
    local_weight: float = Field(default=4.0, ge=0, description="Weight lambda of the losses on maps.")
    focal_gamma: float = Field(default=2.0, ge=0, description="Focusing exponent of the focal loss.")
    smoothing_sigma: float = Field(
        default=0.0, ge=0, description="Gaussian smoothing of the anomaly map at test time, in pixels; 0 is none."
    )
    type_maps: bool = Field(
        default=False,
        description="Whether exported models return ``type_maps`` and ``type_scores``, too. Predictions and pictures "
        "have them anyway; anomalib's own inferencers read exports without them only.",
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="Learning rate of Adam.")
    epochs: int = Field(
        default=2, ge=1, description="Epochs of training when the trainer is given neither epochs, steps nor time."
    )

    @field_validator("cache")
    @classmethod
    def _no_cache(cls, cache: str) -> str:
        if cache != "none":
            msg = (
                "DAPO learns tokens inside the image tower, so what the tower gives for a picture changes with every "
                "step and cannot be kept. Leave cache out; PromptMoE, BayesPFL, CoPS and PromptAD have it."
            )
            raise ValueError(msg)
        return cache

    @field_validator("defect_types", mode="before")
    @classmethod
    def _defect_types(cls, words: Any) -> Any:
        if isinstance(words, str):
            words = words_of(words)
        return words if words is None else clean_words(words)

    def fitted(self, sizes: ClipConfig) -> Self:
        """Fill in ``layers`` and the depths; check them and the length of prompts against the backbone."""
        layers = quarter_layers(sizes.vision.layers) if self.layers is None else self.layers
        check_layers(layers, sizes.vision.layers, self.backbone)
        depths = {}
        for name, depth in (("text_depth", sizes.text.layers), ("vision_depth", sizes.vision.layers)):
            depths[name] = getattr(self, name) or depth
            if depths[name] > depth:
                msg = f"{name}={depths[name]}: {self.backbone} has {depth} such layers; use 1..{depth}."
                raise ValueError(msg)
        length = 1 + self.context_tokens + MAX_WORD_TOKENS + 2 + 1
        if length > sizes.text.context_length:
            most = self.context_tokens - length + sizes.text.context_length
            msg = f"context_tokens={self.context_tokens} leaves no room for the defect words; use at most {most}."
            raise ValueError(msg)
        return super().fitted(sizes).model_copy(update={"layers": layers, **depths})


def clean_words(words: list[str] | tuple[str, ...]) -> list[str]:
    """Check defect words and bring them to the form of prompts.

    Raises:
        ValueError: If there are none, or one is empty, twice there, no defect, or too long.

    Example:
        >>> clean_words(["Scratch", "missing_screw"])
        ['scratch', 'missing screw']
    """
    if not words:
        msg = "the list is empty; give at least one defect word, or leave it out."
        raise ValueError(msg)
    cleaned: list[str] = []
    for given in words:
        word = class_word(given) if given.strip(" _-") else ""
        count = len(word_ids(word))
        if not word or word in _NOT_A_DEFECT:
            msg = f"{given!r} is not a kind of defect; the normal state has a prompt of its own (normal_word)."
            raise ValueError(msg)
        if word in cleaned:
            msg = f"{word!r} is in the list twice; every kind of defect needs a word of its own."
            raise ValueError(msg)
        if count > MAX_WORD_TOKENS:
            msg = f"{given[:40]!r}... has {count} tokens, at most {MAX_WORD_TOKENS} are read; shorten it."
            raise ValueError(msg)
        cleaned.append(word)
    return cleaned
