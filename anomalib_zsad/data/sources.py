# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""From what a user names as source or target to one datamodule per class.

How anomalib's data sets hold their classes (2.7):

===============================  ====================================================================================
MVTecAD, MVTecAD2, MVTecLOCO,    ``category`` is read when the data sets are made, so a copy with another one works;
Visa, BTech, MPDD, RealIAD,      the names are the ``CATEGORIES`` of the data set's module. AutoVI and RealIAD check
BMAD, VAD, AutoVI, Kaputt        the name, the others take any directory below ``root``
Kolektor, Datumaro               no category and no name of their own: one class, of which only "object" is known
Folder, Tabular                  no category: one class, called by its ``name``
===============================  ====================================================================================

A datamodule of another package says ``categories`` (a sequence of names) if it has several.
"""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from anomalib.data import AnomalibDataModule, AnomalibDataset, Datumaro, Folder, Tabular
from anomalib.data.datamodules.base.video import AnomalibVideoDataModule
from anomalib.data.errors import MisMatchError
from anomalib.data.utils import LabelName
from anomalib.data.utils.path import resolve_path
from omegaconf import DictConfig, ListConfig, OmegaConf
from torchvision.datasets.folder import IMG_EXTENSIONS

from anomalib_zsad.data.words import OBJECT, category_word, class_word

OWN_DATA = (Datumaro, Folder, Tabular)
"""Datamodules of a user's own images, which nobody has published a test split of."""

SHOWN = 5
"""How many files a message names."""


@dataclass(frozen=True)
class OneClass:
    """One class of a data set.

    Attributes:
        datamodule (AnomalibDataModule): A copy of the user's, bound to this class.
        source (str): Name of the data set.
        category (str): Name of the class, as the data set spells it.
        class_name (str): Class word.
    """

    datamodule: AnomalibDataModule
    source: str
    category: str
    class_name: str

    def datasets(self, split: str) -> list[AnomalibDataset]:
        """Make the data sets of a split.

        Uses anomalib's protected ``_setup``: ``setup`` would take half of the test split away for validation, or throw
        its normal images away, depending on options.

        The test split of a user's own images (:data:`OWN_DATA`) comes with the normal images of the training split if
        it has none itself, as ``Folder`` without ``normal_test_dir``: of a target nothing is trained on, and of a
        source everything may be. A published test split is never added to.

        Args:
            split (str): ``"test"``, ``"train"`` or ``"all"``.

        Raises:
            RuntimeError: If the data cannot be found or read; the message says which.
        """
        try:
            _set_up(self.datamodule)
        except Exception as error:
            msg = f"Cannot set up {self}: {error}"
            raise RuntimeError(msg) from error
        train, test = self.datamodule.train_data, self.datamodule.test_data
        if split == "train":
            return [train]
        if split == "all":
            return [train, test]
        if test.has_normal or not isinstance(self.datamodule, OWN_DATA):
            return [test]
        return [test, train.subsample(list(np.flatnonzero(train.samples.label_index == LabelName.NORMAL)))]

    def same_objects(self, other: OneClass) -> bool:
        """Whether both are the same category of the same data set, in whichever split."""
        if not self.datamodule.category or self._place != other._place or self.category != other.category:
            return False
        mine, others = self._folders, other._folders
        return not (mine and others) or not mine.isdisjoint(others)

    @property
    def _place(self) -> tuple[type, Path]:
        """What the data set is read from: folders are compared by where they are, not by how that is written."""
        return type(self.datamodule), Path(getattr(self.datamodule, "root", None) or "").resolve()

    @property
    def _folders(self) -> set[Path]:
        """Folders of the images, where one root may hold several data sets; empty where it holds one."""
        folders_of = getattr(self.datamodule, "folders_of", None)
        return folders_of(self.category) if folders_of else set()

    def __str__(self) -> str:
        """Data set and category."""
        return self.source if self.category == self.source else f"{self.source}/{self.category}"


def _set_up(datamodule: AnomalibDataModule) -> None:
    try:
        datamodule._setup()  # noqa: SLF001
    except (ValueError, MisMatchError) as error:
        if isinstance(datamodule, Folder) and (reason := _unpaired(datamodule)):
            raise ValueError(reason) from error
        raise


def _unpaired(datamodule: Folder) -> str:
    """Say which abnormal images of a folder have no mask: anomalib pairs both by order, and names none."""
    images, masks = _files(datamodule, datamodule.abnormal_dir), _files(datamodule, datamodule.mask_dir)
    folders = {path.parent.name for path in images} & {path.parent.name for path in masks}
    without = [
        str(image)
        for image in images
        # folders tell images of one name apart only if masks are sorted into them, too
        if not any(_names(mask, image) and (not folders or mask.parent.name == image.parent.name) for mask in masks)
    ]
    if not (masks and without):
        return ""
    others = f" and {len(without) - SHOWN} others" if len(without) > SHOWN else ""
    return (
        f"{len(without)} of {len(images)} images in abnormal_dir have no mask in mask_dir: "
        f"{', '.join(without[:SHOWN])}{others}. Add masks with their names, leave out mask_dir (then no image has a "
        "mask), or move these images to a folder of their own and give that as one more Folder, without mask_dir."
    )


def _names(mask: Path, image: Path) -> bool:
    """Whether a mask is called after an image, as ``000_mask`` after ``000``, but not ``10`` after ``1``."""
    return re.search(rf"(?<!\d){re.escape(image.stem)}(?!\d)", mask.stem) is not None


def _files(datamodule: Folder, folders: Any) -> list[Path]:
    several = folders if isinstance(folders, Sequence) and not isinstance(folders, str) else [folders]
    places = [resolve_path(folder, datamodule.root) for folder in several if folder is not None]
    suffixes = datamodule.extensions or IMG_EXTENSIONS
    return [file for place in places for file in sorted(place.rglob("*")) if file.suffix.lower() in suffixes]


def as_datamodules(value: Any, role: str) -> list[AnomalibDataModule]:
    """Read one or several datamodules.

    Args:
        value (Any): A datamodule, its class name, a mapping with ``class_path`` and ``init_args``, or a sequence of
            these; OmegaConf containers as well. ``None`` gives an empty list.
        role (str): What they are for, in messages: ``"source"`` or ``"target"``.

    Returns:
        list[AnomalibDataModule]: The datamodules, not set up.

    Raises:
        ValueError: If a name is unknown.
        TypeError: If it is something else.
    """
    if isinstance(value, DictConfig | ListConfig):
        value = OmegaConf.to_container(value, resolve=True)
    if value is None:
        return []
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [datamodule for entry in value for datamodule in as_datamodules(entry, role)]
    if isinstance(value, str):
        value = {"class_path": value}
    if isinstance(value, Mapping):
        value = _construct(value, role)
    if not isinstance(value, AnomalibDataModule) or isinstance(value, AnomalibVideoDataModule):
        msg = (
            f"{role} must be an anomalib image datamodule, its name, a mapping with class_path and init_args, or a "
            f"list of these, got {type(value).__name__}."
        )
        raise TypeError(msg)
    if type(value).__name__ == "ZeroShot":
        msg = f"{role} is a ZeroShot itself; give the datamodules that it is made of."
        raise TypeError(msg)
    return [value]


def _construct(config: Mapping[str, Any], role: str) -> AnomalibDataModule:
    everything = _subclasses(AnomalibDataModule)  # type: ignore[type-abstract]
    known = {cls.__name__: cls for cls in everything if not issubclass(cls, AnomalibVideoDataModule)}
    name = str(config.get("class_path", "")).rpartition(".")[2]
    if name not in known:
        names = ", ".join(sorted(known.keys() - {"ZeroShot"}))
        msg = (
            f"Unknown datamodule {config.get('class_path')!r} as {role}. Known are {names}. For a class of your own, "
            "give its dotted path on the command line, or import it first."
        )
        raise ValueError(msg)
    return known[name](**config.get("init_args") or {})


def _subclasses(cls: type[AnomalibDataModule]) -> Iterable[type[AnomalibDataModule]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def categories_of(datamodule: AnomalibDataModule) -> tuple[str, ...]:
    """Return the names of a data set's categories.

    Args:
        datamodule (AnomalibDataModule): The datamodule.

    Returns:
        tuple[str, ...]: From its ``categories`` attribute or the ``CATEGORIES`` of the module that has anomalib's data
        set; empty for a data set of one class.

    Example:
        >>> from anomalib.data import BTech, Kolektor
        >>> categories_of(BTech()), categories_of(Kolektor())
        (('01', '02', '03'), ())
    """
    if hasattr(datamodule, "categories"):
        return tuple(datamodule.categories)
    for cls in type(datamodule).__mro__:
        home = cls.__module__.replace(".datamodules.", ".datasets.")
        module = sys.modules.get(home) if home != cls.__module__ else None
        if names := getattr(module, "CATEGORIES", ()):
            return tuple(names)
    return ()


def classes_of(datamodules: Iterable[AnomalibDataModule], wanted: Collection[str] | None, role: str) -> list[OneClass]:
    """Split data sets into their classes.

    Args:
        datamodules (Iterable[AnomalibDataModule]): The data sets. Their own ``category`` does not matter.
        wanted (Collection[str] | None): Names of the classes to keep, or ``None`` for all. Besides the known ones,
            the name of a directory below the data set's ``root`` will do.
        role (str): What they are for, in messages.

    Returns:
        list[OneClass]: The classes, each with a datamodule of its own.

    Raises:
        ValueError: If a wanted name is unknown or no class is left.
    """
    classes: list[OneClass] = []
    for datamodule in datamodules:
        categories = categories_of(datamodule)
        own = {one for one in wanted or () if categories and one not in categories and _directory(datamodule, one)}
        classes += [_bind(datamodule, category) for category in (*categories, *sorted(own)) or (None,)]
    unknown = sorted(set(wanted or ()) - {one.category for one in classes})
    if unknown:
        names = ", ".join(one.category for one in classes)
        msg = f"Unknown {role}_categories {', '.join(unknown)}. The {role} has {names}."
        raise ValueError(msg)
    return [one for one in classes if wanted is None or one.category in wanted]


def _directory(datamodule: AnomalibDataModule, name: str) -> bool:
    root = getattr(datamodule, "root", None)
    return root is not None and (Path(root) / name).is_dir()


def _bind(datamodule: AnomalibDataModule, category: str | None) -> OneClass:
    clone = copy.copy(datamodule)
    if category is not None:
        clone.category = category
    own_word = getattr(clone, "class_word", None)  # data sets with a style of words
    word = own_word(category or clone.name) if callable(own_word) else word_of(clone)
    return OneClass(clone, clone.name, category or clone.name, word)


def word_of(datamodule: AnomalibDataModule) -> str:
    """Return the class word of a datamodule of one class.

    Its category, else the name a user gave it (``Folder``, ``Tabular``), else ``"object"``: the name of a class in the
    code is no word for what a picture shows.

    Example:
        >>> from anomalib.data import Kolektor, MVTecAD
        >>> word_of(MVTecAD(category="metal_nut")), word_of(Kolektor())
        ('metal nut', 'object')
    """
    name = "" if datamodule.name == type(datamodule).__name__ else datamodule.name
    return category_word(datamodule.category) if datamodule.category else class_word(name or OBJECT)
