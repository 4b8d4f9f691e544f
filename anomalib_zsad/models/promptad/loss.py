# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The deviation loss."""

from __future__ import annotations

import torch
from torch import Tensor


def deviation_loss(scores: Tensor, labels: Tensor, margin: float = 5.0) -> Tensor:
    """Symmetric deviation loss of every score, from a reference of mean 0 and standard deviation 1.

    ``(1 - y) max(0, margin + s) + y max(0, margin - s)``: 0 when all normal scores are at most ``-margin`` and all
    anomalous ones at least ``margin``.

    Args:
        scores (Tensor): ``(B, ...)``, not bounded.
        labels (Tensor): ``(B,)`` true where anomalous.
        margin (float): Alpha of the paper.

    Returns:
        Tensor: ``(B, ...)``, at least 0.

    Example:
        >>> deviation_loss(torch.tensor([-6.0, 4.0]), torch.tensor([False, True]))
        tensor([0., 1.])
    """
    y = labels.reshape(-1, *[1] * (scores.ndim - 1)).to(scores.dtype)
    return torch.relu(margin + scores * (1 - 2 * y))
