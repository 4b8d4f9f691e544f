# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Sizes of a CLIP model and the two constants of its pre-processing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

Activation = Literal["gelu", "quick_gelu"]
Positions = Literal["bicubic_antialias", "bicubic", "bilinear"]


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of the image tower, a ViT with a class token."""

    image_size: int  # native side in pixels, the size the positional embedding was trained at
    patch_size: int
    width: int
    layers: int
    heads: int


@dataclass(frozen=True)
class TextConfig:
    """Sizes of the causal text tower."""

    context_length: int
    vocab_size: int
    width: int
    layers: int
    heads: int


@dataclass(frozen=True)
class ClipConfig:
    """Sizes of both towers and of the joint space."""

    vision: VisionConfig
    text: TextConfig
    embed_dim: int
