# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""How well scores rank anomalous above normal samples: AUROC, average precision, F1-max and PRO from one sort.

All four depend on the scores only through a few counts at every distinct *anomalous* score, so the normal samples
(nearly all pixels of a data set) are sorted in place and never indexed: 4 bytes a pixel, one sort for all metrics,
integer counts and float64 sums. The numbers equal those of scikit-learn, torchmetrics and anomalib's ``AUPRO``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FPR_LIMIT = 0.3  # the field's convention for PRO


@dataclass(frozen=True)
class Ranking:
    """Counts at the ``T`` distinct scores of anomalous samples, from the highest score to the lowest.

    Args:
        hits (np.ndarray): Anomalous samples at or above the score, shape ``(T,)``.
        overlap (np.ndarray): The same as a mean over regions of the region's share at or above the score, shape
            ``(T,)``, rising to 1. Each sample is its own region unless weights say otherwise.
        above (np.ndarray): Normal samples strictly above the score, shape ``(T,)``.
        alarms (np.ndarray): Normal samples at or above the score, shape ``(T,)``.
        normals (int): Number of normal samples.

    Example:
        >>> ranking = Ranking.exact(np.array([0.1, 0.4]), np.array([0.35, 0.8]))
        >>> ranking.auroc(), round(ranking.average_precision(), 4), ranking.f1_max()
        (0.75, 0.8333, 0.8)
    """

    hits: np.ndarray
    overlap: np.ndarray
    above: np.ndarray
    alarms: np.ndarray
    normals: int

    @classmethod
    def exact(cls, normal: np.ndarray, anomalous: np.ndarray, weights: np.ndarray | None = None) -> Ranking:
        """Rank scores as they are.

        Args:
            normal (np.ndarray): Scores of normal samples, shape ``(N,)``, at least one. **Sorted in place.**
            anomalous (np.ndarray): Scores of anomalous samples, shape ``(P,)``, at least one.
            weights (np.ndarray | None): One over the size of each anomalous sample's region, shape ``(P,)``.
        """
        normal.sort()
        values, which, counts = np.unique(anomalous, return_inverse=True, return_counts=True)
        shares = counts if weights is None else np.bincount(which, weights, minlength=len(values))
        values = values[::-1]
        return cls._from_counts(
            counts[::-1],
            shares[::-1],
            above=len(normal) - np.searchsorted(normal, values, side="right"),
            alarms=len(normal) - np.searchsorted(normal, values, side="left"),
            normals=len(normal),
        )

    @classmethod
    def binned(cls, normal: np.ndarray, anomalous: np.ndarray, shares: np.ndarray) -> Ranking:
        """Rank histograms: samples in one bin count as tied.

        Args:
            normal (np.ndarray): Normal samples per bin of rising score, shape ``(bins,)``, at least one sample.
            anomalous (np.ndarray): Anomalous samples per bin, shape ``(bins,)``, at least one sample.
            shares (np.ndarray): Sum of the anomalous samples' weights per bin, shape ``(bins,)``.
        """
        alarms = np.cumsum(normal[::-1])
        used = np.flatnonzero(anomalous[::-1])
        counts = anomalous[::-1][used]
        above = alarms[used] - normal[::-1][used]
        return cls._from_counts(counts, shares[::-1][used], above=above, alarms=alarms[used], normals=int(alarms[-1]))

    @classmethod
    def _from_counts(
        cls, counts: np.ndarray, shares: np.ndarray, *, above: np.ndarray, alarms: np.ndarray, normals: int
    ) -> Ranking:
        overlap = np.cumsum(shares, dtype=np.float64)
        return cls(np.cumsum(counts), overlap / overlap[-1], above, alarms, normals)

    def auroc(self) -> float:
        """Chance that an anomalous sample scores above a normal one, ties counting one half; 0.5 is random."""
        won = self.normals - (self.above + self.alarms) / 2
        return float(np.diff(self.hits, prepend=0) @ won / (self.hits[-1] * self.normals))

    def average_precision(self) -> float:
        """Step-wise area under the precision-recall curve, as scikit-learn's ``average_precision_score``.

        Not the trapezoid rule of anomalib's ``AUPR``, which is optimistic between two thresholds.
        """
        precision = self.hits / (self.hits + self.alarms)
        return float(np.diff(self.hits, prepend=0) @ precision / self.hits[-1])

    def f1_max(self) -> float:
        """Highest F1 score over all thresholds."""
        return float(np.max(2 * self.hits / (self.hits + self.alarms + self.hits[-1])))

    def pro(self, fpr_limit: float = FPR_LIMIT) -> float:
        """Area under per-region overlap against false positive rate up to ``fpr_limit``, over that limit; in [0, 1].

        Between two distinct scores the curve runs straight, also where it crosses the limit. A random map has
        ``fpr_limit / 2``.
        """
        before = np.concatenate(([0.0], self.overlap[:-1]))
        rise = self.overlap - before
        left = np.append(self.above, self.normals) / self.normals  # where the flat piece below each score ends
        right = np.concatenate(([0], self.alarms)) / self.normals  # where it starts
        flat = np.minimum(left, fpr_limit) - np.minimum(right, fpr_limit)
        width = right[1:] - left[:-1]  # a piece that climbs over normal samples tied with anomalous ones
        climb = np.minimum(right[1:], fpr_limit) - np.minimum(left[:-1], fpr_limit)
        mean_height = before + rise / 2 * np.divide(climb, width, out=np.zeros_like(width), where=width > 0)
        return float((flat @ np.append(before, 1.0) + climb @ mean_height) / fpr_limit)
