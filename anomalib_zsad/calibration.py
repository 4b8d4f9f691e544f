# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Scores that mean something: 0.5 is the verdict, learned on auxiliary images and never on the target's.

A raw score is mapped through three *knots*: a typical normal score, the best threshold and a typical anomalous score,
which become 0.25, 0.5 and 0.75. The map is piecewise linear and strictly increasing from (0, 0) to (1, 1). Nothing is
clamped, so whatever depends on the order of scores alone (AUROC, AP, PRO) is the same before and after.
"""

import logging
from itertools import pairwise

import numpy as np
import torch
from anomalib.data import Batch, InferenceBatch
from anomalib.post_processing import PostProcessor
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from anomalib_zsad.metrics.gather import gather

logger = logging.getLogger(__name__)

PIXEL_BINS = 2**18
NORMAL_QUANTILE = 0.999
MARGIN = 1 / 64
KNOTS = ("image_knots", "pixel_knots")


class CalibratedPostProcessor(PostProcessor):
    """Post-processor whose thresholds and score ranges come from held-out auxiliary images.

    It collects scores from validation batches of type :class:`anomalib_zsad.data.batches.AuxiliaryBatch` and from no
    others: labels and masks of target images cannot reach it, whatever loop runs. The knots are written at the end of
    each validation epoch that had auxiliary batches (anew each time), are saved with checkpoints and adapters, and stay
    as they are otherwise. Until there are any, scores pass unchanged and 0.5 is the threshold.

    With several devices, every process receives the image scores and pixel histograms of all, and all write the same
    knots.

    Args:
        enable_normalization (bool): Return rescaled scores; if off, raw ones, with the same verdicts.
            Defaults to ``True``.
        enable_thresholding (bool): Return ``pred_label`` and ``pred_mask``. Defaults to ``True``.
        enable_threshold_matching (bool): Where only image or only pixel scores could be calibrated (no masks, no maps),
            use the one calibration for both. Defaults to ``True``.
        image_sensitivity (float): In [0, 1]; an image is anomalous if its rescaled score exceeds one minus this.
            Defaults to ``0.5``.
        pixel_sensitivity (float): The same for pixels. Defaults to ``0.5``.

    Attributes:
        image_knots (Tensor): Raw image scores that become 0.25, 0.5 and 0.75, shape ``(3,)``, NaN while uncalibrated.
        pixel_knots (Tensor): The same for anomaly maps.
    """

    image_knots: Tensor
    pixel_knots: Tensor
    _scores: list[float]
    _labels: list[bool]
    _pixels: np.ndarray  # normal and anomalous pixels per bin

    def __init__(
        self,
        enable_normalization: bool = True,
        enable_thresholding: bool = True,
        enable_threshold_matching: bool = True,
        image_sensitivity: float = 0.5,
        pixel_sensitivity: float = 0.5,
    ) -> None:
        super().__init__(
            enable_normalization,
            enable_thresholding,
            enable_threshold_matching,
            image_sensitivity,
            pixel_sensitivity,
        )
        # the parent's min-max statistics, which would be filled from any data
        for name in ("_image_threshold", "_pixel_threshold", "image_min", "image_max", "pixel_min", "pixel_max"):
            delattr(self, name)
        for name in ("_image_threshold", "_pixel_threshold", "_image_min_max", "_pixel_min_max"):
            delattr(self, f"{name}_metric")
        self.register_buffer("image_knots", torch.full((3,), torch.nan))
        self.register_buffer("pixel_knots", torch.full((3,), torch.nan))
        self._told_why = False
        self._forget()

    @property
    def image_threshold(self) -> Tensor:
        """Raw image score above which an image is anomalous at sensitivity 0.5; NaN while uncalibrated."""
        return self._matched(self.image_knots, self.pixel_knots)[1]

    @property
    def pixel_threshold(self) -> Tensor:
        """Raw pixel score above which a pixel is anomalous at sensitivity 0.5; NaN while uncalibrated."""
        return self._matched(self.pixel_knots, self.image_knots)[1]

    def forward(self, predictions: InferenceBatch) -> InferenceBatch:
        """Rescale and threshold predictions; also the last step of the exported graph.

        Args:
            predictions (InferenceBatch): Raw ``pred_score`` ``(B,)`` and/or ``anomaly_map`` ``(B, 1, H, W)`` in [0, 1].
                A missing score is the highest of its map.

        Raises:
            ValueError: If there is neither a score nor a map.
        """
        scores, maps = _image_scores(predictions), predictions.anomaly_map
        if scores is None:
            msg = "Predictions have neither pred_score nor anomaly_map: there is nothing to post-process."
            raise ValueError(msg)
        image_level = rescale(scores, self._matched(self.image_knots, self.pixel_knots))
        pixel_level = None if maps is None else rescale(maps, self._matched(self.pixel_knots, self.image_knots))
        label = mask = None
        if self.enable_thresholding:
            label = image_level > 1 - self.image_sensitivity
            mask = None if pixel_level is None else pixel_level > 1 - self.pixel_sensitivity
        if self.enable_normalization:
            scores, maps = image_level, pixel_level
        return InferenceBatch(pred_score=scores, pred_label=label, anomaly_map=maps, pred_mask=mask)

    def post_process_batch(self, batch: Batch) -> None:
        """Do to a Lightning batch what :meth:`forward` does; labels and masks that the model set itself are kept."""
        result = self(InferenceBatch(pred_score=batch.pred_score, anomaly_map=batch.anomaly_map))
        batch.pred_score, batch.anomaly_map = result.pred_score, result.anomaly_map
        if batch.pred_label is None:
            batch.pred_label = result.pred_label
        if batch.pred_mask is None:
            batch.pred_mask = result.pred_mask

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from nothing: knots never mix two epochs."""
        del trainer, pl_module
        self._forget()

    def on_validation_batch_end(  # type: ignore[override]
        self, trainer: Trainer, pl_module: LightningModule, outputs: Batch, *args, **kwargs
    ) -> None:
        """Collect the scores of an auxiliary batch; ignore any other."""
        from anomalib_zsad.data.batches import AuxiliaryBatch

        del trainer, pl_module, args, kwargs
        if isinstance(outputs, AuxiliaryBatch):
            self.collect(outputs)
        elif not self._told_why:
            self._told_why = True
            state = (
                f"calibrated before: {self.statistics()}"
                if self.statistics()
                else "uncalibrated: raw scores against 0.5"
            )
            logger.log(
                logging.INFO if self.statistics() else logging.WARNING,
                "Validation images that are not auxiliary images never calibrate a zero-shot model; "
                "thresholds and score ranges stay as they are (%s).",
                state,
            )

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the knots, if the epoch had auxiliary batches."""
        del pl_module
        if not getattr(trainer, "sanity_checking", False):
            self.calibrate()
        self._forget()

    def collect(self, batch: Batch) -> None:
        """Count a batch of calibration images, whoever vouches for them.

        Args:
            batch (Batch): Raw ``pred_score`` and ``anomaly_map`` in [0, 1] with ``gt_label`` and ``gt_mask``. Images
                without a mask (``has_mask`` False) count for the image knots only; scores that are not finite do not
                count.
        """
        scores = _image_scores(batch)
        if scores is not None and batch.gt_label is not None:
            scores, finite = scores.detach().flatten(), scores.isfinite().flatten()
            self._scores += scores[finite].tolist()
            self._labels += batch.gt_label.flatten()[finite].tolist()
        if batch.anomaly_map is not None and batch.gt_mask is not None:
            maps = batch.anomaly_map.detach().flatten(1)
            usable = maps.isfinite().all(dim=1)
            if (has_mask := getattr(batch, "has_mask", None)) is not None:
                usable &= has_mask.to(maps.device)
            masks = batch.gt_mask.flatten(1)[usable].bool()
            bins = (maps[usable].float() * PIXEL_BINS).long().clamp(0, PIXEL_BINS - 1) + PIXEL_BINS * masks
            counts = torch.bincount(bins.flatten(), minlength=2 * PIXEL_BINS).view(2, PIXEL_BINS)
            self._pixels = counts.cpu().numpy() + self._pixels

    def calibrate(self) -> None:
        """Write the knots from what was collected; leave alone those for which there is nothing."""
        parts = gather((self._scores, self._labels, self._pixels))
        scores = np.array([score for part in parts for score in part[0]])
        labels = np.array([label for part in parts for label in part[1]], dtype=bool)
        if scores.size:
            values, which = np.unique(scores, return_inverse=True)
            counts = (np.bincount(which, kind, minlength=len(values)) for kind in (~labels, labels))
            self.image_knots.copy_(torch.tensor(find_knots(values, *counts)))
        pixels = np.sum(np.broadcast_arrays(*(part[2] for part in parts)), axis=0)
        if (used := pixels.any(axis=0)).any():
            centres = (np.flatnonzero(used) + 0.5) / PIXEL_BINS
            self.pixel_knots.copy_(torch.tensor(find_knots(centres, *pixels[:, used])))

    def thresholds(self) -> dict[str, float]:
        """Above which an image (``image``) or a pixel (``pixel``) is anomalous, on the scale of :meth:`forward`.

        With normalisation that is one minus the sensitivity, without it the raw score that would be rescaled to this.
        """
        found = {"image": 1 - self.image_sensitivity, "pixel": 1 - self.pixel_sensitivity}
        if self.enable_normalization:
            return found
        knots = {
            "image": self._matched(self.image_knots, self.pixel_knots),
            "pixel": self._matched(self.pixel_knots, self.image_knots),
        }
        return {
            level: value
            if knots[level].isnan().any()
            else float(np.interp(value, [0, 0.25, 0.5, 0.75, 1], [0, *knots[level].tolist(), 1]))
            for level, value in found.items()
        }

    def statistics(self) -> dict[str, list[float]]:
        """Return the knots that are calibrated, as plain numbers for a file's metadata."""
        return {name: knots.tolist() for name in KNOTS if not (knots := getattr(self, name)).isnan().any()}

    def load_statistics(self, statistics: dict[str, list[float]]) -> None:
        """Set the knots; those not named become uncalibrated.

        Args:
            statistics (dict[str, list[float]]): What :meth:`statistics` returned.

        Raises:
            ValueError: For another name, or knots that are not three rising numbers between 0 and 1.
        """
        for name, knots in statistics.items():
            if name not in KNOTS:
                msg = f"Calibration has {name!r}, allowed are {', '.join(KNOTS)}."
                raise ValueError(msg)
            if len(knots) != 3 or not all(low < high for low, high in pairwise([0, *knots, 1])):
                msg = f"Calibration {name} must be [low, threshold, high], rising between 0 and 1, got {knots}."
                raise ValueError(msg)
        for name in KNOTS:
            getattr(self, name).copy_(torch.tensor(statistics.get(name, [torch.nan] * 3)))

    def _matched(self, knots: Tensor, other: Tensor) -> Tensor:
        return torch.where(knots.isnan(), other, knots) if self.enable_threshold_matching else knots

    def _forget(self) -> None:
        self._scores = []
        self._labels = []
        self._pixels = np.zeros((2, 1), dtype=np.int64)  # one empty bin until the first map comes


def rescale(scores: Tensor, knots: Tensor) -> Tensor:
    """Map scores linearly between (0, 0), (low, 0.25), (threshold, 0.5), (high, 0.75) and (1, 1).

    Args:
        scores (Tensor): Raw scores in [0, 1], any shape.
        knots (Tensor): Low, threshold and high, shape ``(3,)``; with a NaN among them scores pass unchanged, as
            NaN always does.

    Example:
        >>> rescale(torch.tensor([0.0, 0.1, 0.2, 0.6, 1.0]), torch.tensor([0.1, 0.2, 0.6]))
        tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000])
    """
    edges = torch.cat([knots.new_zeros(1), knots, knots.new_ones(1)]).unbind()
    # a piece is never empty, but a knot stored in half precision may fall on its neighbour
    pieces = [((scores - start) / (end - start).clamp(min=1e-7)).clamp(0, 1) for start, end in pairwise(edges)]
    # a score that is no number stays none: some runtimes clamp it to 0
    return torch.where(knots.isnan().any() | scores.isnan(), scores, sum(pieces) / 4)


def find_knots(values: np.ndarray, normal: np.ndarray, anomalous: np.ndarray) -> tuple[float, float, float]:
    """Find the low, threshold and high knot of a calibration set.

    * *threshold*: the highest of those with the best F1 score; half-way between the lowest score that should be called
      anomalous and the next lower one, so that scores above the threshold are exactly the ones that F1-max counts.
      Without anomalous samples, the score that 0.999 of the normal samples do not exceed.
    * *low*: median of the normal scores below the threshold; half the threshold if there are none.
    * *high*: median of the anomalous scores above the threshold; half-way to 1 if there are none.

    The threshold is kept 1e-5 away from 0 and 1, and the two medians by 1/64 of their range from its ends.

    Args:
        values (np.ndarray): Distinct scores in [0, 1], rising, shape ``(V,)``.
        normal (np.ndarray): Number of normal samples at each score, shape ``(V,)``.
        anomalous (np.ndarray): Number of anomalous samples at each score, shape ``(V,)``.

    Example:
        >>> find_knots(np.array([0.1, 0.2, 0.4, 0.7]), np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1]))
        (0.1, 0.30000000000000004, 0.4)
    """
    hits, alarms = (np.cumsum(counts[::-1])[::-1] for counts in (anomalous, normal))
    if hits[0]:
        f1 = 2 * hits / (hits + alarms + hits[0])
        best = len(f1) - 1 - int(np.argmax(f1[::-1]))
        threshold = (values[best] + (values[best - 1] if best else 0)) / 2
    else:
        threshold = _quantile(values, normal, NORMAL_QUANTILE)
    threshold = float(np.clip(threshold, 1e-5, 1 - 1e-5))
    below, above = values < threshold, values > threshold
    low = _quantile(values[below], normal[below], 0.5) if normal[below].any() else threshold / 2
    high = _quantile(values[above], anomalous[above], 0.5) if anomalous[above].any() else (1 + threshold) / 2
    low = np.clip(low, MARGIN * threshold, (1 - MARGIN) * threshold)
    high = np.clip(high, threshold + MARGIN * (1 - threshold), 1 - MARGIN * (1 - threshold))
    return float(low), threshold, float(high)


def _quantile(values: np.ndarray, counts: np.ndarray, share: float) -> float:
    total = np.cumsum(counts)
    return float(values[np.searchsorted(total, share * total[-1])])


def _image_scores(predictions: InferenceBatch | Batch) -> Tensor | None:
    if predictions.pred_score is not None or predictions.anomaly_map is None:
        return predictions.pred_score
    return predictions.anomaly_map.flatten(1).amax(dim=1)
