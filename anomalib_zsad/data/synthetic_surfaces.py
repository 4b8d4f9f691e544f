# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Generated surfaces and objects with defects, as an anomalib data set and datamodule. No files are needed."""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pandas as pd
import torch
from anomalib import TaskType
from anomalib.data import AnomalibDataModule, AnomalibDataset, ImageItem
from anomalib.data.utils import LabelName
from anomalib.visualization.image import visualizer as anomalib_visualizer
from torch.utils.data import get_worker_info
from torchvision.transforms.v2 import Transform
from torchvision.tv_tensors import Image, Mask

from anomalib_zsad.data.auxiliary import KeepsBatchTypes
from anomalib_zsad.data.datasets import AuxiliaryDataset, Part, ZeroShotDataset, parts_of
from anomalib_zsad.data.episodes import SampledTraining
from anomalib_zsad.data.surfaces import CLASSES, DEFECTS, Picture, members, render
from anomalib_zsad.data.surfaces.canvas import Dice
from anomalib_zsad.data.words import class_word

Split = Literal["train", "val", "test"]
STREAMS: dict[str, int] = {"train": 0, "val": 1, "test": 2}
_PLAN = 1 << 20  # stream of what is decided before drawing, far from the streams of the splits

CATEGORIES = tuple(name.replace(" ", "_") for name in CLASSES)


class SyntheticSurfacesDataset(AnomalibDataset):
    """Pictures drawn when they are asked for, the same for the same arguments, in any order and process.

    Picture ``i`` shows class ``classes[i % len(classes)]``. Within a class, pictures are numbered by ``i //
    len(classes)``; a number stands for the same picture whatever the other classes are and however many pictures
    there are. The share of anomalies holds within each class to less than one picture, and a class's defect types take
    turns. Classes without any of the defect types are left out.

    ``samples`` has anomalib's columns and ``class_name`` and ``number``. Its paths name pictures; there are no such
    files.

    Args:
        count: Number of pictures.
        classes: Keys of :data:`anomalib_zsad.data.surfaces.CLASSES`.
        defects: Keys of :data:`anomalib_zsad.data.surfaces.DEFECTS`.
        image_size: Side in pixels, 32 or more.
        difficulty: 0 (large, strong defects in even light) to 1 (small, faint ones, shadows, glare, noise).
        anomaly_ratio: Share of anomalous pictures, 0 to 1.
        seed: Another seed is another set.
        split: Pictures of different splits differ.
        augmentations: Applied to image and mask together.

    Raises:
        ValueError: If a name is unknown, a number is out of range or no class is left.

    Example:
        >>> data = SyntheticSurfacesDataset(4, ["wood", "pill"], ["scratch", "crack"], image_size=64)
        >>> data.samples.image_path[1], data[1].image.shape
        ('SyntheticSurfaces/pill/train/scratch/000000.png', torch.Size([3, 64, 64]))
    """

    def __init__(
        self,
        count: int,
        classes: Sequence[str] = tuple(CLASSES),
        defects: Sequence[str] = tuple(DEFECTS),
        *,
        image_size: int = 224,
        difficulty: float = 0.5,
        anomaly_ratio: float = 0.5,
        seed: int = 0,
        split: Split = "train",
        augmentations: Transform | None = None,
    ) -> None:
        super().__init__(augmentations)
        for label, value, low, high in (
            ("count", count, 0, math.inf),
            ("image_size", image_size, 32, math.inf),
            ("difficulty", difficulty, 0, 1),
            ("anomaly_ratio", anomaly_ratio, 0, 1),
        ):
            if not low <= value <= high:
                msg = f"{label} must lie in [{low}, {high}], got {value}."
                raise ValueError(msg)
        self.image_size = image_size
        self.difficulty = difficulty
        self.seed = seed
        self.split = split
        self.samples = _plan(count, resolve(classes, CLASSES), resolve(defects, DEFECTS), anomaly_ratio, seed, split)

    @property
    def samples(self) -> pd.DataFrame:
        """One row per picture."""
        return super().samples

    @samples.setter
    def samples(self, samples: pd.DataFrame) -> None:
        # anomalib's setter looks for the files and sorts by path
        self._samples = samples

    @property
    def name(self) -> str:
        """Name of the data set."""
        return "SyntheticSurfaces"

    def picture(self, index: int) -> Picture:
        """Draws a picture as numpy arrays, with its caption.

        Args:
            index: Row in ``samples``.
        """
        sample = self.samples.iloc[index]
        return render(
            sample.class_name,
            sample.label if sample.label_index == LabelName.ABNORMAL else "",
            seed=self.seed,
            stream=STREAMS[self.split],
            index=int(sample.number),
            size=self.image_size,
            difficulty=self.difficulty,
        )

    def __getitem__(self, index: int) -> ImageItem:
        """Draws a picture.

        Args:
            index: Row in ``samples``.

        Returns:
            Image ``(3, S, S)`` in [0, 1], mask ``(S, S)``, label and the path that names it.
        """
        if get_worker_info() is not None:
            cv2.setNumThreads(0)  # the workers are the parallelism; OpenCV's threads do not survive a fork
        sample = self.samples.iloc[index]
        drawn = self.picture(index)
        image = Image(torch.from_numpy(drawn.image).permute(2, 0, 1).to(torch.float32) / 255.0)
        mask = Mask(torch.from_numpy(drawn.mask.astype(np.uint8)))
        if self.augmentations:
            image, mask = self.augmentations(image, mask)
        return ImageItem(
            image=image,
            gt_label=torch.tensor(int(sample.label_index)),
            gt_mask=mask,
            image_path=sample.image_path,
            mask_path=sample.mask_path,
        )


def resolve(names: str | Sequence[str], table: dict) -> tuple[str, ...]:
    """The keys of ``CLASSES`` or ``DEFECTS`` that a user means.

    Args:
        names: ``"seen"``, ``"unseen"`` or ``"all"``, or a list of names; underscores count as spaces.
        table: ``CLASSES`` or ``DEFECTS``.

    Raises:
        ValueError: If a name is unknown or none is given.
    """
    if isinstance(names, str) and names in {"seen", "unseen", "all"}:
        return members(names, table)
    words = [class_word(name) for name in ([names] if isinstance(names, str) else names)]
    unknown = [word for word in words if word not in table]
    if unknown or not words:
        wrong = ", ".join(map(repr, unknown)) or "''"
        msg = f"Unknown name {wrong}; choose 'seen', 'unseen', 'all' or from {', '.join(table)}."
        raise ValueError(msg)
    return tuple(dict.fromkeys(words))


def with_defects(classes: Sequence[str], defects: Sequence[str]) -> tuple[str, ...]:
    """The classes that at least one of the defect types can happen to."""
    return tuple(name for name in classes if set(defects).intersection(CLASSES[name].defects))


def _plan(
    count: int, classes: Sequence[str], defects: Sequence[str], ratio: float, seed: int, split: Split
) -> pd.DataFrame:
    chosen = with_defects(classes, defects)
    if not chosen:
        msg = f"None of {', '.join(defects)} happens to {', '.join(classes)}."
        raise ValueError(msg)
    frames = []
    for position, name in enumerate(chosen):
        dice = Dice(seed, _PLAN + STREAMS[split], 0, name)
        phase, turn = dice(), dice.below(len(DEFECTS))
        own = [defect for defect in CLASSES[name].defects if defect in defects]
        number = np.arange(len(range(position, count, len(chosen))))
        before, after = np.floor(number * ratio + phase), np.floor((number + 1) * ratio + phase)
        label = np.where(after > before, np.array(own)[(before.astype(int) + turn) % len(own)], "good")
        frames.append(
            pd.DataFrame({
                "position": number * len(chosen) + position,
                "class_name": name,
                "number": number,
                "label": label,
                "label_index": np.where(after > before, int(LabelName.ABNORMAL), int(LabelName.NORMAL)),
                "split": split,
            })
        )
    samples = pd.concat(frames).sort_values("position", ignore_index=True).drop(columns="position")
    stems = [
        f"{name.replace(' ', '_')}/{split}/{label.replace(' ', '_')}/{number:06d}"
        for name, label, number in zip(samples.class_name, samples.label, samples.number, strict=True)
    ]
    anomalous = samples.label_index == LabelName.ABNORMAL
    samples["image_path"] = [f"SyntheticSurfaces/{stem}.png" for stem in stems]
    samples["mask_path"] = [
        f"SyntheticSurfaces/{stem}_mask.png" if bad else "" for stem, bad in zip(stems, anomalous, strict=True)
    ]
    samples.attrs["task"] = TaskType.SEGMENTATION.value
    return samples


class SyntheticSurfaces(SampledTraining, KeepsBatchTypes, AnomalibDataModule):
    """Generated surfaces and objects with defects: to train on and to test on, without a file.

    34 classes, textures and objects alike, with 14 types of defects, each class with those that can happen to it. A
    mask marks exactly the pixels that a defect visibly changed. Classes and defect types fall into two fixed, disjoint
    groups, ``seen`` and ``unseen``, so that transfer to new objects and to new defects can be measured.

    **What it is for.** Auxiliary training data for people who have no VisA: ``anomalib train --model PromptMoE --data
    SyntheticSurfaces`` trains on the seen classes and tests on the unseen ones; ``--data ZeroShot --data.source
    SyntheticSurfaces --data.target MVTecAD`` trains on all of them and tests on real photographs. Small experiments and
    tests without a download.

    **What it is not.** Photographs. Scores on these pictures say nothing about scores on real ones and are not
    comparable with any published table, and real defects of other objects teach more than drawn ones.

    The training and validation splits are auxiliary data, of different pictures (the validation split is what
    thresholds are calibrated on). The test split is pictures of the test classes; the labels of these never train.
    As ``source`` of :class:`~anomalib_zsad.data.ZeroShot` its test pictures of all ``categories`` are used, as with any
    other data set: ask for more by ``test_images``.

    Args:
        classes (str | list[str]): Classes to train on: ``"seen"``, ``"unseen"``, ``"all"`` or a list of names. Defaults
            to ``"seen"``.
        defects (str | list[str]): Defect types to train on, in the same way. Defaults to ``"seen"``.
        test_classes (str | list[str]): Classes to test on. Defaults to ``"unseen"``.
        test_defects (str | list[str]): Defect types to test on. Defaults to ``"all"``.
        image_size (int | tuple[int, int]): Side of the pictures in pixels, 32 or more; twice the same number where
            anomalib makes two of it. Defaults to ``224``.
        difficulty (float): 0 (large, strong defects in even light) to 1 (small, faint ones among shadows and glare).
            Defaults to ``0.5``.
        anomaly_ratio (float): Share of anomalous pictures in every split, in (0, 1). Defaults to ``0.5``.
        train_images (int): Number of training pictures. Defaults to ``2000``.
        val_images (int): Number of pictures held out for calibration. Defaults to ``300``.
        test_images (int): Number of test pictures. Defaults to ``1000``.
        category (str | None): One class to be all that there is, train, validation and test; ``ZeroShot`` sets it.
            Defaults to ``None``.
        train_batch_size (int): Defaults to ``8``.
        eval_batch_size (int): Defaults to ``8``.
        num_workers (int): Worker processes of each data loader. Defaults to ``8``.
        train_augmentations (Transform | None): Augmentations of the training pictures.
        val_augmentations (Transform | None): Augmentations of the validation pictures.
        test_augmentations (Transform | None): Augmentations of the test pictures.
        augmentations (Transform | None): Augmentations of the three, where they have none of their own.
        seed (int): Seed of all pictures. Defaults to ``0``.

    Raises:
        ValueError: If a name is unknown or a number is out of range.

    Example:
        >>> from anomalib_zsad.data import SyntheticSurfaces
        >>> datamodule = SyntheticSurfaces(train_images=64, image_size=112, num_workers=0)
        >>> datamodule.setup()
        >>> batch = next(iter(datamodule.train_dataloader()))
        >>> batch.image.shape, batch.gt_mask.shape
        (torch.Size([8, 3, 112, 112]), torch.Size([8, 112, 112]))
    """

    def __init__(
        self,
        classes: str | list[str] = "seen",
        defects: str | list[str] = "seen",
        test_classes: str | list[str] = "unseen",
        test_defects: str | list[str] = "all",
        image_size: int | tuple[int, int] = 224,
        difficulty: float = 0.5,
        anomaly_ratio: float = 0.5,
        train_images: int = 2000,
        val_images: int = 300,
        test_images: int = 1000,
        category: str | None = None,
        train_batch_size: int = 8,
        eval_batch_size: int = 8,
        num_workers: int = 8,
        train_augmentations: Transform | None = None,
        val_augmentations: Transform | None = None,
        test_augmentations: Transform | None = None,
        augmentations: Transform | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            train_batch_size=train_batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            train_augmentations=train_augmentations,
            val_augmentations=val_augmentations,
            test_augmentations=test_augmentations,
            augmentations=augmentations,
            seed=seed,
        )
        if not 0 < anomaly_ratio < 1:
            msg = f"anomaly_ratio must lie between 0 and 1 (training needs both kinds), got {anomaly_ratio}."
            raise ValueError(msg)
        self.classes, self.defects = resolve(classes, CLASSES), resolve(defects, DEFECTS)
        self.test_classes, self.test_defects = resolve(test_classes, CLASSES), resolve(test_defects, DEFECTS)
        self.picture_seed = seed
        self.image_size = _side(image_size)
        self.difficulty = difficulty
        self.anomaly_ratio = anomaly_ratio
        self.train_images, self.val_images, self.test_images = train_images, val_images, test_images
        self.category = category or ""

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of all classes that are trained or tested on, spelt with underscores."""
        used = {*self.classes, *self.test_classes}
        return tuple(name.replace(" ", "_") for name in CLASSES if name in used)

    @property
    def category(self) -> str:
        """The one class that there is, "" for all."""
        return self._category

    @category.setter
    def category(self, category: str) -> None:
        self._category = resolve([category], CLASSES)[0].replace(" ", "_") if category else ""

    def _data(
        self, split: Split, classes: Sequence[str], defects: Sequence[str], count: int
    ) -> SyntheticSurfacesDataset:
        if self.category:
            # This class's share of the pictures, and its only defects where none is in the group.
            count = math.ceil(count / max(len(classes), 1))
            classes = resolve([self.category], CLASSES)
            defects = defects if with_defects(classes, defects) else CLASSES[classes[0]].defects
        return SyntheticSurfacesDataset(
            count,
            classes,
            defects,
            image_size=self.image_size,
            difficulty=self.difficulty,
            anomaly_ratio=self.anomaly_ratio,
            seed=self.picture_seed,
            split=split,
        )

    def _setup(self, _stage: str | None = None) -> None:
        """Plain anomalib data sets, which is what ``ZeroShot`` makes its own from."""
        tested = self.test_classes if not self.category else self.categories
        self.train_data = self._data("train", self.classes, self.defects, self.train_images)
        self.val_data = self._data("val", self.classes, self.defects, self.val_images)
        self.test_data = self._data("test", tested, self.test_defects, self.test_images)

    def setup(self, stage: str | None = None) -> None:
        """Make the data sets: auxiliary ones to train and calibrate on, another one to test on.

        Args:
            stage (str | None): Not used; nothing is drawn before it is asked for.
        """
        if not self._is_setup:
            self._setup(stage)
            train, val, test = (_parts(data) for data in (self.train_data, self.val_data, self.test_data))
            self.train_data, self.val_data = AuxiliaryDataset(train), AuxiliaryDataset(val)
            self.test_data = ZeroShotDataset(test)
            self._is_setup = True
        self._update_augmentations()


def _side(image_size: int | tuple[int, int]) -> int:
    sides = {image_size} if isinstance(image_size, int) else set(image_size)
    if len(sides) != 1:
        msg = f"image_size={image_size!r}: the pictures are square; give one number of pixels."
        raise ValueError(msg)
    return int(sides.pop())


def _parts(data: AnomalibDataset) -> list[Part]:
    """One part per class, each with its class word."""
    parts: list[Part] = []
    for name in dict.fromkeys(data.samples.class_name):
        rows = data.samples.index[data.samples.class_name == name]
        parts += parts_of(data.subsample(list(rows)), data.name, name.replace(" ", "_"), name)
    return parts


def _visualize_without_files() -> None:
    """Let anomalib's visualizer show pictures that have a name but no file, from the batch instead.

    It opens ``image_path`` whenever there is one, and ``image_path`` must stay: it names what the visualizer writes.
    """
    original = anomalib_visualizer.visualize_image_item
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def visualize(item: ImageItem, *args, **kwargs):  # noqa: ANN202 - the original's
        if not item.image_path or Path(item.image_path).exists():
            return original(item, *args, **kwargs)
        path, item.image_path = item.image_path, None
        try:
            return original(item, *args, **kwargs)
        finally:
            item.image_path = path

    anomalib_visualizer.visualize_image_item = visualize  # type: ignore[assignment]


_visualize_without_files()
