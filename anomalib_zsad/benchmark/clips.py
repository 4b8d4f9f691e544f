# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""One copy of CLIP's weights for all models of a benchmark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from anomalib_zsad.clip.model import Clip
from anomalib_zsad.clip.weights import Weights, read_weights


class SharedClips:
    """CLIPs that are read once.

    Models differ in image size, activation and in how they resample positions, so each has towers of its own; their
    tensors are the same memory.
    """

    def __init__(self) -> None:
        self._read: dict[tuple[Any, ...], Weights] = {}

    def share_with(self, model: Any) -> None:
        """Give a model of this package its CLIP, before it reads one."""
        config = model.config
        weights = self._weights(config.backbone, config.pretrained, config.activation)
        model.model.clip = Clip(
            weights.config,
            weights.state_dict,
            activation=weights.activation,
            image_size=config.image_size,
            positions=model.model.positions,
            name=f"{weights.backbone}/{Path(weights.pretrained).name}",
        )

    def _weights(self, backbone: str, pretrained: str | None, activation: Any) -> Weights:
        key = (backbone, pretrained, activation)
        if key not in self._read:
            weights = read_weights(backbone, pretrained, activation=activation)
            twins = [one for (*clip, _), one in self._read.items() if clip == [backbone, pretrained]]
            self._read[key] = replace(weights, state_dict=twins[0].state_dict) if twins else weights
        return self._read[key]
