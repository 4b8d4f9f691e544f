# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The released evaluation, whose image scores depend on the whole test set."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from anomalib_zsad.metrics import PerClassEvaluator
from anomalib_zsad.metrics.gather import processes
from anomalib_zsad.metrics.report import Report
from anomalib_zsad.metrics.scores import Array, Scores
from anomalib_zsad.models.bayes_pfl.words import official_scores


class TransductiveScores(Scores):
    """Scores whose image level is computed when all images of a class are known.

    Attributes:
        batch_parts (Tensor): ``(B, 2)`` text and map scores of the images that are added next.
        parts (dict[str, list[list[float]]]): Text and map scores of all images so far, class by class.
    """

    batch_parts: Tensor

    def __init__(self, thresholds: int | None, exact_pixels: int) -> None:
        super().__init__(thresholds, exact_pixels)
        self.parts: dict[str, list[list[float]]] = defaultdict(list)

    def add(
        self,
        scores: Array,
        labels: Array,
        maps: Array | None = None,
        masks: Array | None = None,
        classes: Sequence[str] | None = None,
        has_mask: Array | None = None,
    ) -> None:
        """Take in ``B`` images and the parts of their scores."""
        super().add(scores, labels, maps, masks, classes, has_mask)
        for name, pair in zip(classes or [], self.batch_parts.tolist(), strict=True):
            self.parts[name].append(pair)

    def report(self) -> Report:
        """Scale both parts over each class, add them, and compute every metric."""
        for name, pairs in self.parts.items():
            text, maps = torch.tensor(pairs, dtype=torch.float64).unbind(dim=1)
            self.classes[name].scores = official_scores(text, maps).tolist()
        return super().report()


class OfficialEvaluator(PerClassEvaluator):
    """Per-class metrics of the released code's image score.

    That score is half the text score plus half the map score, each scaled to [0, 1] over all test images of the class.
    It is transductive: no single image has it. Maps, and so the pixel metrics, are as under the other rules. A model
    tells the parts by its attribute ``score_parts`` ``(B, 2)``; an image without a map part has its text score twice.
    """

    scores: TransductiveScores

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier run.

        Raises:
            ValueError: If there are several processes.
        """
        if processes() > 1:
            msg = "rules='official' scales scores over the whole test set, which needs one process; use devices=1."
            raise ValueError(msg)
        super().on_test_epoch_start(trainer, pl_module)
        self.scores = TransductiveScores(self.thresholds, self.exact_pixels)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect what any evaluator does, and the parts of the scores."""
        self.scores.batch_parts = pl_module.score_parts  # type: ignore[assignment]
        super().on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
