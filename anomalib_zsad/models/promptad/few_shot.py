# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Finds the few normal images of the target for few-shot use."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from anomalib.data import AnomalibDataModule, AnomalibDataset
from anomalib.data.utils import LabelName, get_image_filenames, read_image
from torch import Tensor

from anomalib_zsad.data.reading import read_item
from anomalib_zsad.data.sources import word_of
from anomalib_zsad.data.zero_shot import ZeroShot


def images_in_folder(folder: str | Path, count: int) -> list[Tensor]:
    """The first ``count`` images of a folder, each ``(3, H, W)`` in [0, 1].

    Raises:
        ValueError: If there are fewer.
    """
    files = sorted(get_image_filenames(folder))
    if len(files) < count:
        msg = f"few_shot_source {folder} has {len(files)} images, k_shot asks for {count}."
        raise ValueError(msg)
    return [cast("Tensor", read_image(file, as_tensor=True)) for file in files[:count]]


def normal_images(datamodule: AnomalibDataModule, count: int) -> Mapping[str, list[Tensor]]:
    """Normal training images of every class that a datamodule tests, by class word.

    The choice is random but depends on the datamodule's seed alone. No image is chosen that is tested as well.

    Args:
        datamodule (AnomalibDataModule): Set up for testing.
        count (int): Images of each class.

    Returns:
        Mapping[str, list[Tensor]]: For each class word ``count`` images ``(3, H, W)`` in [0, 1].

    Raises:
        ValueError: If a class has too few of them; the message says how to give some.
    """
    tested = set(datamodule.test_data.samples.image_path)
    found: dict[str, list[Tensor]] = {}
    for word, dataset in _training_data(datamodule):
        samples = dataset.samples
        usable = (samples.label_index == LabelName.NORMAL) & ~samples.image_path.isin(tested)
        words = samples.class_name if "class_name" in samples else np.full(len(samples), word)
        for one in dict.fromkeys(words):
            rows = np.flatnonzero(usable & (words == one))
            chosen = np.random.default_rng(datamodule.seed or 0).permutation(rows)[:count]
            found.setdefault(one, []).extend(_read(dataset, row) for row in chosen)
    for word in tested_words(datamodule):
        if len(found.get(word, [])) < count:
            msg = (
                f"k_shot={count}, but the training split of {datamodule.name} has {len(found.get(word, []))} normal "
                f"images of {word!r} that are not tested as well. Give a folder of normal images: few_shot_source."
            )
            raise ValueError(msg)
    return {word: images[:count] for word, images in found.items()}


def tested_words(datamodule: AnomalibDataModule) -> list[str]:
    """Class words of the test images."""
    samples = datamodule.test_data.samples
    return list(dict.fromkeys(samples.class_name)) if "class_name" in samples else [word_of(datamodule)]


def _training_data(datamodule: AnomalibDataModule) -> Sequence[tuple[str, AnomalibDataset]]:
    if not isinstance(datamodule, ZeroShot):
        return [(word_of(datamodule), datamodule.train_data)]
    words = datamodule._class_words  # noqa: SLF001
    return [
        (words.get(one.category, one.class_name), one.datasets("train")[0])
        for one in datamodule._target_classes  # noqa: SLF001
    ]


def _read(dataset: AnomalibDataset, row: int) -> Tensor:
    plain = copy.copy(dataset)
    plain.augmentations = None
    return cast("Tensor", read_item(plain, int(row)).image)
