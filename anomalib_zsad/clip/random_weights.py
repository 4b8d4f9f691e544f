# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Seeded random weights with the moments of OpenAI's initialisation, for tests and for trying things offline."""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch import Tensor

from anomalib_zsad.clip.config import ClipConfig
from anomalib_zsad.clip.text import TextTower
from anomalib_zsad.clip.vision import VisionTower


def weight_shapes(config: ClipConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all weights of a CLIP, in the OpenAI layout."""
    with torch.device("meta"):
        vision, text = VisionTower(config, "gelu", config.vision.image_size), TextTower(config, "gelu")
    shapes = {f"visual.{name}": tuple(parameter.shape) for name, parameter in vision.named_parameters()}
    shapes |= {name: tuple(parameter.shape) for name, parameter in text.named_parameters()}
    return shapes | {"logit_scale": ()}


def random_weights(config: ClipConfig, seed: int) -> dict[str, Tensor]:
    """Random weights; the global random state is neither read nor changed."""
    return {name: _random(name, shape, config, seed) for name, shape in weight_shapes(config).items()}


def _random(name: str, shape: tuple[int, ...], config: ClipConfig, seed: int) -> Tensor:
    """One tensor with the moments of OpenAI's initialisation.

    A value is the sum of four 16-bit integers, near enough to a Gaussian. Unlike ``torch.randn`` it is the same to the
    last bit on every processor and with every version, and so is the checksum that an adapter remembers.
    """
    if name == "logit_scale":
        return torch.tensor(math.log(1 / 0.07))
    if name.endswith("bias"):
        return torch.zeros(shape)
    std = _std(name, shape, config)
    if std is None:
        return torch.ones(shape)
    source = np.random.PCG64([seed, zlib.crc32(name.encode())])
    values = np.empty(math.prod(shape), np.float32)
    for start in range(0, values.size, 1 << 14):  # pieces that stay in the processor's cache
        piece = values[start : start + (1 << 14)]
        parts = source.random_raw(piece.size).astype("<u8", copy=False).view("<i2").reshape(-1, 4)
        piece[:] = 2  # each part has mean -1/2
        for column in parts.T:
            piece += column
    values *= np.float32(std / math.sqrt(4 * (2**32 - 1) / 12))
    return torch.from_numpy(values).reshape(shape)


def _std(name: str, shape: tuple[int, ...], config: ClipConfig) -> float | None:
    """Standard deviation at initialisation; ``None`` for the gains of the layer norms."""
    tower = config.vision if name.startswith("visual.") else config.text
    residual = (2 * tower.layers) ** -0.5
    by_ending = {
        "conv1.weight": (3 * math.prod(shape[1:])) ** -0.5,
        "visual.class_embedding": tower.width**-0.5,
        "visual.positional_embedding": tower.width**-0.5,
        "positional_embedding": 0.01,
        "token_embedding.weight": 0.02,
        "in_proj_weight": tower.width**-0.5,
        "out_proj.weight": tower.width**-0.5 * residual,
        "c_fc.weight": (2 * tower.width) ** -0.5,
        "c_proj.weight": tower.width**-0.5 * residual,
        "proj": tower.width**-0.5,
        "text_projection": tower.width**-0.5,
    }
    return next((std for ending, std in by_ending.items() if name.endswith(ending)), None)
