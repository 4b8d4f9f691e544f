# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What the methods compute with features and maps: pure functions, exportable with symbolic sizes.

Letters: ``B`` batch, ``L`` tokens, ``C`` joint width, ``K`` texts, ``H W`` map.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def similarity(tokens: Tensor, text: Tensor) -> Tensor:
    """Cosine similarity of tokens and texts.

    Args:
        tokens (Tensor): ``(..., L, C)``.
        text (Tensor): ``(..., K, C)``, leading dimensions broadcast.

    Returns:
        Tensor: ``(..., L, K)`` in [-1, 1].

    Example:
        >>> similarity(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        tensor([[0.6000, 0.8000]])
    """
    return F.normalize(tokens, dim=-1) @ F.normalize(text, dim=-1).mT


def to_grid(tokens: Tensor) -> Tensor:
    """Fold the token dimension of ``(..., L)`` into a square grid ``(..., g, g)``.

    Example:
        >>> to_grid(torch.arange(4))
        tensor([[0, 1],
                [2, 3]])
    """
    side = round(tokens.shape[-1] ** 0.5)
    return tokens.unflatten(-1, (side, side))


def upsample(maps: Tensor, size: int, *, align_corners: bool = False) -> Tensor:
    """Enlarge maps ``(..., h, w)`` to ``(..., size, size)``, bilinearly.

    Example:
        >>> upsample(torch.tensor([[0.0, 1.0]]).expand(2, 2), 3, align_corners=True)[0]
        tensor([0.0000, 0.5000, 1.0000])
    """
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    flat = F.interpolate(flat, size=(size, size), mode="bilinear", align_corners=align_corners)
    return flat.reshape(*maps.shape[:-2], size, size)


@lru_cache(maxsize=16)
def _gaussian_matrix(size: int, sigma: float) -> np.ndarray:
    # numpy: a tensor cached while a graph is traced would be the tracer's
    radius = int(4.0 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    # Half-sample reflection, (d c b a | a b c d | d c b a), repeated for kernels wider than the map.
    index = (np.arange(size)[:, None] + offsets) % (2 * size)
    index = np.where(index >= size, 2 * size - 1 - index, index)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], index), weights / weights.sum())
    return matrix.astype(np.float32)


def gaussian_smooth(maps: Tensor, sigma: float) -> Tensor:
    """Gaussian filter over the last two axes of ``maps`` ``(..., H, W)``; ``sigma`` in pixels, 0 changes nothing.

    The same numbers as ``scipy.ndimage.gaussian_filter`` with its defaults (reflection, truncated at 4 sigma), as two
    matrix products.

    Example:
        >>> gaussian_smooth(torch.ones(1, 4, 4), 2.0).mean()
        tensor(1.)
    """
    if sigma == 0:
        return maps
    rows, columns = (torch.tensor(_gaussian_matrix(size, sigma)).to(maps) for size in maps.shape[-2:])
    return rows @ maps @ columns.mT


def resize_bicubic(images: Tensor, size: int) -> Tensor:
    """Antialiased bicubic resize of ``images`` ``(..., H, W)`` to ``(..., size, size)``.

    Equal to ``torchvision.transforms.v2.functional.resize(..., BICUBIC, antialias=True)`` on float images to rounding,
    but made of two matrix products whose weights follow from the size of the input, so that it exports with dynamic
    height and width. Cubic kernel with a = -0.5, support widened by the down-sampling factor.
    """
    rows = _bicubic_matrix(images[..., 0], size)
    columns = _bicubic_matrix(images[..., 0, :], size)
    return rows @ images @ columns.mT


def _bicubic_matrix(line: Tensor, size: int) -> Tensor:
    """Weights ``(size, N)`` for a line of ``N`` pixels; ``line`` ``(..., N)`` only tells N, which stays symbolic.

    Pixel centres, times ``2 N size``, are whole numbers: distances are exact, also where runtimes compute in bfloat16,
    which knows no whole numbers between 256 and 258.
    """
    ones = torch.ones_like(line.reshape(-1, line.shape[-1])[0], dtype=torch.int64)
    count = ones.sum()
    source = (2 * ones.cumsum(0) - 1) * size
    target = (2 * torch.arange(size, device=line.device) + 1) * count
    x = (source[None] - target[:, None]).abs() / (2 * count.clamp(min=size))
    near = (1.5 * x - 2.5) * x * x + 1
    far = -0.5 * (x - 1) * (x - 2) ** 2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
    return (weights / weights.sum(dim=1, keepdim=True)).to(line.dtype)


def topk_mean(maps: Tensor, k: int) -> Tensor:
    """Mean ``(B,)`` of the ``k`` largest values of each map ``(B, ...)``; ``k`` is capped at the number of values.

    Example:
        >>> topk_mean(torch.tensor([[[0.0, 1.0], [3.0, 2.0]]]), 2)
        tensor([2.5000])
    """
    flat = maps.flatten(1)
    return flat.topk(min(k, flat.shape[1]), dim=1).values.mean(dim=1)


def minmax(values: Tensor, eps: float = 0.0) -> Tensor:
    """Scale each row of ``values`` ``(..., N)`` to [0, 1]: ``(x - min) / (max - min + eps)``.

    A row of equal values becomes zeros with ``eps`` above 0, and NaN without.

    Example:
        >>> minmax(torch.tensor([[1.0, 3.0, 2.0]]))
        tensor([[0.0000, 1.0000, 0.5000]])
    """
    low, high = values.amin(dim=-1, keepdim=True), values.amax(dim=-1, keepdim=True)
    return (values - low) / (high - low + eps)
