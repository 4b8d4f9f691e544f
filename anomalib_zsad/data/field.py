# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""From a list of images to anomalib's data set and datamodule."""

import copy
import inspect
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import ClassVar

import torch
from anomalib import TaskType
from anomalib.data import AnomalibDataModule
from anomalib.data.utils import LabelName
from pandas import DataFrame
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Transform
from torchvision.tv_tensors import Image, Mask

from anomalib_zsad.data.auxiliary import KeepsBatchTypes
from anomalib_zsad.data.batches import ZeroShotBatch, ZeroShotItem
from anomalib_zsad.data.datasets import RowDataset
from anomalib_zsad.data.layouts import Entry, Layout, cut, read_marks
from anomalib_zsad.data.reading import read_image
from anomalib_zsad.data.word_styles import check_style, class_word_of
from anomalib_zsad.data.words import defect_word

_COLUMNS = (
    "image_path", "label", "label_index", "mask_path", "split", "category", "class_name", "file", "masks", "box",
)  # fmt: skip


class FieldDataset(RowDataset):
    """Images that were listed by a :class:`~anomalib_zsad.data.layouts.Layout` or an index file.

    Items are :class:`~anomalib_zsad.data.ZeroShotItem`: each knows its class word, category and defect type, and if its
    mask is an annotation. ``samples`` has anomalib's columns, ``category``, ``class_name``, and what an item is read
    from: ``file``, ``masks`` and ``box``. The path of a square of a strip names the square, so that results of the
    squares do not overwrite each other; there is no such file.

    Args:
        entries (Iterable[Entry]): The images.
        name (str): Name of the data set.
        annotated (bool): Whether anomalies have masks, in this data set as a whole: then a normal image has one of
            zeros. Defaults to ``True``.
        class_words (str): Style of the class words (:mod:`anomalib_zsad.data.word_styles`). Defaults to ``"folder"``.
        augmentations (Transform | None): Applied to image and mask together. Defaults to ``None``.

    Example:
        >>> from anomalib_zsad.data.known_sets import SETS
        >>> entries = SETS["KSDD2"].entries("./datasets/KSDD2")  # doctest: +SKIP
        >>> FieldDataset(entries, "KSDD2")[0].image.shape  # doctest: +SKIP
        torch.Size([3, 637, 232])
    """

    def __init__(
        self,
        entries: Iterable[Entry],
        name: str,
        annotated: bool = True,
        class_words: str = "folder",
        augmentations: Transform | None = None,
    ) -> None:
        super().__init__(augmentations)
        self._name = name
        rows = [_row(entry, class_word_of(name, entry.category, class_words)) for entry in entries]
        # anomalib's setter would look for every file once more, also for those of squares
        self._samples = DataFrame(rows, columns=list(_COLUMNS)).sort_values("image_path", ignore_index=True)
        self._samples.attrs["task"] = (TaskType.SEGMENTATION if annotated else TaskType.CLASSIFICATION).value

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self._name

    @property
    def collate_fn(self) -> Callable:
        """Collate function of the items' batch type."""
        return ZeroShotBatch.collate

    def __getitem__(self, index: int) -> ZeroShotItem:
        """Read an image.

        Args:
            index (int): Row in ``samples``.

        Returns:
            ZeroShotItem: Image ``(3, H, W)`` in [0, 1], label, mask ``(H, W)`` or ``None``.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If image and mask differ in size.
        """
        sample = self.samples.iloc[index]
        image = read_image(sample.file)
        size = (image.shape[-1], image.shape[-2])
        if sample.box:
            left, top, right, bottom = sample.box
            image = Image(image[:, top:bottom, left:right])
        mask = self._mask(sample, size) if self.task == TaskType.SEGMENTATION else None
        if self.augmentations and mask is None:
            image = self.augmentations(image)
        elif self.augmentations:
            image, mask = self.augmentations(image, mask)
        anomalous = sample.label_index == LabelName.ABNORMAL
        return ZeroShotItem(
            image=image,
            gt_label=torch.tensor(int(sample.label_index)),
            gt_mask=mask,
            image_path=sample.image_path,
            mask_path=sample.mask_path,
            class_name=sample.class_name,
            category=sample.category,
            defect_type=defect_word(sample.label) if anomalous else "",
            has_mask=mask is not None,
        )

    @staticmethod
    def _mask(sample: object, size: tuple[int, int]) -> Mask | None:
        """Mask ``(H, W)``: of zeros for a normal image, ``None`` for an anomalous one without annotation."""
        box = sample.box or (0, 0, *size)  # type: ignore[attr-defined]
        left, top, right, bottom = box
        if sample.label_index == LabelName.NORMAL:  # type: ignore[attr-defined]
            return Mask(torch.zeros(bottom - top, right - left, dtype=torch.uint8))
        marks = read_marks(sample.masks)  # type: ignore[attr-defined]
        if marks is None:
            return None
        if marks.shape != size[::-1]:
            msg = (
                f"Mask {sample.mask_path} is {marks.shape[1]} x {marks.shape[0]} pixels, but its image "  # type: ignore[attr-defined]
                f"{sample.file} is {size[0]} x {size[1]}. A mask must have the size of its image."  # type: ignore[attr-defined]
            )
            raise ValueError(msg)
        return Mask(torch.from_numpy(marks[top:bottom, left:right].astype("uint8")))


def _row(entry: Entry, class_name: str) -> tuple:
    path = entry.image
    if entry.box:
        path = path.with_name(f"{path.stem}@{entry.box[0]}-{entry.box[1]}{path.suffix}")
    masks = tuple(map(str, entry.masks)) if entry.defect else ()
    return (
        str(path),
        entry.defect or "good",
        int(LabelName.ABNORMAL if entry.defect else LabelName.NORMAL),
        masks[0] if masks else "",
        entry.split,
        entry.category,
        class_name,
        str(entry.image),
        tuple(map(Path, masks)),
        entry.box,
    )


class FieldDataModule(KeepsBatchTypes, AnomalibDataModule):
    """What the datamodules of the field's data sets share; each says what is particular to its data.

    The test split is tested, by the whole of it; a set without a training split is all test. In anomalib's manner the
    validation data is the test data, and the training data has no anomalies. Where the published training split has
    some, ``ZeroShot`` learns from them: ``--data ZeroShot --data.source KSDD2 --data.source_split train``.

    Args:
        root (Path | str | None): The data set's folder. Defaults to ``None``: ``./datasets/<name>``.
        category (str | list[str]): One class, several, or ``"all"``. Defaults to ``"all"``.
        class_words (str): Where class words come from: ``"object"``, ``"folder"``, or the paper whose words to use, see
            :data:`anomalib_zsad.data.word_styles.STYLES`. Defaults to ``"folder"``.
        train_batch_size (int): Defaults to ``8``.
        eval_batch_size (int): Defaults to ``8``.
        num_workers (int): Worker processes of each data loader. Defaults to ``8``.
        train_augmentations (Transform | None): Augmentations of the training images.
        val_augmentations (Transform | None): Augmentations of the validation images.
        test_augmentations (Transform | None): Augmentations of the test images.
        augmentations (Transform | None): Augmentations of the three, where they have none of their own.
        seed (int | None): Not used; nothing here is random.

    Raises:
        ValueError: If a class or a style of words is unknown.
    """

    layout: ClassVar[Layout]

    def __init_subclass__(cls) -> None:
        """Complete the docstring by the facts that are known of the data set."""
        super().__init_subclass__()
        if "layout" in vars(cls):
            cls.__doc__ = f"{inspect.cleandoc(cls.__doc__ or cls.layout.title)}\n\n{cls.layout.facts()}\n"

    def __init__(
        self,
        root: Path | str | None = None,
        category: str | list[str] = "all",
        class_words: str = "folder",
        train_batch_size: int = 8,
        eval_batch_size: int = 8,
        num_workers: int = 8,
        train_augmentations: Transform | None = None,
        val_augmentations: Transform | None = None,
        test_augmentations: Transform | None = None,
        augmentations: Transform | None = None,
        seed: int | None = None,
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
        self.root = Path("datasets") / self.name if root is None else Path(root)
        self.class_words = check_style(class_words)
        self.category = category

    # ---- classes -------------------------------------------------------------------------------------------------

    @property
    def categories(self) -> tuple[str, ...]:
        """All classes of the data set."""
        return self.layout.categories

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Names for several classes."""
        return {"all": self.categories, **self.layout.groups}

    @property
    def category(self) -> str:
        """The one class that there is; ``""`` for all, and a name of all of them for some."""
        if set(self._wanted) == {*self.categories} and len(self._wanted) > 1:
            return ""
        return "+".join(self._wanted)

    @category.setter
    def category(self, category: str | Collection[str]) -> None:
        wanted = self.groups.get(category, (category,)) if isinstance(category, str) else tuple(category)
        unknown = [one for one in wanted if one not in self.categories and not (one and (self.root / one).is_dir())]
        if unknown and self.categories:
            names = ", ".join((*(name for name in self.groups), *self.categories))
            msg = f"{self.name} has no category {', '.join(map(repr, unknown))}; it has {names}."
            raise ValueError(msg)
        self._wanted = wanted

    @property
    def annotated(self) -> bool:
        """Whether anomalies have masks."""
        return self.layout.masks

    def class_word(self, category: str) -> str:
        """The word for a class, in the style asked for."""
        return class_word_of(self.name, category, self.class_words)

    # ---- images --------------------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """List the images of the classes asked for; squares where the data set has strips.

        Raises:
            FileNotFoundError: If ``root`` does not hold the data set.
        """
        entries = self.layout.entries(self.root, self._wanted)
        return [square for entry in entries for square in cut(entry)] if self.layout.tiled else entries

    def _setup(self, _stage: str | None = None) -> None:
        entries = self.entries()
        for split in ("train", "test"):
            chosen = [entry for entry in entries if entry.split == split]
            setattr(self, f"{split}_data", FieldDataset(chosen, self.name, self.annotated, self.class_words))

    def setup(self, stage: str | None = None) -> None:
        """List the images.

        Args:
            stage (str | None): Not used; listing is cheap.

        Raises:
            FileNotFoundError: If ``root`` does not hold the data set.
        """
        if not hasattr(self, "test_data"):
            self._setup(stage)
            normal = self.train_data.samples.index[self.train_data.samples.label_index == LabelName.NORMAL]
            self.train_data = self.train_data.subsample(list(normal))
            self.val_data = copy.copy(self.test_data)
        self._update_augmentations()

    def train_dataloader(self) -> DataLoader:
        """Normal training images.

        Raises:
            ValueError: If the data set has none.
        """
        if not len(self.train_data):
            msg = (
                f"{self.name} has no normal training images: it is there to be tested on. Train on another data set, "
                "such as --data ZeroShot --data.source Visa."
            )
            raise ValueError(msg)
        return super().train_dataloader()
