# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Frozen CLIP towers: sizes, weights and tokenizer from open_clip, forward passes of our own."""

from anomalib_zsad.clip.config import CLIP_MEAN, CLIP_STD, Activation, ClipConfig, Positions, TextConfig, VisionConfig
from anomalib_zsad.clip.model import Clip
from anomalib_zsad.clip.text import TextTower, assemble_prompts
from anomalib_zsad.clip.vision import VisionOutput, VisionTower

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "Activation",
    "Clip",
    "ClipConfig",
    "Positions",
    "TextConfig",
    "TextTower",
    "VisionConfig",
    "VisionOutput",
    "VisionTower",
    "assemble_prompts",
]
