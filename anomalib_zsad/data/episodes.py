# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Training in episodes: batches of one class, in which anomalous images are frequent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from anomalib.data import AnomalibDataModule
from anomalib.data.utils import LabelName
from torch.utils.data import DataLoader, Sampler

from anomalib_zsad.data.datasets import ZeroShotDataset


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


def use_episodes(datamodule: AnomalibDataModule, anomaly_repeats: int = 1) -> None:
    """Let a datamodule train in episodes, until :func:`drop_episodes`.

    Args:
        datamodule (AnomalibDataModule): Its training data must be a :class:`ZeroShotDataset`.
        anomaly_repeats (int): How often an epoch shows each anomalous image. Defaults to ``1``.
    """
    drop_episodes(datamodule)
    original = datamodule.train_dataloader

    def train_dataloader() -> DataLoader:
        loader: Any = original()
        return DataLoader(
            loader.dataset,
            batch_size=loader.batch_size,
            sampler=EpisodeSampler(loader.dataset, loader.batch_size, anomaly_repeats),
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
        )

    datamodule.train_dataloader = train_dataloader  # type: ignore[method-assign]


def drop_episodes(datamodule: AnomalibDataModule) -> None:
    """Undo :func:`use_episodes`; does nothing where there is nothing to undo."""
    vars(datamodule).pop("train_dataloader", None)
