# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Loss terms of BayesPFL with the reductions of the released code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anomalib_zsad.losses import dice_loss, focal_terms, orthogonality_loss

if TYPE_CHECKING:
    from anomalib_zsad.models.bayes_pfl.components import Posterior


def log_density(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Logarithm of a diagonal Gaussian density without its ``2 pi``, summed over the last dimension."""
    return -0.5 * (variance.log() + (x - mean) ** 2 / variance).sum(-1)


def divergence(posterior: Posterior) -> tuple[Tensor, Tensor]:
    """Sampled divergence ``log q(z_0) - log p(z_K)`` and, apart from it, the flows' log-determinant.

    Returns:
        tuple[Tensor, Tensor]: ``(N,)`` each, means over the samples.
    """
    standard = log_density(posterior.end, torch.zeros_like(posterior.end), torch.ones_like(posterior.end))
    start = log_density(posterior.start, posterior.mean[:, None], posterior.variance[:, None])
    return (start - standard).mean(1), posterior.logdet.mean(1)


def regularisation(context: Posterior, state: Posterior) -> tuple[Tensor, Tensor]:
    """Divergences of the context distribution, ``()``, and of the two state distributions, ``(2,)``.

    The context term is a mean over the batch. The state distributions do not depend on the image; the released code
    repeats their samples for every image but counts their log-determinants once, which divides them by the batch size.
    """
    gap, logdet = divergence(context)
    state_gap, state_logdet = divergence(state)
    return (gap - logdet).mean(), state_gap - state_logdet / len(gap)


def focal_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Focal loss, averaged over foreground and over background pixels of the whole batch, both added; per layer.

    Args:
        logits (Tensor): ``(B, layers, H, W)``, positive where anomalous.
        masks (Tensor): ``(B, H, W)`` true where anomalous.

    Returns:
        Tensor: ``(layers,)``.
    """
    target = masks[:, None].bool()
    terms = focal_terms(torch.sigmoid(torch.where(target, logits, -logits)), gamma=2.0, eps=1e-8)
    share = target.to(terms.dtype)
    foreground, background = ((terms * part).sum((0, 2, 3)) / (part.sum() + 1e-8) for part in (share, 1 - share))
    return foreground + background


def dice(logits: Tensor, masks: Tensor) -> Tensor:
    """Dice loss of the anomalous channel over the whole batch at once; arguments and result as :func:`focal_loss`."""
    probability = torch.sigmoid(logits).transpose(0, 1)  # layers take the place of images
    return dice_loss(probability, masks.expand_as(probability), smooth=1e-5)


def orthogonality(text: Tensor) -> Tensor:
    """Mean squared cosine between the prompts of a bank, zeros of the diagonal counted; both banks added.

    Args:
        text (Tensor): ``(B, 2, T, C)``.
    """
    return (orthogonality_loss(text) / text.shape[2] ** 2).mean(0).sum()
