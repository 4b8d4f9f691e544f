# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""The evaluator of a test run: six metrics per class, printed, written to a CSV file and logged."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from rich.console import Console

from anomalib_zsad.metrics.report import Report
from anomalib_zsad.metrics.scores import EXACT_PIXELS, Scores

logger = logging.getLogger(__name__)


class PerClassEvaluator(Evaluator):
    """Evaluate each class on its own, then average over classes, as the zero-shot literature reports.

    Image level: AUROC, AP, F1-max. Pixel level: AUROC, AP, PRO up to a false positive rate of 0.3. AP is the step-wise
    average precision of scikit-learn and torchmetrics, not the trapezoid area of anomalib's ``AUPR``. At the end of a
    test run a table in percent is printed, ``metrics.csv`` is written to the trainer's ``default_root_dir`` with full
    precision and the run's constants (``pl_module.describe() -> dict[str, str]``, if the model has it), and the six
    means are logged as ``image_AUROC, image_AP, image_F1Max, pixel_AUROC, pixel_AP, pixel_PRO``.

    A metric that is undefined for a class (one kind of images only, no masks, empty masks) shows as ``-``, is named
    with its reason under the table, and does not enter the mean. It never fails the run.

    The class of an image is the batch's ``category`` where it has one
    (:class:`anomalib_zsad.data.batches.ZeroShotBatch`), else its ``class_name``, else the datamodule's category, else
    its name. Images whose ``has_mask`` is False count for image metrics only.

    Scores are taken after post-processing. :class:`anomalib_zsad.calibration.CalibratedPostProcessor` keeps their
    order, so the numbers are those of the raw scores; anomalib's own ``PostProcessor`` clamps and may change them.

    With several devices every process receives all image scores and pixel histograms: image metrics stay exact, pixel
    metrics are those of the histogram. Images that the distributed sampler repeats to fill the last batch count twice,
    as everywhere in Lightning; use one device for published numbers.

    Args:
        thresholds (int | None): Number of equal bins of [0, 1] for the pixel scores, for memory that does not grow with
            the data set. Defaults to ``None``: exact as long as ``exact_pixels`` allows, then a histogram; the table
            says so.
        exact_pixels (int): Pixel scores held at once, 4 bytes each. A class that has been left behind is computed and
            freed when more are needed. Defaults to ``2**27`` (0.5 GB, about 500 maps of 518 x 518).
    """

    def __init__(self, thresholds: int | None = None, exact_pixels: int = EXACT_PIXELS) -> None:
        super().__init__()
        self.thresholds = thresholds
        self.exact_pixels = exact_pixels
        self.scores = Scores(thresholds, exact_pixels)
        self.report: Report | None = None

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier run."""
        del trainer, pl_module
        self.scores = Scores(self.thresholds, self.exact_pixels)
        self.report = None

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect the scores, maps, labels and masks of a batch."""
        del pl_module, outputs, batch_idx, dataloader_idx
        if batch.gt_label is None or batch.pred_score is None:
            return
        self.scores.add(
            batch.pred_score,
            batch.gt_label,
            batch.anomaly_map,
            batch.gt_mask,
            classes=class_names(batch, trainer),
            has_mask=getattr(batch, "has_mask", None),
        )

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute, print, write and log."""
        self.report = self.scores.gather().report()
        self.scores = Scores(self.thresholds, self.exact_pixels)
        if not self.report.rows:
            logger.warning("No test image has both a label and a score: there is nothing to evaluate.")
            return
        if trainer.is_global_zero:
            describe: Callable[[], dict[str, str]] = getattr(pl_module, "describe", dict)
            constants = describe()
            path = Path(trainer.default_root_dir) / "metrics.csv"
            self.report.write_csv(path, constants)
            console = Console()
            console.print(self.report.table(title=" | ".join(filter(None, constants.values()))))
            for line in (*self.report.remarks, f"full precision: {path}"):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
        for name, value in self.report.mean.items():
            if trainer.barebones:  # logging is off, yet the run should return its metrics
                trainer.callback_metrics[name] = trainer.logged_metrics[name] = torch.tensor(value)
            else:
                pl_module.log(name, value)


def class_names(batch: ImageBatch, trainer: Trainer) -> list[str]:
    """Name of the class that each image of a batch is counted under."""
    datamodule = getattr(trainer, "datamodule", None)
    common = getattr(datamodule, "category", "") or getattr(datamodule, "name", "") or "all"
    unnamed = [""] * batch.batch_size
    names: Sequence[str] = getattr(batch, "category", None) or getattr(batch, "class_name", None) or unnamed
    return [name or common for name in names]
