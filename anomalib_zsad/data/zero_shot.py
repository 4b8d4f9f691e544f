# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""The datamodule that trains on one set of objects and tests on another."""

import logging
import os
from collections.abc import Mapping
from itertools import chain
from typing import Any, Literal

from anomalib.data import AnomalibDataModule, AnomalibDataset
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Transform

from anomalib_zsad.data.auxiliary import KeepsBatchTypes
from anomalib_zsad.data.datasets import AuxiliaryDataset, Part, ZeroShotDataset, parts_of
from anomalib_zsad.data.defect_tables import read_kinds
from anomalib_zsad.data.episodes import SampledTraining
from anomalib_zsad.data.sources import OneClass, as_datamodules, classes_of
from anomalib_zsad.data.splits import hold_out, limit
from anomalib_zsad.data.word_styles import check_style, class_word_of
from anomalib_zsad.data.words import class_word

logger = logging.getLogger(__name__)


class ZeroShot(SampledTraining, KeepsBatchTypes, AnomalibDataModule):
    """Train on auxiliary objects with defects, test on objects never seen.

    **Protocol.** This is how the field trains and compares zero-shot detectors: the *labelled test split* of an
    auxiliary data set, over all its categories, is what a detector learns from, because training splits have no
    defects; it is then tested on the complete test split of every category of another data set, usually from VisA to
    MVTec AD and back. The word "test split" therefore means training data here when it belongs to the source.

    **What comes from where.** Training data and calibration data are parts of the source; test data is all of the
    target's. Nothing of the target is ever trained or calibrated on, and no validation data is cut from its test split.
    A published test split is tested as it is. Only one's own images without a normal one among them (``Folder`` without
    ``normal_test_dir``) are completed by the normal images of the training split.
    Source and target must not share a category or an image file; to train on the other categories of the target's own
    data set, exclude the tested ones (``exclude_classes``).

    **Calibration.** A seeded share of the source, stratified by class and label, is never trained on: it is the
    validation data, from which thresholds and score ranges come.

    **Reading the datamodules.** ``source`` and ``target`` are named as anywhere in anomalib: by short name, dotted path
    or nested configuration, from command line and YAML; in Python also as objects, and as plain mappings with
    ``class_path`` and ``init_args``. All categories are used, whatever ``category`` says, unless listed in
    ``source_categories`` or ``target_categories``. Batch sizes, splits and augmentations of the nested datamodules are
    not used; those given here are. ``prepare_data`` calls that of every category that is needed, so missing data is
    downloaded exactly where anomalib itself would download it.

    **Commands.** ``fit`` needs the source, and looks at the target's file names to keep the two apart. ``test`` and
    ``predict`` need the target only: the source need not exist. ``validate`` needs the source, unless the model is
    zero-shot already (its calibration came with its weights). Without a target, ``train`` ends after training: scores
    on the calibration share would not be zero-shot results.

    Args:
        source (AnomalibDataModule | list | str | None): Auxiliary data to learn from. Defaults to ``None``, for
            testing only.
        target (AnomalibDataModule | list | str | None): Data to test on. Defaults to ``None``, for training only.
        source_categories (list[str] | None): Categories of the source to use; all by default. The name of any
            directory below the data set's root will do.
        target_categories (list[str] | None): Categories of the target to use; all by default.
        source_split ("test" | "train" | "all"): Which split of the source to learn from. Defaults to ``"test"``.
        exclude_classes (list[str] | None): Categories of the source to leave out, such as the tested ones.
        max_images_per_class (int | None): Most images of each category of the source. Defaults to ``None``, all.
        max_anomalies_per_class (int | None): Most anomalous images of each category of the source.
        one_defect_type_per_class (bool): Take the anomalous images of each category of the source from one kind of
            defect, chosen at random among those with enough images. Defaults to ``False``.
        calibration_ratio (float): Share of the source held out for calibration, in (0, 1). Defaults to ``0.1``.
        class_words (dict[str, str] | str | None): Words that replace the cleaned category names in prompts, by
            category; or a style for all: ``"object"``, ``"folder"``, or a paper's own (``"anomalyclip"``,
            ``"adaclip"``, ``"bayes_pfl"``, ``"filo"``). Models with a fixed ``class_name`` do not read them.
        train_batch_size (int): Defaults to ``8``.
        eval_batch_size (int): Defaults to ``8``.
        num_workers (int): Worker processes of each data loader. Defaults to ``8``.
        train_augmentations (Transform | None): Augmentations of the training images.
        val_augmentations (Transform | None): Augmentations of the calibration images.
        test_augmentations (Transform | None): Augmentations of the test images.
        augmentations (Transform | None): Augmentations of the three, where they have none of their own.
        seed (int): Seed of the calibration share and the limits. Defaults to ``0``: the same in every run.

    Raises:
        ValueError: If neither source nor target is given, a name is unknown, or a number is out of range.
        TypeError: If source or target is no image datamodule.

    Example:
        >>> from anomalib_zsad.data import ZeroShot
        >>> datamodule = ZeroShot(source="Visa", target="MVTecAD", class_words={"pcb1": "circuit board"})
        >>> datamodule.name, datamodule.category
        ('ZeroShot', 'Visa-to-MVTecAD')
    """

    def __init__(
        self,
        source: AnomalibDataModule | list[AnomalibDataModule | str] | str | None = None,
        target: AnomalibDataModule | list[AnomalibDataModule | str] | str | None = None,
        source_categories: list[str] | None = None,
        target_categories: list[str] | None = None,
        source_split: Literal["test", "train", "all"] = "test",
        exclude_classes: list[str] | None = None,
        max_images_per_class: int | None = None,
        max_anomalies_per_class: int | None = None,
        one_defect_type_per_class: bool = False,
        calibration_ratio: float = 0.1,
        class_words: dict[str, str] | str | None = None,
        train_batch_size: int = 8,
        eval_batch_size: int = 8,
        num_workers: int = 8,
        train_augmentations: Transform | None = None,
        val_augmentations: Transform | None = None,
        test_augmentations: Transform | None = None,
        augmentations: Transform | None = None,
        seed: int = 0,
    ) -> None:
        self.seed: int
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
        if source_split not in {"test", "train", "all"}:
            msg = f"source_split must be 'test', 'train' or 'all', got {source_split!r}."
            raise ValueError(msg)
        if not 0 < calibration_ratio < 1:
            msg = f"calibration_ratio must lie between 0 and 1 (0.1: every tenth image), got {calibration_ratio}."
            raise ValueError(msg)
        for name, value in (
            ("max_images_per_class", max_images_per_class),
            ("max_anomalies_per_class", max_anomalies_per_class),
        ):
            if value is not None and value < 1:
                msg = f"{name} must be at least 1, or null for no limit, got {value}."
                raise ValueError(msg)
        self.source = as_datamodules(source, "source")
        self.target = as_datamodules(target, "target")
        if not self.source and not self.target:
            msg = "ZeroShot needs data: give source (to train on), target (to test on) or both."
            raise ValueError(msg)
        self.source_split = source_split
        self.max_images_per_class = max_images_per_class
        self.max_anomalies_per_class = max_anomalies_per_class
        self.one_defect_type_per_class = one_defect_type_per_class
        self.calibration_ratio = calibration_ratio

        classes = classes_of(self.source, source_categories, "source")
        self._target_classes = classes_of(self.target, target_categories, "target")
        everything = [*classes, *self._target_classes]
        if isinstance(class_words, str):
            self._class_words: dict[str, str] | str = check_style(class_words)
            self.word_style = class_words
        else:
            styles = {getattr(one.datamodule, "class_words", "folder") for one in self._target_classes or classes}
            self._class_words = self._check_words(class_words or {}, everything)
            self.word_style = " and ".join(sorted(styles)) + (", some replaced" if class_words else "")
        self._source_classes = self._without(classes, exclude_classes or [])
        self._refuse_same_objects()
        self._category = "-to-".join(
            "+".join(_label(datamodules, categories))
            for datamodules, categories in ((self.source, source_categories), (self.target, target_categories))
            if datamodules
        )

    # ---- what is used --------------------------------------------------------------------------------------------

    @staticmethod
    def _without(classes: list[OneClass], excluded: list[str]) -> list[OneClass]:
        unknown = sorted(set(excluded) - {one.category for one in classes})
        if unknown:
            names = ", ".join(one.category for one in classes)
            msg = f"Unknown exclude_classes {', '.join(unknown)}. The source has {names or 'no classes'}."
            raise ValueError(msg)
        kept = [one for one in classes if one.category not in excluded]
        if classes and not kept:
            msg = f"exclude_classes leaves no class of the source to train on: it has only {', '.join(excluded)}."
            raise ValueError(msg)
        return kept

    def _refuse_same_objects(self) -> None:
        shared = [a.category for a in self._source_classes if any(a.same_objects(b) for b in self._target_classes)]
        if shared:
            msg = (
                f"Source and target share {', '.join(shared)}: testing on objects trained on would not be zero-shot. "
                f"Leave them out of the source with exclude_classes: [{', '.join(shared)}]."
            )
            raise ValueError(msg)

    @staticmethod
    def _check_words(words: dict[str, str], classes: list[OneClass]) -> dict[str, str]:
        known = {one.category for one in classes}
        unknown = sorted(words.keys() - known)
        if unknown:
            msg = f"class_words names unknown categories {', '.join(unknown)}. Known are {', '.join(sorted(known))}."
            raise ValueError(msg)
        return {category: class_word(word) for category, word in words.items()}

    def _needed(self, stage: str | None) -> tuple[list[OneClass], list[OneClass]]:
        """Classes of source and target that a stage of the trainer reads; both without a trainer."""
        if stage in {TrainerFn.TESTING, TrainerFn.PREDICTING}:
            return [], self._target_classes
        if stage == TrainerFn.VALIDATING:
            # Engine.test validates zero-shot models first. Ours skip that when they have their calibration, and the
            # source need not exist then. Others, such as WinCLIP, get their threshold from the calibration share.
            model = self.trainer.lightning_module if self.trainer is not None else None
            return [] if getattr(model, "calibrated", False) else self._source_classes, []
        return self._source_classes, self._target_classes

    def prepare_data(self) -> None:
        """Call ``prepare_data`` of every category that the trainer's stage needs; it downloads what is missing.

        Raises:
            RuntimeError: If that fails; the message says which data set it was, and where it is looked for.
        """
        for one in chain(*self._needed(self.trainer.state.fn if self.trainer is not None else None)):
            try:
                one.datamodule.prepare_data()
            except OSError as error:  # noqa: PERF203 - a whole data set each
                msg = (
                    f"{one.source} is not at {getattr(one.datamodule, 'root', 'its root')} and could not be downloaded "
                    f"({error}). Put it there, or say where it is (its argument root)."
                )
                raise RuntimeError(msg) from error

    # ---- setting up ----------------------------------------------------------------------------------------------

    def setup(self, stage: str | None = None) -> None:
        """Make the data sets that a stage needs.

        Args:
            stage (str | None): ``"fit"``, ``"validate"``, ``"test"``, ``"predict"``, or ``None`` for all that is given.

        Raises:
            ValueError: If the stage needs data that was not given, the source has no anomalies or no normal images, or
                source and target overlap.
            RuntimeError: If data cannot be found or read.
        """
        self._setup(stage)
        self._update_augmentations()

    def _setup(self, _stage: str | None = None) -> None:
        source, target = self._needed(_stage)
        if _stage == TrainerFn.FITTING and not source:
            msg = "ZeroShot has no source to train on: give --data.source."
            raise ValueError(msg)
        if _stage in {TrainerFn.TESTING, TrainerFn.PREDICTING} and not target:
            if not hasattr(self, "train_data"):
                msg = "ZeroShot has no target to test on: give --data.target."
                raise ValueError(msg)
            logger.warning(
                "ZeroShot has no target, so nothing is tested. (Scores on the calibration share of the source would "
                "not be zero-shot results.)"
            )
        if target and not hasattr(self, "test_data"):
            tested = ZeroShotDataset(self._parts(target, "test"))
            self._require(len(tested.samples) > 0, "The target has no images.")
            if hasattr(self, "train_data"):
                _keep_apart(tested, self.train_data, self.val_data)
            self.test_data = tested
        if source and not hasattr(self, "train_data"):
            data = self._source_data(source)
            if hasattr(self, "test_data"):
                _keep_apart(self.test_data, data)
            kept, held = hold_out(data.samples, self.calibration_ratio, self.seed)
            self._require(
                bool(held),
                f"No image is left to calibrate on: of {len(data.samples)} images of the source no two are normal, "
                "and no two anomalous. Give more.",
            )
            self.train_data, self.val_data = data.subsample(kept), data.subsample(held)

    def _parts(self, classes: list[OneClass], split: str) -> list[Part]:
        parts: list[Part] = []
        for one, name in zip(classes, _names(classes), strict=True):
            for dataset in one.datasets(split):
                read_kinds(dataset)
                parts += parts_of(dataset, source=one.source, category=name, class_name=self._word(one))
        return parts

    def _word(self, one: OneClass) -> str:
        if isinstance(self._class_words, str):
            return class_word_of(one.source, one.category, self._class_words)
        return self._class_words.get(one.category, one.class_name)

    @property
    def target_words(self) -> dict[str, str]:
        """Class word of each category of the target."""
        classes = self._target_classes
        return dict(zip(_names(classes), map(self._word, classes), strict=True))

    def target_training_data(self) -> ZeroShotDataset:
        """Images of the target's training split, for few-shot use; training itself never sees them."""
        return ZeroShotDataset(self._parts(self._target_classes, "train"))

    def _source_data(self, classes: list[OneClass]) -> AuxiliaryDataset:
        data = AuxiliaryDataset(self._parts(classes, self.source_split))
        where = f"The source ({', '.join(map(str, classes))}, split {self.source_split!r})"
        self._require(
            data.has_anomalous,
            f"{where} has no anomalous images to learn from. Give it some (a Folder has them in abnormal_dir), use "
            "another source_split or source, or train with the plain datamodule (without ZeroShot): then anomalies are "
            "synthesised.",
        )
        self._require(data.has_normal, f"{where} has no normal images to learn from. Use source_split 'all'.")
        if not data.samples.has_mask.any():
            logger.warning("%s has no masks: only the losses on images train.", where)
        chosen = limit(
            data.samples,
            max_images=self.max_images_per_class,
            max_anomalies=self.max_anomalies_per_class,
            one_defect_type=self.one_defect_type_per_class,
            seed=self.seed,
        )
        data = data.subsample(chosen)
        self._require(
            data.has_anomalous and data.has_normal,
            f"{where} has no {'normal' if data.has_anomalous else 'anomalous'} images after its limits. Allow at least "
            "2 with max_images_per_class.",
        )
        return data

    @staticmethod
    def _require(condition: bool, msg: str) -> None:
        if not condition:
            raise ValueError(msg)

    # ---- for anomalib --------------------------------------------------------------------------------------------

    def val_dataloader(self) -> DataLoader | list:
        """Calibration images; an empty list when the stage needs none."""
        return super().val_dataloader() if hasattr(self, "val_data") else []

    def test_dataloader(self) -> DataLoader | list:
        """Target images; an empty list after training without a target."""
        return super().test_dataloader() if hasattr(self, "test_data") else []


def sources_of(origin: Mapping[str, Any]) -> set[str]:
    """Names of the data sets that an adapter says it was trained or calibrated on; none where it does not say.

    Args:
        origin (Mapping[str, Any]): What it says of how it came about.

    Example:
        >>> sorted(sources_of({"data": "ZeroShot/Visa+MVTecAD.bottle-to-BTech"}))
        ['MVTecAD', 'Visa']
        >>> sources_of({"data": "MVTecAD/bottle"})
        {'MVTecAD'}
    """
    found: set[str] = set()
    for datamodule in (str(origin[key]) for key in ("data", "calibrated_on") if key in origin):
        name, _, category = datamodule.partition("/")
        names = category.partition("-to-")[0].split("+") if name == ZeroShot.__name__ else [name]
        found |= {name.partition(".")[0] for name in names}
    return found


def label_of(datamodule: AnomalibDataModule) -> str:
    """Name of a data set as it stands in names of results' folders and in adapters."""
    return datamodule.name.replace("/", "-").replace("\\", "-")


def _label(datamodules: list[AnomalibDataModule], categories: list[str] | None) -> list[str]:
    single = f".{categories[0]}" if categories is not None and len(categories) == 1 else ""
    return [label_of(datamodule) + single for datamodule in datamodules]


def _names(classes: list[OneClass]) -> list[str]:
    """One for each class: its category, with the data set where several share it, and a number where those do, too."""
    names = [one.category for one in classes]
    names = [name if names.count(name) == 1 else str(one) for name, one in zip(names, classes, strict=True)]
    return [
        name if names.count(name) == 1 else f"{name} {names[: place + 1].count(name)}"
        for place, name in enumerate(names)
    ]


def _keep_apart(tested: AnomalibDataset, *learned: AnomalibDataset) -> None:
    """Refuse images of the target in the source: by file, so that links and other spellings do not hide them."""
    files = {_file(path) for path in tested.samples.image_path}
    shared = [
        (path, category)
        for data in learned
        for path, category in zip(data.samples.image_path, data.samples.category, strict=True)
        if _file(path) in files
    ]
    if shared:
        classes = sorted({category for _, category in shared})
        msg = (
            f"{len(shared)} images are in source and target, {shared[0][0]} for one: testing on them would not be "
            f"zero-shot. Exclude their classes from the source (exclude_classes: [{', '.join(classes)}]) or choose "
            "other data."
        )
        raise ValueError(msg)


def _file(path: str) -> tuple[int, int] | str:
    """What a file is told by, under all its names."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a hundred thousand of these
    except FileNotFoundError:  # a picture that is made, or part of one
        return os.path.realpath(path)
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)  # some drives have no numbers
