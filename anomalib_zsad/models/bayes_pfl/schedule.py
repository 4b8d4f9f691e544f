# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Optimiser groups and learning rates of the two stages."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomalib_zsad.models.bayes_pfl.torch_model import BayesPFLModel


def parameter_groups(model: BayesPFLModel) -> list[dict[str, Any]]:
    """Prompt banks, temperatures, flows with their conditions, and the rest, each with its learning rate."""
    groups: list[dict[str, Any]] = [
        {"params": [], "lr": model.config.prompt_learning_rate},
        {"params": [], "lr": model.config.temperature_learning_rate},
        {"params": [], "lr": model.config.prompt_learning_rate},
        {"params": [], "lr": model.config.learning_rate},
    ]
    for name, parameter in model.named_parameters():
        kinds = ("_bank" in name, "_scale" in name, "_distribution" in name and ".encoder." not in name, True)
        groups[kinds.index(True)]["params"].append(parameter)
    return groups


def stage_factor(step: int, total: int, warmup_share: float) -> float:
    """Factor on the learning rates of stage 1: linear warm-up from 0, then a cosine to 0 at ``total`` steps.

    Example:
        >>> [round(stage_factor(step, 10, 0.2), 2) for step in (0, 1, 2, 6, 10)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    warmup = int(warmup_share * total)
    if step < warmup:
        return step / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.5 * (1 + math.cos(math.pi * progress))
