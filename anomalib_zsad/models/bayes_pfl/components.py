# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Prompt distributions, residual cross-attention and attention pooling.

Letters beyond the common ones: ``R`` samples, ``K`` flows, ``T`` texts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from anomalib_zsad.models.base import init_linear


class Posterior(NamedTuple):
    """Samples of a distribution, with what its divergence needs.

    Attributes:
        mean (Tensor): ``(N, C)`` of the Gaussian that the flows start from.
        variance (Tensor): ``(N, C)``.
        start (Tensor): ``(N, R, C)`` samples of the Gaussian.
        end (Tensor): ``(N, R, C)`` the same behind the flows.
        logdet (Tensor): ``(N, R)`` log-determinants of the flows' Jacobians, added up.
    """

    mean: Tensor
    variance: Tensor
    start: Tensor
    end: Tensor
    logdet: Tensor


def planar_flows(z: Tensor, u: Tensor, w: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Push samples through ``K`` planar flows, ``z + u tanh(w z + b)`` one after the other.

    Args:
        z (Tensor): ``(N, R, C)``.
        u (Tensor): ``(N, K, C)``.
        w (Tensor): ``(N, K, C)``.
        bias (Tensor): ``(N, K)``.

    Returns:
        tuple[Tensor, Tensor]: ``(N, R, C)`` and the sum of ``log(|1 + (1 - tanh^2) w u| + 1e-5)``, ``(N, R)``.
    """
    wu = (w * u).sum(-1)
    logdet = torch.zeros_like(z[..., 0])
    for k in range(u.shape[1]):
        gate = torch.tanh((z @ w[:, k, :, None])[..., 0] + bias[:, k, None])  # (N, R)
        stretch = 1 + (1 - gate**2) * wu[:, k, None]
        z, logdet = z + u[:, k, None] * gate[..., None], logdet + torch.log(stretch.abs() + 1e-5)
    return z, logdet


class GaussianEncoder(nn.Module):
    """Mean and variance of a Gaussian from a condition, by two independent MLPs."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.mean, self.log_variance = (
            nn.Sequential(
                nn.Linear(width, hidden), nn.Softplus(), nn.Linear(hidden, hidden), nn.Softplus(),
                nn.Linear(hidden, width),
            )
            for _ in range(2)
        )  # fmt: skip

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance ``(N, C)`` for ``condition`` ``(N, C)``."""
        # The second MLP gives twice the logarithm of the variance, so the standard deviation is exp(h / 4).
        return self.mean(condition), torch.exp(0.5 * self.log_variance(condition))


class ContextDistribution(nn.Module):
    """Distribution of the context vector given an image; its flows are predicted from the image."""

    def __init__(self, width: int, hidden: int, flows: int) -> None:
        super().__init__()
        self.encoder = GaussianEncoder(width, hidden)
        self.u = nn.Linear(width, flows * width)
        self.w = nn.Linear(width, flows * width)
        self.bias = nn.Linear(width, flows)
        init_linear(self)

    def forward(self, condition: Tensor, noise: Tensor) -> Posterior:
        """Sample.

        Args:
            condition (Tensor): ``(B, C)`` global image features, not normalised.
            noise (Tensor): ``(B or 1, R, C)`` standard normal.
        """
        mean, variance = self.encoder(condition)
        start = mean[:, None] + variance.sqrt()[:, None] * noise
        shape = (-1, condition.shape[-1])
        u, w = self.u(condition).unflatten(1, shape), self.w(condition).unflatten(1, shape)
        return Posterior(mean, variance, start, *planar_flows(start, u, w, self.bias(condition)))


class StateDistribution(nn.Module):
    """Distributions of the normal and of the anomalous state vector; they share an encoder, not their flows."""

    def __init__(self, width: int, hidden: int, flows: int) -> None:
        super().__init__()
        self.encoder = GaussianEncoder(width, hidden)
        self.condition = nn.Parameter(torch.randn(2, width))
        self.u = nn.Parameter(torch.randn(2, flows, width))
        self.w = nn.Parameter(torch.randn(2, flows, width))
        self.bias = nn.Parameter(torch.randn(2, flows))
        init_linear(self)

    def forward(self, noise: Tensor) -> Posterior:
        """Sample with standard normal ``noise`` ``(2, R, C)``; in the result ``N = 2``, normal first."""
        mean, variance = self.encoder(self.condition)
        start = mean[:, None] + variance.sqrt()[:, None] * noise
        return Posterior(mean, variance, start, *planar_flows(start, self.u, self.w, self.bias))


class ResidualCrossAttention(nn.Module):
    """Text features refined with the patch tokens of one layer at a time (RCA).

    Keys and values are the same normalised projections; the query map is shared by the layers.

    Args:
        layers (int): Number of tapped layers.
        width (int): Width ``D`` of the patch tokens.
        joint (int): Joint width ``C``.
        heads (int): Heads.
    """

    def __init__(self, layers: int, width: int, joint: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projections = nn.ModuleList(nn.Linear(width, joint, bias=False) for _ in range(layers))
        init_linear(self)
        self.query = nn.Linear(joint, joint)  # keeps PyTorch's initialisation

    def project(self, layer: int, patches: Tensor) -> Tensor:
        """Normalised projections ``(B, L, C)`` of ``patches`` ``(B, L, D)`` of the ``layer``-th tapped block."""
        return F.normalize(self.projections[layer](patches), dim=-1)

    def forward(self, text: Tensor, keys: Tensor) -> Tensor:
        """Refine.

        Args:
            text (Tensor): ``(B, T, C)``, normalised.
            keys (Tensor): ``(B, L, C)`` from :meth:`project`.

        Returns:
            Tensor: ``(B, T, C)``, normalised.
        """
        query, key = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (self.query(text), keys))
        # The scale counts the joint width, not the width of a head.
        found = F.scaled_dot_product_attention(query, key, key, scale=text.shape[-1] ** -0.5)
        return F.normalize(found.transpose(1, 2).flatten(2) + text, dim=-1)


class AttentionPooling(nn.Module):
    """One vector out of the patch tokens of all tapped layers.

    Args:
        layers (int): Number of tapped layers.
        width (int): Width ``D`` of the patch tokens.
        joint (int): Joint width ``C``.
    """

    def __init__(self, layers: int, width: int, joint: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(layers * width, width // 2)
        self.score = nn.Linear(width // 2, 1)
        self.output = nn.Linear(width // 2, joint)
        init_linear(self)

    def forward(self, patches: tuple[Tensor, ...]) -> Tensor:
        """Pool the layers' ``(B, L, D)`` tokens into ``(B, C)``."""
        tokens = self.reduce(torch.cat(patches, dim=-1))  # (B, L, D / 2)
        weights = self.score(tokens).softmax(dim=1)
        return self.output((weights * tokens).sum(dim=1))
