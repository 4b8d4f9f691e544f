# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Loss terms shared by the methods. All take probabilities, all are differentiable, none has parameters."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def focal_terms(true_probability: Tensor, gamma: float = 2.0, eps: float = 1e-5) -> Tensor:
    """Focal loss of every element: ``-(1 - p)^gamma * log(p)`` with ``p = true_probability + eps``.

    How the terms are averaged differs between the methods and is left to them.

    Args:
        true_probability (Tensor): Probability given to the true class, in [0, 1], any shape.
        gamma (float): Focusing exponent, at least 0.
        eps (float): Keeps the logarithm finite, and ``1 - p`` at least at this.

    Example:
        >>> focal_terms(torch.tensor([1.0, 0.5]), eps=0.0)
        tensor([-0.0000, 0.1733])
    """
    p = true_probability + eps
    # A probability of 1 makes 1 - p negative, which has no fractional power.
    return -((1 - p).clamp(min=eps) ** gamma) * torch.log(p)


def dice_loss(probability: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """Dice loss of each image: ``1 - (2 sum(p y) + smooth) / (sum(p) + sum(y) + smooth)``, sums over all but dim 0.

    Args:
        probability (Tensor): ``(B, ...)`` in [0, 1].
        target (Tensor): ``(B, ...)`` in {0, 1}.
        smooth (float): Added to numerator and denominator.

    Returns:
        Tensor: ``(B,)`` in [0, 1].

    Example:
        >>> dice_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
        tensor([0.])
    """
    p, y = probability.flatten(1), target.flatten(1).to(probability.dtype)
    return 1 - (2 * (p * y).sum(1) + smooth) / (p.sum(1) + y.sum(1) + smooth)


def dice_of_layers(maps: Tensor, target: Tensor) -> Tensor:
    """Dice loss, mean over the images and sum over the layers.

    Args:
        maps (Tensor): ``(B, layers, H, W)`` in [0, 1].
        target (Tensor): ``(B, 1 or layers, H, W)`` in {0, 1}.

    Returns:
        Tensor: ``()``.

    Example:
        >>> dice_of_layers(torch.ones(3, 2, 4, 4), torch.zeros(3, 1, 4, 4))
        tensor(1.8824)
    """
    flat = dice_loss(maps.flatten(0, 1), target.expand_as(maps).flatten(0, 1))
    return flat.unflatten(0, maps.shape[:2]).mean(dim=0).sum()


def load_balance_loss(logits: Tensor) -> Tensor:
    """Load balance of mixture routing: ``E * sum_j mean_i(p_ij)^2`` with ``p = softmax(logits)``.

    Args:
        logits (Tensor): ``(B, ..., E)``; every middle dimension is a router of its own.

    Returns:
        Tensor: ``(...)``, 1 when the experts share the batch evenly, ``E`` when one expert takes all.

    Example:
        >>> load_balance_loss(torch.zeros(3, 4))
        tensor(1.)
    """
    share = logits.softmax(dim=-1).mean(dim=0)
    return logits.shape[-1] * (share**2).sum(dim=-1)


def orthogonality_loss(vectors: Tensor) -> Tensor:
    """Distance of normalised vectors from an orthonormal set: ``|S S^T - I|_F^2``.

    Args:
        vectors (Tensor): ``(..., E, D)``.

    Returns:
        Tensor: ``(...)``, 0 for orthogonal vectors, ``E (E - 1)`` for parallel ones.

    Example:
        >>> orthogonality_loss(torch.eye(3))
        tensor(0.)
    """
    unit = F.normalize(vectors, dim=-1)
    gram = unit @ unit.mT
    return ((gram - torch.eye(gram.shape[-1], device=gram.device, dtype=gram.dtype)) ** 2).sum(dim=(-2, -1))
