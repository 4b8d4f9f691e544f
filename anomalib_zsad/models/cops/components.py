# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Parts of CoPS: prototypes, the variational auto-encoder of the class vector, distances.

Letters: ``B`` batch, ``L`` patches, ``C`` joint width, ``P`` prototypes per class. Where a dimension of size 2 stands
for the classes, index 0 is normal and 1 anomalous.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from anomalib_zsad.clip.blocks import Attention
from anomalib_zsad.functional import minmax, similarity, to_grid
from anomalib_zsad.models.base import init_linear


class CrossAttention(Attention):
    """Multi-head attention of queries to other tokens."""

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:  # type: ignore[override]
        """Attention of ``queries`` ``(B or 1, Q, C)`` to ``tokens`` ``(B, L, C)``."""
        (query, key, value), biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q = self._split(F.linear(queries, query, biases[0])).expand(tokens.shape[0], -1, -1, -1)
        k = self._split(F.linear(tokens, key, biases[1]))
        v = self._split(F.linear(tokens, value, biases[2]))
        return self._merge(F.scaled_dot_product_attention(q, k, v))


class PrototypeExtractor(nn.Module):
    """Turns learned queries into prototypes of one image: a pre-norm block that attends to the image's patches.

    ``x = t + MHA(ln_1(t), ln_1(F), ln_1(F))``, then ``x + W2 quick_gelu(W1 ln_2(x))``. Queries do not see each other,
    so those of both classes go through together.

    Args:
        width (int): Joint width ``C``.
        heads (int): Attention heads, a divisor of ``width``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = CrossAttention(width, heads)
        self.ln_1 = nn.LayerNorm(width)
        self.ln_2 = nn.LayerNorm(width)
        self.c_fc = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.attn.in_proj_weight)
        nn.init.zeros_(self.attn.in_proj_bias)
        init_linear(self)

    def forward(self, queries: Tensor, patches: Tensor) -> Tensor:
        """Prototypes ``(B, 2, P, C)`` from ``queries`` ``(2, P, C)`` and ``patches`` ``(B, L, C)``."""
        start = queries.flatten(0, 1)[None]
        x = start + self.attn(self.ln_1(start), self.ln_1(patches))
        hidden = self.c_fc(self.ln_2(x))
        return (x + self.c_proj(hidden * torch.sigmoid(1.702 * hidden))).unflatten(1, queries.shape[:2])


class ClassVAE(nn.Module):
    """Variational auto-encoder of the global image feature; a decoded sample shifts the prompts' class vectors.

    Only training encodes. Published weights lack the encoder; then its parameters are NaN.

    Args:
        width (int): Joint width ``C``, also of the latent.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.mean = nn.Linear(width, width)
        self.log_var = nn.Linear(width, width)
        self.decoder = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        init_linear(self)

    def encode(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, both ``(B, C)``, of the latent of a global image ``feature`` ``(B, C)``.

        Raises:
            RuntimeError: If the weights came without an encoder.
        """
        if self.mean.bias.isnan().any():
            msg = (
                "These weights have no VAE encoder (vae.hidden, vae.mean, vae.log_var): the published CoPS files leave "
                "it out. They test, predict and export; to train, start a new model without weights."
            )
            raise RuntimeError(msg)
        hidden = self.hidden(feature).relu()
        return self.mean(hidden), self.log_var(hidden)


def neighbourhood_mean(patches: Tensor, side: int) -> Tensor:
    """Mean of ``patches`` ``(B, L, C)`` over ``side x side`` neighbours, zeros outside of the grid counted.

    What the zeros take from the norm of a patch at the border cancels in cosines and layer norms.
    """
    pooled = F.avg_pool2d(to_grid(patches.mT), side, stride=1, padding=side // 2)
    return pooled.flatten(2).mT


def prototype_distances(patches: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine distance ``(B, L, 2)`` in [0, 2] of each patch to the nearest prototype of either class.

    Args:
        patches (Tensor): ``(B, L, C)``.
        prototypes (Tensor): ``(B, 2, P, C)``.
    """
    cosine = similarity(patches, prototypes.flatten(1, 2))
    return 1 - cosine.unflatten(-1, prototypes.shape[1:3]).amax(dim=-1)


def distance_weight(distances: Tensor, alpha: float) -> Tensor:
    """Weight ``(B, L)`` in [0, 1] of each patch: far from the normal and near to the anomalous prototypes is heavy.

    ``alpha * minmax(d_n) + (1 - alpha) * (1 - minmax(d_a))``, scaled within each image.

    Args:
        distances (Tensor): ``(B, L, 2)`` from :func:`prototype_distances`.
        alpha (float): Share of the distance to the normal prototypes, in [0, 1].

    Example:
        >>> distance_weight(torch.tensor([[[0.1, 0.9], [0.5, 0.5], [0.9, 0.1]]]), 0.25)
        tensor([[0.0000, 0.5000, 1.0000]])
    """
    normal, anomalous = minmax(distances.mT, eps=1e-8).unbind(dim=1)  # eps: a flat image must not give NaN
    return alpha * normal + (1 - alpha) * (1 - anomalous)
