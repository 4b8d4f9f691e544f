# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Several one-class data sets as one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from anomalib import TaskType
from anomalib.data import AnomalibDataset
from anomalib.data.datasets.base.depth import AnomalibDepthDataset
from anomalib.data.datasets.base.video import AnomalibVideoDataset
from anomalib.data.datasets.image.folder import FolderDataset
from anomalib.data.utils import LabelName
from anomalib.data.utils.generators import PerlinAnomalyGenerator
from pandas import DataFrame
from torchvision.transforms.v2 import Transform
from torchvision.tv_tensors import Image, Mask

from anomalib_zsad.data.batches import AuxiliaryBatch, AuxiliaryItem, ZeroShotBatch, ZeroShotItem
from anomalib_zsad.data.reading import read_item
from anomalib_zsad.data.words import ANOMALY, defect_word

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Part:
    """The images of one class, all with or all without annotation.

    Attributes:
        dataset (AnomalibDataset): Reads the images; without augmentations.
        source (str): Name of the data set, such as ``"MVTecAD"``.
        category (str): Category, the key to group results by.
        class_name (str): Class word.
        has_mask (bool): Whether its masks, the zero masks of normal images included, are annotations.
    """

    dataset: AnomalibDataset
    source: str
    category: str
    class_name: str
    has_mask: bool


def parts_of(dataset: AnomalibDataset, source: str, category: str, class_name: str) -> list[Part]:
    """Wrap the images of one class.

    anomalib decides once per data set whether there are masks, and then fails on the anomalous image that has none.
    Here such images become a part of their own. (A ``Folder`` refuses them before, when it is set up.)

    Args:
        dataset (AnomalibDataset): Data set of one class; not changed.
        source (str): Name of the data set.
        category (str): Category.
        class_name (str): Class word.

    Returns:
        list[Part]: No, one or two parts.

    Raises:
        TypeError: If it is a video or depth data set.
    """
    if isinstance(dataset, AnomalibVideoDataset | AnomalibDepthDataset):
        msg = f"{source} is a {dataset.name} data set of videos or depth maps; only images can be used."
        raise TypeError(msg)
    samples = dataset.samples
    anomalous = (samples.label_index == LabelName.ABNORMAL).to_numpy(bool)
    # a missing path is None, NaN or "", depending on the data set
    masked = np.array([isinstance(path, str | list) and len(path) > 0 for path in samples.mask_path], bool)
    without = anomalous & ~masked
    if dataset.task == TaskType.CLASSIFICATION or (anomalous.any() and not (anomalous & masked).any()):
        without[:] = True

    parts = []
    for rows, task in ((~without, TaskType.SEGMENTATION), (without, TaskType.CLASSIFICATION)):
        if not rows.any():
            continue
        own = samples[rows].reset_index(drop=True)
        paths = zip(samples.mask_path[rows], masked[rows], strict=True)
        own["mask_path"] = [path if has_mask else "" for path, has_mask in paths]
        own.attrs["task"] = task.value
        clone = copy.copy(dataset)
        clone._samples = own  # noqa: SLF001 - the setter would look for every file once more
        clone.augmentations = None
        parts.append(Part(clone, source, category, class_name, has_mask=task == TaskType.SEGMENTATION))
    return parts


def parts_by_class(dataset: AnomalibDataset, source: str, category: str, class_name: str) -> list[Part]:
    """Wrap the images of one or several classes.

    Args:
        dataset (AnomalibDataset): Its ``samples`` tell the classes apart by the columns ``category`` and
            ``class_name``; without these columns all is one class.
        source (str): Name of the data set.
        category (str): Category, where there are no such columns.
        class_name (str): Class word, where there are no such columns.

    Returns:
        list[Part]: One or two for each class.
    """
    samples = dataset.samples
    if not {"category", "class_name"} <= set(samples.columns):
        return parts_of(dataset, source, category, class_name)
    parts: list[Part] = []
    for (one, word), rows in samples.groupby(["category", "class_name"], sort=False).indices.items():
        parts += parts_of(dataset.subsample(list(rows)), source, one, word)
    return parts


class RowDataset(AnomalibDataset):
    """A data set whose subsets are rows of ``samples``, in whatever order; nothing is looked for on disk again."""

    def subsample(self, indices: Sequence[int], inplace: bool = False) -> Self:
        """Return the data set with these rows only; all else is shared, not copied.

        Args:
            indices (Sequence[int]): Rows, without repeats.
            inplace (bool): Change this object instead. Defaults to ``False``.

        Raises:
            ValueError: If a row occurs twice.
        """
        if len(set(indices)) != len(indices):
            msg = "No duplicates allowed in indices."
            raise ValueError(msg)
        dataset = self if inplace else copy.copy(self)
        attributes = self.samples.attrs
        dataset._samples = self.samples.iloc[list(indices)].reset_index(drop=True)  # noqa: SLF001 - our own
        dataset._samples.attrs = attributes  # noqa: SLF001
        return dataset


class ZeroShotDataset(RowDataset):
    """Several one-class data sets as one, each image with its class word and defect type.

    Images are read by the data sets they come from, so that readers of their own stay in use (MVTec LOCO, for one,
    has several masks per image); augmentations are applied here, after image and mask were found to be of one size.
    The order is fixed, and the same index gives the same item in every process, as far as the augmentations do.

    ``samples`` has anomalib's columns and ``class_name``, ``category``, ``defect_type``, ``dataset``, ``has_mask``, and
    ``part`` and ``row``, which tell where an image is read.

    Args:
        parts (Iterable[Part]): The classes.
        augmentations (Transform | None): Applied to image and mask together. Defaults to ``None``.
    """

    item_class: ClassVar[type[ZeroShotItem]] = ZeroShotItem
    batch_class: ClassVar[type[ZeroShotBatch]] = ZeroShotBatch

    def __init__(self, parts: Iterable[Part], augmentations: Transform | None = None) -> None:
        super().__init__(augmentations)
        self.parts = tuple(parts)
        # anomalib's setter would look for every file once more and sort across the classes
        self._samples = _samples_of(self.parts)

    @property
    def task(self) -> TaskType:
        """Segmentation if any image is annotated."""
        return TaskType.SEGMENTATION if self.samples.has_mask.any() else TaskType.CLASSIFICATION

    @property
    def collate_fn(self) -> Callable:
        """Collate function of the batch type that belongs to the items."""
        return self.batch_class.collate

    def _read(self, sample: pd.Series) -> tuple[Image, Mask | None]:
        item: Any = read_item(self.parts[sample.part].dataset, sample.row)
        return item.image, item.gt_mask if sample.has_mask else None

    def __getitem__(self, index: int) -> ZeroShotItem:
        """Read an image.

        Args:
            index (int): Row in ``samples``.

        Returns:
            ZeroShotItem: Image ``(3, H, W)`` in [0, 1], label, mask ``(H, W)`` or ``None``, and what is known of it.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If image and mask differ in size.
        """
        sample = self.samples.iloc[index]
        image, mask = self._read(sample)
        if self.augmentations and mask is None:
            image = self.augmentations(image)
        elif self.augmentations:
            image, mask = self.augmentations(image, Mask(mask, dtype=torch.uint8))
        known = sample.label_index != LabelName.UNKNOWN
        return self.item_class(
            image=image,
            gt_label=torch.tensor(int(sample.label_index)) if known else None,
            gt_mask=mask,
            image_path=sample.image_path,
            mask_path=sample.mask_path,
            class_name=sample.class_name,
            category=sample.category,
            defect_type=sample.defect_type,
            has_mask=mask is not None,
        )


class AuxiliaryDataset(ZeroShotDataset):
    """Images whose labels may be learned from; the only maker of :class:`~anomalib_zsad.data.AuxiliaryBatch`.

    Build it from the auxiliary source and never from the target: that is the whole of the zero-shot promise.

    Args:
        parts (Iterable[Part]): The classes.
        augmentations (Transform | None): Applied to image and mask together. Defaults to ``None``.
        synthetic_seed (int | None): If given, every second image (a seeded choice) becomes anomalous when it is read:
            anomalib's Perlin-noise generator alters it and supplies the mask. Which images, and how, depends on this
            seed and the image only, not on epoch, order or worker. All images must be normal. Defaults to ``None``.

    Raises:
        ValueError: If anomalies are to be synthesised on anomalous images.
    """

    item_class = AuxiliaryItem
    batch_class = AuxiliaryBatch

    def __init__(
        self,
        parts: Iterable[Part],
        augmentations: Transform | None = None,
        synthetic_seed: int | None = None,
    ) -> None:
        super().__init__(parts, augmentations)
        self.synthetic_seed = synthetic_seed
        if synthetic_seed is not None:
            self._mark_synthetic(synthetic_seed)

    def _mark_synthetic(self, seed: int) -> None:
        samples = self.samples
        if (samples.label_index != LabelName.NORMAL).any():
            msg = "Anomalies can be synthesised on normal images only, and some images are anomalous already."
            raise ValueError(msg)
        chosen = np.random.default_rng(seed).permutation(len(samples))[: len(samples) // 2]
        columns = ["label_index", "label", "defect_type"]
        samples.loc[chosen, columns] = [int(LabelName.ABNORMAL), "abnormal", ANOMALY]
        # the zero mask of a normal image is right even where the data set has no masks: nothing was altered
        samples["has_mask"] = True

    def _read(self, sample: pd.Series) -> tuple[Image, Mask | None]:
        if self.synthetic_seed is None:
            return super()._read(sample)
        image: Any = read_item(self.parts[sample.part].dataset, sample.row).image
        if sample.label_index == LabelName.NORMAL:
            return image, Mask(torch.zeros(image.shape[-2:], dtype=torch.uint8))
        return _synthesise(image, (self.synthetic_seed, sample.part, sample.row))


def _synthesise(image: Image, seed: tuple[int, ...]) -> tuple[Image, Mask]:
    """Alter an image ``(3, H, W)`` in [0, 1] with anomalib's generator, the same way for the same seed."""
    # The generator draws from torch's global state, in its constructor too. Only the CPU's is put aside and seeded:
    # torch.manual_seed would also reset the accelerator's.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1))
        altered, mask = PerlinAnomalyGenerator(probability=1.0)(image.as_subclass(torch.Tensor))
    return Image(altered.clamp(0, 1)), Mask(mask[0], dtype=torch.uint8)


def _samples_of(parts: Sequence[Part]) -> DataFrame:
    frames = [_sample_table(part).assign(part=number) for number, part in enumerate(parts)]
    return pd.concat(frames, ignore_index=True) if frames else DataFrame(columns=["image_path", "label_index"])


def _sample_table(part: Part) -> DataFrame:
    samples = part.dataset.samples
    labels = samples.label_index.astype(int).to_numpy()
    names = {int(LabelName.NORMAL): "normal", int(LabelName.ABNORMAL): "abnormal", int(LabelName.UNKNOWN): "unknown"}
    masks = [path[0] if isinstance(path, list) else path for path in samples.mask_path]
    shown = part.has_mask & (labels == LabelName.ABNORMAL)
    return DataFrame({
        "image_path": samples.image_path.astype(str).to_numpy(),
        "label_index": labels,
        "label": [names[label] for label in labels],
        "mask_path": [mask if show else "" for mask, show in zip(masks, shown, strict=True)],
        "split": [str(getattr(split, "value", split)) for split in samples.split],
        "class_name": part.class_name,
        "category": part.category,
        "defect_type": _defect_types(part.dataset, labels),
        "dataset": part.source,
        "has_mask": part.has_mask,
        "row": np.arange(len(samples)),
    })


def _defect_types(dataset: AnomalibDataset, labels: np.ndarray) -> list[str]:
    samples = dataset.samples
    if isinstance(dataset, FolderDataset):  # its labels only say "abnormal"; abnormal/<defect>/*.png is common
        names = [Path(path).parent.name for path in samples.image_path]
    elif "label" in samples:
        names = [str(getattr(label, "value", label)) for label in samples.label]
    else:
        names = [ANOMALY] * len(samples)
    return [defect_word(name) if label == LabelName.ABNORMAL else "" for name, label in zip(names, labels, strict=True)]
