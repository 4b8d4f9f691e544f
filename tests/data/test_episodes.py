# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

from collections import Counter
from functools import partial

import pytest
import torch
from anomalib.data import Folder

from anomalib_zsad.data import AuxiliaryBatch, SyntheticSurfaces, ZeroShot
from anomalib_zsad.data.episodes import EpisodeSampler


@pytest.fixture
def datamodule() -> SyntheticSurfaces:
    data = SyntheticSurfaces(
        classes=["wood", "pill", "gear"], image_size=32, train_images=53, anomaly_ratio=0.2, train_batch_size=4,
        num_workers=0,
    )  # fmt: skip
    data.setup()
    return data


@pytest.mark.parametrize(("batch_size", "repeats"), [(4, 10), (5, 1), (64, 3), (1, 2)])
def test_every_episode_has_one_class_and_every_image_its_share(datamodule, batch_size: int, repeats: int) -> None:
    data = datamodule.train_data
    torch.manual_seed(0)
    sampler = EpisodeSampler(data, batch_size, repeats)
    rows = list(sampler)
    assert len(rows) == len(sampler)
    assert len(rows) % batch_size == 0
    for start in range(0, len(rows), batch_size):
        assert data.samples.category[rows[start : start + batch_size]].nunique() == 1
    counts, filled = Counter(rows), 0
    assert set(counts) == set(range(len(data)))
    for row, anomalous in enumerate(data.samples.label_index):
        share = repeats if anomalous else 1
        assert counts[row] >= share
        filled += counts[row] - share
    # Only what fills up the last episode of a class comes on top.
    assert filled < 3 * batch_size
    assert sum(data.samples.label_index * (repeats - 1)) + len(data) + filled == len(rows)


def test_the_order_follows_the_global_seed_and_changes_every_epoch(datamodule) -> None:
    sampler = EpisodeSampler(datamodule.train_data, 4, 2)
    torch.manual_seed(5)
    first, second = list(sampler), list(sampler)
    torch.manual_seed(5)
    assert list(sampler) == first
    assert first != second
    classes = datamodule.train_data.samples.category
    assert len({tuple(classes[rows[::4]]) for rows in (first, second)}) == 2  # the classes take turns anew


def test_a_category_that_two_data_sets_share_makes_two_classes(parts) -> None:
    from copy import deepcopy

    first = Folder(**parts["washer"])
    second = deepcopy(first)
    data = ZeroShot(source=[first, second], num_workers=0)
    data.setup("fit")
    samples = data.train_data.samples
    samples.loc[: len(samples) // 2, "dataset"] = "other"
    samples["category"] = "washer"
    rows = list(EpisodeSampler(data.train_data, 8))
    for start in range(0, len(rows), 8):
        assert samples.dataset[rows[start : start + 8]].nunique() == 1


def test_a_datamodule_trains_in_episodes_while_it_is_asked_to(parts) -> None:
    data = ZeroShot(source=[Folder(**parts["washer"]), Folder(**parts["gasket"])], num_workers=0, train_batch_size=4)
    data.setup("fit")
    data.train_sampler = partial(EpisodeSampler, anomaly_repeats=10)
    loader = data.train_dataloader()
    anomalies = 0
    for batch in loader:
        assert isinstance(batch, AuxiliaryBatch)
        assert len(set(batch.category)) == 1
        assert batch.image.shape == (4, 3, 96, 96)
        anomalies += int(batch.gt_label.sum())
    assert len(loader) == len(loader.sampler) // 4
    wanted = 10 * (data.train_data.samples.label_index == 1).sum()
    assert wanted <= anomalies < wanted + 8
    data.train_sampler = None
    assert not isinstance(data.train_dataloader().sampler, EpisodeSampler)


def test_one_class_without_anomalies(datamodule) -> None:
    data = datamodule.train_data
    normal = data.subsample(
        list(data.samples.index[(data.samples.category == "wood") & (data.samples.label_index == 0)])
    )
    rows = list(EpisodeSampler(normal, 4, 10))
    assert set(rows) == set(range(len(normal)))
    assert len(rows) < len(normal) + 4
