# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Training with a plain anomalib datamodule, and the class words of its batches."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anomalib.data import AnomalibDataModule, ImageBatch
from lightning import LightningDataModule

from anomalib_zsad.data.batches import collate
from anomalib_zsad.data.datasets import AuxiliaryDataset, parts_by_class
from anomalib_zsad.data.sources import word_of
from anomalib_zsad.data.splits import hold_out
from anomalib_zsad.data.words import OBJECT

if TYPE_CHECKING:
    Base = AnomalibDataModule
else:
    Base = object

logger = logging.getLogger(__name__)


def use_auxiliary_data(datamodule: LightningDataModule, *, seed: int = 0, calibration_ratio: float = 0.1) -> None:
    """Let a plain anomalib datamodule supply auxiliary data: from its training split, and from nothing else.

    If the training split has anomalies, its labels and masks are used. If not, as with nearly all of anomalib's
    datamodules, every second image gets a synthetic anomaly (:class:`~anomalib_zsad.data.AuxiliaryDataset`); the log
    says so. A seeded share becomes the validation data, for calibration. The datamodule's own validation data is put
    aside, because it comes from its test split, and that is the target. The test data stays as it is.

    Call it once the datamodule is set up. It changes ``train_data`` and ``val_data``, and does nothing if they are
    auxiliary data already.

    Args:
        datamodule (LightningDataModule): The datamodule.
        seed (int): Seed of the calibration share and the synthetic anomalies. Defaults to ``0``.
        calibration_ratio (float): Share held out for calibration, in (0, 1). Defaults to ``0.1``.

    Raises:
        TypeError: If it is not an anomalib datamodule of images.
        ValueError: If the training split is empty.
    """
    if not isinstance(datamodule, AnomalibDataModule):
        msg = f"Auxiliary data needs an anomalib datamodule, got {type(datamodule).__name__}."
        raise TypeError(msg)
    use_own_collate(datamodule)
    if isinstance(datamodule.train_data, AuxiliaryDataset):
        return

    name = datamodule.name
    category = datamodule.category or name
    parts = parts_by_class(datamodule.train_data, name, category, word_of(datamodule))
    data = AuxiliaryDataset(parts)
    if not len(data):
        msg = f"The training split of {name} has no images."
        raise ValueError(msg)
    if not data.has_anomalous:
        logger.warning(
            "The training split of %s has no anomalies: training on anomalies synthesised on its %d normal images. "
            "Real defects of other objects teach more: --data ZeroShot trains on them.",
            name,
            len(data),
        )
        data = AuxiliaryDataset(parts, synthetic_seed=seed)
    elif not data.samples.has_mask.any():
        logger.warning("The training split of %s has no masks: only the losses on images train.", name)
    kept, held = hold_out(data.samples, calibration_ratio, seed)
    datamodule.train_data, datamodule.val_data = data.subsample(kept), data.subsample(held)
    datamodule._update_augmentations()  # noqa: SLF001 - setup() did this for the data sets replaced


def use_own_collate(datamodule: AnomalibDataModule) -> None:
    """Make the tiled-ensemble pipeline keep our batch types.

    It wraps ``ImageBatch.collate``, which knows nothing of class words, in a collate function of its own.
    """
    function: Any = datamodule.external_collate_fn
    if hasattr(function, "default_collate_fn"):
        function.default_collate_fn = collate


class KeepsBatchTypes(Base):
    """Mixin of datamodules whose batches carry class words, in the tiled-ensemble pipeline too."""

    @property
    def external_collate_fn(self) -> Callable | None:
        """Collate function that the tiled-ensemble pipeline sets."""
        return self._external_collate_fn

    @external_collate_fn.setter
    def external_collate_fn(self, function: Callable | None) -> None:
        self._external_collate_fn = function
        use_own_collate(self)


def class_names_of(batch: ImageBatch, datamodule: LightningDataModule | None = None) -> list[str]:
    """Return the class word of every image of a batch.

    Args:
        batch (ImageBatch): ``B`` images.
        datamodule (LightningDataModule | None): Where they come from, if known.

    Returns:
        list[str]: ``B`` words: the batch's own, else one word for the datamodule's category or name, else ``"object"``.
    """
    if words := getattr(batch, "class_name", None):
        return list(words)
    word = word_of(datamodule) if isinstance(datamodule, AnomalibDataModule) else OBJECT
    return [word] * batch.batch_size
