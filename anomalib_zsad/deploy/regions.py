# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Connected regions of a mask, with numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Region:
    """One connected part of a mask.

    Attributes:
        box (tuple[int, int, int, int]): Left, top, right and bottom in pixels of the image, the last two exclusive.
        area (int): Pixels of the image.
        score (float): Highest value of the anomaly map.
        type (str | None): Its likeliest kind of defect, where the model names them.
    """

    box: tuple[int, int, int, int]
    area: int
    score: float
    type: str | None = None


def find_regions(
    mask: np.ndarray,
    scores: np.ndarray,
    size: tuple[int, int],
    type_map: np.ndarray | None = None,
    type_names: Sequence[str] = (),
) -> tuple[Region, ...]:
    """Regions of a mask, highest score first. Pixels that touch at a corner belong together.

    Args:
        mask (np.ndarray): ``(h, w)``, boolean.
        scores (np.ndarray): ``(h, w)`` anomaly map.
        size (tuple[int, int]): Width and height of the image, to which boxes and areas are scaled.
        type_map (np.ndarray | None): ``(h, w)`` number of the kind of defect, counted from 1.
        type_names (Sequence[str]): Their words.
    """
    labels, count = label(mask)
    width, height = size
    rows, columns = mask.shape
    places = np.argwhere(mask)
    numbers = labels[mask]
    order = np.argsort(numbers, kind="stable")
    borders = np.cumsum(np.bincount(numbers, minlength=count + 1)[1:-1])
    found = []
    for pixels in np.split(places[order], borders) if count else ():
        y, x = pixels.T
        box = (
            int(x.min() * width // columns),
            int(y.min() * height // rows),
            int(-(-(x.max() + 1) * width // columns)),
            int(-(-(y.max() + 1) * height // rows)),
        )
        kind = None if type_map is None else type_names[int(np.bincount(type_map[y, x]).argmax()) - 1]
        area = max(1, round(len(y) * width * height / (rows * columns)))
        found.append(Region(box, area, float(scores[y, x].max()), kind))
    return tuple(sorted(found, key=lambda region: -region.score))


def label(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the connected parts of a boolean mask ``(H, W)``, eight neighbours to a pixel; 0 is outside.

    Runs of a row are joined with those of the next row that they touch: work grows with the number of runs.

    Example:
        >>> label(np.array([[1, 0, 0, 1], [0, 1, 0, 1]], dtype=bool))
        (array([[1, 0, 0, 2],
               [0, 1, 0, 2]]), 2)
    """
    height, width = mask.shape
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    row, start = np.nonzero(edges == 1)
    end = np.nonzero(edges == -1)[1]  # exclusive
    stride = width + 2  # places of different rows never mix
    first = np.searchsorted(row * stride + end, (row + 1) * stride + start)
    last = np.searchsorted(row * stride + start, (row + 1) * stride + end, side="right")

    parent = list(range(len(row)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = run = parent[parent[run]]
        return run

    for run, (low, high) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        for below in range(low, high):
            one, other = sorted((root(run), root(below)))
            parent[other] = one
    roots, numbers = np.unique([root(run) for run in parent], return_inverse=True)
    labels = np.zeros((height, width), dtype=np.int64)
    labels[mask] = np.repeat(numbers + 1, end - start)
    return labels, len(roots)
