# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Finds the few normal images of the target for few-shot use."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
from anomalib.data import AnomalibDataModule
from anomalib.data.utils import LabelName, get_image_filenames
from torch import Tensor

from anomalib_zsad.data.datasets import ZeroShotDataset, parts_by_class
from anomalib_zsad.data.reading import read_image
from anomalib_zsad.data.sources import word_of
from anomalib_zsad.data.zero_shot import ZeroShot


def images_in_folder(folder: str | Path, count: int) -> list[Tensor]:
    """The first ``count`` images of a folder, each ``(3, H, W)`` in [0, 1].

    Raises:
        ValueError: If there are fewer.
        OSError: If one cannot be read; the message names the file.
    """
    files = sorted(get_image_filenames(folder))
    if len(files) < count:
        msg = f"few_shot_source {folder} has {len(files)} images, k_shot asks for {count}."
        raise ValueError(msg)
    return [read_image(str(file)) for file in files[:count]]


def normal_images(datamodule: AnomalibDataModule, count: int) -> Mapping[str, list[Tensor]]:
    """Normal training images of every category that a datamodule tests; several may share a class word.

    The choice is random but depends on the datamodule's seed alone. No image is chosen that is tested as well.

    Args:
        datamodule (AnomalibDataModule): Set up for testing.
        count (int): Images of each category.

    Returns:
        Mapping[str, list[Tensor]]: For each category ``count`` images ``(3, H, W)`` in [0, 1].

    Raises:
        ValueError: If a category has too few of them; the message says how to give some.
    """
    tested = set(datamodule.test_data.samples.image_path)
    data = _training_data(datamodule)
    samples = data.samples
    usable = (samples.label_index == LabelName.NORMAL) & ~samples.image_path.isin(tested)
    found: dict[str, list[Tensor]] = {}
    for name in samples.category.unique():
        rows = np.flatnonzero(usable & (samples.category == name))
        chosen = np.random.default_rng(datamodule.seed or 0).permutation(rows)[:count]
        found[name] = [cast("Tensor", data[int(row)].image) for row in chosen]
    for name in tested_categories(datamodule):
        if len(found.get(name, [])) < count:
            msg = (
                f"k_shot={count}, but the training split of {datamodule.name} has {len(found.get(name, []))} normal "
                f"images of {name!r} that are not tested as well. Give a folder of normal images: few_shot_source."
            )
            raise ValueError(msg)
    return found


def tested_categories(datamodule: AnomalibDataModule) -> list[str]:
    """Categories of the test images."""
    samples = datamodule.test_data.samples
    return list(dict.fromkeys(samples.category)) if {"category", "class_name"} <= set(samples) else [_name(datamodule)]


def _training_data(datamodule: AnomalibDataModule) -> ZeroShotDataset:
    if isinstance(datamodule, ZeroShot):
        return datamodule.target_training_data()
    data = datamodule.train_data
    if not isinstance(data, ZeroShotDataset):
        return ZeroShotDataset(parts_by_class(data, datamodule.name, _name(datamodule), word_of(datamodule)))
    plain = copy.copy(data)
    plain.augmentations = None
    return plain


def _name(datamodule: AnomalibDataModule) -> str:
    """Category of images that know none of their own."""
    return datamodule.category or datamodule.name
