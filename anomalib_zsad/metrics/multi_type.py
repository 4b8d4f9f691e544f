# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""How well kinds of defect are told apart, at pixels and at images: pure functions, and counts in bounded memory.

Class 0 is normal, classes ``1 .. K`` are the kinds of one product. A product's pixels are pooled; means over products
are for the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anomalib_zsad.metrics.ranking import Ranking

BINS = 2**16
HIGHEST_LOGIT = 44.0  # a probability of 1e-19


@dataclass(frozen=True)
class TypeMetrics:
    """One-vs-rest values of every class; NaN where a class or its rest does not occur.

    Attributes:
        auroc (np.ndarray): ``(K + 1,)``.
        ap (np.ndarray): Average precision, ``(K + 1,)``.
        f1 (np.ndarray): F1 score of arg-max predictions, ``(K + 1,)``; NaN where a class neither occurs nor is
            predicted.
    """

    auroc: np.ndarray
    ap: np.ndarray
    f1: np.ndarray

    def macro(self, *, normal: bool = True) -> dict[str, float]:
        """Mean over the classes that have a value, with normal as one of them (as published) or without."""
        start = 0 if normal else 1
        return {name: _mean(getattr(self, name)[start:]) for name in ("auroc", "ap", "f1")}


def pixel_type_metrics(scores: np.ndarray, types: np.ndarray) -> TypeMetrics:
    """Multi-type segmentation of one product.

    Args:
        scores (np.ndarray): ``(N, K + 1)`` score of each class at each pixel, normal first, all images pooled.
        types (np.ndarray): ``(N,)`` true class of each pixel, 0 for normal.

    Raises:
        ValueError: If shapes or classes do not fit.

    Example:
        >>> scores = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.3, 0.2, 0.5], [0.1, 0.5, 0.4]])
        >>> pixel_type_metrics(scores, np.array([0, 1, 2, 2])).f1.round(3).tolist()
        [1.0, 0.667, 0.667]
    """
    scores, types = np.asarray(scores), np.asarray(types)
    _check(scores, types, lowest=0)
    classes = scores.shape[1]
    auroc, ap = np.full(classes, np.nan), np.full(classes, np.nan)
    for number in range(classes):
        own = types == number
        if own.any() and not own.all():
            ranking = Ranking.exact(scores[~own, number], scores[own, number])
            auroc[number], ap[number] = ranking.auroc(), ranking.average_precision()
    return TypeMetrics(auroc, ap, _f1(_confusion(scores.argmax(axis=1), types, classes)))


class TypeCounts:
    """:func:`pixel_type_metrics` of probabilities, image by image, in memory that does not grow.

    Scores of each class fall into equal bins of their log odds, which resolve a probability to 0.1 % of itself or of
    its distance to 1: ranking metrics are those of scores that tie within a bin. F1 is exact.

    Args:
        classes (int): Number ``K + 1`` of classes.
    """

    def __init__(self, classes: int) -> None:
        self.histogram = np.zeros((2, classes, BINS), np.int64)  # rest, own
        self.confusion = np.zeros((classes, classes), np.int64)

    def add(self, scores: np.ndarray, types: np.ndarray) -> None:
        """Take in pixels: probabilities ``(N, K + 1)`` and true classes ``(N,)``, as :func:`pixel_type_metrics`."""
        scores, types = np.asarray(scores), np.asarray(types)
        _check(scores, types, lowest=0)
        classes = len(self.confusion)
        self.confusion += _confusion(scores.argmax(axis=1), types, classes)
        for number in range(classes):
            own = types == number
            places = ((log_odds(scores, number) / HIGHEST_LOGIT + 1) / 2 * BINS).clip(0, BINS - 1).astype(np.int64)
            for row, rows in enumerate((~own, own)):
                self.histogram[row, number] += np.bincount(places[rows], minlength=BINS)

    def merge(self, other: TypeCounts) -> None:
        """Add what another process has counted."""
        self.histogram += other.histogram
        self.confusion += other.confusion

    def metrics(self) -> TypeMetrics:
        """Compute the metrics of all pixels so far."""
        auroc, ap = np.full(len(self.confusion), np.nan), np.full(len(self.confusion), np.nan)
        for number, (rest, own) in enumerate(self.histogram.swapaxes(0, 1)):
            if own.any() and rest.any():
                ranking = Ranking.binned(rest, own, own)
                auroc[number], ap[number] = ranking.auroc(), ranking.average_precision()
        return TypeMetrics(auroc, ap, _f1(self.confusion))


def log_odds(scores: np.ndarray, number: int) -> np.ndarray:
    """Log odds ``(N,)`` of one class from probabilities ``(N, K + 1)``: the others are added up, not taken from 1."""
    with np.errstate(divide="ignore"):
        return np.log(scores[:, number]) - np.log(np.delete(scores, number, axis=1).sum(axis=1))


def image_type_metrics(type_scores: np.ndarray, types: Sequence[int] | np.ndarray) -> dict[str, float]:
    """How often the first kind in an image's ranking is its own; a measure of ours, the method defines none.

    Args:
        type_scores (np.ndarray): ``(N, K)`` score of each kind for each anomalous image.
        types (Sequence[int] | np.ndarray): ``(N,)`` true kind, ``1 .. K``. Normal images do not belong here.

    Returns:
        dict[str, float]: ``top1``, the share of images whose first kind is right, and ``macro_f1``, the mean over the
        kinds that occur or are predicted.

    Raises:
        ValueError: If shapes or kinds do not fit.

    Example:
        >>> image_type_metrics(np.array([[0.6, 0.2], [0.1, 0.5], [0.7, 0.3]]), [1, 2, 2])["top1"]
        0.6666666666666666
    """
    scores, own = np.asarray(type_scores), np.asarray(types)
    _check(scores, own, lowest=1)
    first = scores.argmax(axis=1) + 1
    f1 = _f1(_confusion(first, own, scores.shape[1] + 1))
    return {"top1": float((first == own).mean()), "macro_f1": _mean(f1[1:])}


def _check(scores: np.ndarray, types: np.ndarray, lowest: int) -> None:
    if scores.ndim != 2 or types.shape != scores.shape[:1] or not len(types):
        msg = f"Expected scores (N, classes) and types (N,) with N > 0, got {scores.shape} and {types.shape}."
        raise ValueError(msg)
    highest = scores.shape[1] - 1 + lowest
    if types.min() < lowest or types.max() > highest:
        msg = f"Types must lie in {lowest}..{highest}, got {types.min()}..{types.max()}."
        raise ValueError(msg)


def _confusion(predicted: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """How often each class (row) was taken for each (column)."""
    return np.bincount(true.astype(np.int64) * classes + predicted, minlength=classes**2).reshape(classes, classes)


def _f1(confusion: np.ndarray) -> np.ndarray:
    both = confusion.sum(axis=0) + confusion.sum(axis=1)
    return np.where(both > 0, 2 * confusion.diagonal() / np.maximum(both, 1), np.nan)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
