# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Training in episodes: batches of one class, in which anomalous images are frequent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from anomalib.data.utils import LabelName
from torch.utils.data import DataLoader, Sampler

from anomalib_zsad.data.datasets import ZeroShotDataset

if TYPE_CHECKING:
    from anomalib.data import AnomalibDataModule

    Base = AnomalibDataModule
else:
    Base = object


class EpisodeSampler(Sampler[int]):
    """Row numbers in an order whose every ``batch_size`` consecutive ones are images of one class.

    An epoch shows every normal image once and every anomalous image ``anomaly_repeats`` times. Within a class the order
    is random, and so is the order of the episodes. The last episode of a class is filled up with images it has had.

    Each epoch draws its order from torch's global generator, as a shuffling ``DataLoader`` does.

    Args:
        dataset (ZeroShotDataset): What to draw from; a class is a ``category`` of a ``dataset`` in its samples.
        batch_size (int): Images in an episode.
        anomaly_repeats (int): Defaults to ``1``.
    """

    def __init__(self, dataset: ZeroShotDataset, batch_size: int, anomaly_repeats: int = 1) -> None:
        self.batch_size = batch_size
        samples = dataset.samples
        repeats = np.where(samples.label_index == LabelName.ABNORMAL, anomaly_repeats, 1)
        groups = samples.groupby(["dataset", "category"], sort=True).indices.values()
        self._classes = [np.repeat(rows, repeats[rows]) for rows in groups]

    def __len__(self) -> int:
        """Images in an epoch, repeats included."""
        return sum(-(-len(rows) // self.batch_size) for rows in self._classes) * self.batch_size

    def __iter__(self) -> Iterator[int]:
        """Draw an epoch."""
        draw = np.random.default_rng(int(torch.empty((), dtype=torch.int64).random_()))
        episodes = []
        for rows in self._classes:
            count = -(-len(rows) // self.batch_size)
            episodes.append(np.resize(draw.permutation(rows), (count, self.batch_size)))
        yield from draw.permutation(np.concatenate(episodes)).flatten().tolist()


class SampledTraining(Base):
    """Mixin of datamodules whose training images a model may bring into an order of its own.

    Attributes:
        train_sampler (Callable[[ZeroShotDataset, int], Sampler[int]] | None): Makes the sampler of row numbers from the
            training data and the batch size. ``None``: random order.
    """

    train_sampler: Callable[[ZeroShotDataset, int], Sampler[int]] | None = None

    def train_dataloader(self) -> DataLoader:
        """Training images."""
        if self.train_sampler is None:
            return super().train_dataloader()
        return DataLoader(
            self.train_data,
            batch_size=self.train_batch_size,
            sampler=self.train_sampler(cast(ZeroShotDataset, self.train_data), self.train_batch_size),
            num_workers=self.num_workers,
            collate_fn=self.external_collate_fn or self.train_data.collate_fn,
        )
