# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Six metrics per class from scores, labels, anomaly maps and masks, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np
import torch
from torch import Tensor

from anomalib_zsad.metrics.gather import gather, processes
from anomalib_zsad.metrics.ranking import Ranking
from anomalib_zsad.metrics.report import IMAGE_METRICS, PIXEL_METRICS, Report, Row, Values

EXACT_PIXELS = 2**27  # 0.5 GB of float32, 500 maps of 518 x 518; computing takes as much again
FALLBACK_BINS = 2**16

Array: TypeAlias = Tensor | np.ndarray | Sequence


class PixelScores:
    """Pixel scores of one class: as they are while memory allows, a histogram of [0, 1] from then on.

    Args:
        bins (int | None): Count into this many bins from the start. Defaults to ``None`` (exact).
    """

    def __init__(self, bins: int | None = None) -> None:
        self.chunks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # normal scores, anomalous scores, weights
        self.histogram: np.ndarray | None = None  # the same three per bin; float64 counts exactly up to 2**53
        self.held = 0  # scores in the chunks
        self.final: Values | None = None
        self.flaw = ""
        if bins is not None:
            self.collapse(bins)

    def add(self, scores: np.ndarray, mask: np.ndarray) -> None:
        """Take in one image: its anomaly map, float32 ``(H, W)``, and where it is anomalous, bool ``(H, W)``."""
        if scores.shape != mask.shape:
            self.flaw = f"map {scores.shape[0]}x{scores.shape[1]} but mask {mask.shape[0]}x{mask.shape[1]}"
        elif not np.isfinite(scores).all():
            self.flaw = "a map is not finite"
        self.final = None
        if self.flaw:
            return
        self._take(scores[~mask], scores[mask], region_weights(mask))

    def collapse(self, bins: int = FALLBACK_BINS) -> None:
        """Go from scores to a histogram of ``bins`` bins."""
        if self.histogram is None:
            self.histogram = np.zeros((3, bins))
            chunks, self.chunks, self.held = self.chunks, [], 0
            for chunk in chunks:
                self._take(*chunk)

    def finish(self) -> None:
        """Compute and give the memory back; should images follow after all, the histogram goes on."""
        final = self.values()
        self.collapse()
        self.final = final

    def merge(self, other: PixelScores) -> None:
        """Add what another process has counted. Both become histograms."""
        self.collapse()
        other.collapse()
        self.histogram += other.histogram  # type: ignore[operator]
        self.flaw = self.flaw or other.flaw
        self.final = None

    def values(self) -> Values:
        """Compute the pixel metrics, or say in place of each why it is undefined."""
        if self.final is not None:
            return self.final
        if self.histogram is None:
            parts = [np.concatenate(part) for part in zip(*self.chunks, strict=True)] or [np.empty(0)] * 3
            self.chunks = [(parts[0], parts[1], parts[2])]
            normals, anomalies = len(parts[0]), len(parts[1])
        else:
            normals, anomalies = self.histogram[0].sum(), self.histogram[1].sum()
        reason = self.flaw or _one_sided(normals, anomalies, "pixels")
        if reason:
            return dict.fromkeys(PIXEL_METRICS, reason)
        ranking = Ranking.exact(*parts) if self.histogram is None else Ranking.binned(*self.histogram)
        return dict(zip(PIXEL_METRICS, (ranking.auroc(), ranking.average_precision(), ranking.pro()), strict=True))

    def _take(self, normal: np.ndarray, anomalous: np.ndarray, weights: np.ndarray) -> None:
        if self.histogram is None:
            self.chunks.append((normal, anomalous, weights))
            self.held += len(normal) + len(anomalous)
            return
        bins = self.histogram.shape[1]
        slack = 1 / bins  # no more than binning moves a score anyway
        if any(len(part) and (part.min() < -slack or part.max() > 1 + slack) for part in (normal, anomalous)):
            self.flaw = (
                "a map leaves [0, 1], where the bins are; scale it, or keep its scores (thresholds, exact_pixels)"
            )
            return
        for index, scores, amounts in ((0, normal, None), (1, anomalous, None), (2, anomalous, weights)):
            places = np.clip(scores * bins, 0, bins - 1).astype(np.int32)
            self.histogram[index] += np.bincount(places, amounts, minlength=bins)


def region_weights(mask: np.ndarray) -> np.ndarray:
    """One over the size of its region for each anomalous pixel of a boolean mask ``(H, W)``, in reading order.

    Regions are 8-connected, as in the evaluation code of MVTec AD.
    """
    if not mask.any():
        return np.empty(0)
    _, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    own = regions[mask]
    return 1 / np.bincount(own)[own]


class ClassScores:
    """All that is kept of one class."""

    def __init__(self, bins: int | None) -> None:
        self.scores: list[float] = []
        self.labels: list[bool] = []
        self.pixels = PixelScores(bins)
        self.images_with_pixels = 0

    def merge(self, other: ClassScores) -> None:
        """Add what another process has counted."""
        self.scores += other.scores
        self.labels += other.labels
        self.pixels.merge(other.pixels)
        self.images_with_pixels += other.images_with_pixels

    def row(self, name: str) -> Row:
        """Compute this class's line of the table."""
        scores, labels = np.array(self.scores, dtype=np.float64), np.array(self.labels, dtype=bool)
        anomalies = int(labels.sum())
        normals = len(labels) - anomalies
        values: Values = dict.fromkeys(IMAGE_METRICS, _one_sided(normals, anomalies, "images"))
        if not np.isfinite(scores).all():
            values = dict.fromkeys(IMAGE_METRICS, "an image score is not finite")
        elif normals and anomalies:
            ranking = Ranking.exact(scores[~labels], scores[labels])
            computed = (ranking.auroc(), ranking.average_precision(), ranking.f1_max())
            values = dict(zip(IMAGE_METRICS, computed, strict=True))
        notes = []
        if self.images_with_pixels:
            values |= self.pixels.values()
            if self.images_with_pixels < len(labels):
                notes.append("pixel metrics without the images that have no mask")
            if self.pixels.histogram is not None and self.pixels.final is None:
                notes.append(f"pixel metrics from a histogram of {self.pixels.histogram.shape[1]} bins")
        else:
            values |= dict.fromkeys(PIXEL_METRICS, "no masks or no anomaly maps")
        return Row(name, normals, anomalies, values, tuple(notes))


class Scores:
    """Everything the metrics need, class by class, in bounded memory.

    At most ``exact_pixels`` pixel scores are held. Beyond that, classes that are not in the batch at hand are computed
    and freed (a data set that comes class after class stays exact); should that not be enough, or should such a class
    come back, its pixel metrics are computed from a histogram, and the report says so.

    Args:
        thresholds (int | None): Number of equal bins of [0, 1] for the pixel scores; ``None`` keeps them exact as
            long as possible. Image scores are always exact. Defaults to ``None``.
        exact_pixels (int): Pixel scores held at once. Defaults to ``2**27``, about 0.5 GB.
    """

    def __init__(self, thresholds: int | None = None, exact_pixels: int = EXACT_PIXELS) -> None:
        if thresholds is not None and thresholds < 2:
            msg = f"thresholds must be None (exact) or at least 2, got {thresholds}"
            raise ValueError(msg)
        self.thresholds = thresholds
        self.exact_pixels = exact_pixels
        self.classes: dict[str, ClassScores] = {}

    def add(
        self,
        scores: Array,
        labels: Array,
        maps: Array | None = None,
        masks: Array | None = None,
        classes: Sequence[str] | None = None,
        has_mask: Array | None = None,
    ) -> None:
        """Take in ``B`` images.

        Args:
            scores (Array): Image scores, shape ``(B,)`` or ``(B, 1)``.
            labels (Array): True or 1 for anomalous images, shape ``(B,)``.
            maps (Array | None): Anomaly maps, shape ``(B, H, W)`` or ``(B, 1, H, W)``, or a list of ``(H, W)``.
            masks (Array | None): True or 1 where anomalous, shapes as ``maps``.
            classes (Sequence[str] | None): Class of each image. Defaults to ``"all"`` for every image.
            has_mask (Array | None): False for images whose mask is unknown; their pixels are left out.
        """
        image_scores, anomalous = _array(scores).reshape(-1), _array(labels).reshape(-1).astype(bool)
        names = ["all"] * len(image_scores) if classes is None else list(classes)
        for name, score, label in zip(names, image_scores, anomalous, strict=True):
            kept = self.classes.setdefault(name, ClassScores(self.thresholds))
            kept.scores.append(float(score))
            kept.labels.append(bool(label))
        if maps is not None and masks is not None:
            known = [True] * len(names) if has_mask is None else _array(has_mask).astype(bool)
            for name, scored, mask, usable in zip(names, maps, masks, known, strict=True):
                if usable:
                    kept = self.classes[name]
                    kept.images_with_pixels += 1
                    kept.pixels.add(_plane(scored), _plane(mask).astype(bool))
        self._bound_memory(current=set(names))

    def gather(self) -> Scores:
        """Join what all processes have counted. In a run with several, pixel metrics come from histograms."""
        if processes() > 1:
            for kept in self.classes.values():
                kept.pixels.collapse()
        joined, *others = gather(self)
        for other in others:
            for name, kept in other.classes.items():
                if name in joined.classes:
                    joined.classes[name].merge(kept)
                else:
                    joined.classes[name] = kept
        return joined

    def report(self) -> Report:
        """Compute every metric of every class, classes in alphabetical order."""
        return Report(tuple(self.classes[name].row(name) for name in sorted(self.classes)))

    def _bound_memory(self, current: set[str]) -> None:
        def held() -> int:
            return sum(kept.pixels.held for kept in self.classes.values())

        if held() > self.exact_pixels:
            for name, kept in self.classes.items():
                if name not in current and kept.pixels.held:
                    kept.pixels.finish()
        if held() > self.exact_pixels:
            for name in current:
                self.classes[name].pixels.collapse()


def evaluate(
    scores: Array,
    labels: Array,
    maps: Array | None = None,
    masks: Array | None = None,
    classes: Sequence[str] | None = None,
    *,
    thresholds: int | None = None,
) -> Report:
    """Compute the six metrics per class and their mean over classes.

    Args:
        scores (Array): Image scores, shape ``(N,)``; higher is more anomalous.
        labels (Array): True or 1 for anomalous images, shape ``(N,)``.
        maps (Array | None): Anomaly maps, shape ``(N, H, W)`` or ``(N, 1, H, W)``, or a list of ``(H, W)``.
        masks (Array | None): True or 1 where anomalous, shapes as ``maps``.
        classes (Sequence[str] | None): Class of each image. Defaults to one class, ``"all"``.
        thresholds (int | None): Bins of [0, 1] for the pixel scores. Defaults to ``None`` (exact, see :class:`Scores`).

    Example:
        >>> report = evaluate([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        >>> report.mean["image_AUROC"]
        0.75
        >>> print(*report.remarks, sep="; ")
        pixel_AUROC, pixel_AP, pixel_PRO undefined for all: no masks or no anomaly maps
    """
    collected = Scores(thresholds)
    collected.add(scores, labels, maps, masks, classes)
    return collected.report()


def _one_sided(normals: float, anomalies: float, noun: str) -> str:
    if not anomalies:
        return f"no anomalous {noun}"
    return "" if normals else f"no normal {noun}"


def _array(values: Array) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach()
        if values.is_floating_point():  # halves are too coarse for bins, and NumPy has no bfloat16
            values = values.to(torch.promote_types(values.dtype, torch.float32))
        return values.cpu().numpy()
    return np.asarray(values)


def _plane(image: Array) -> np.ndarray:
    array = _array(image)
    return array.reshape(array.shape[-2:])
