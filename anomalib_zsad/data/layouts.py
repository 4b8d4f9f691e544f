# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""How public data sets lie on disk: from a folder to a list of images, each with its masks, split, class and defect.

Rules for all sets:

* A mask belongs to the image whose name it carries (``000.png`` and ``000_mask.png``), never to the one at the same
  position of a sorted list: one missing file would shift all that follow.
* Upper and lower case, and the kind of picture file, do not matter.
* In a mask every pixel above 0 is marked, so that label pictures of 0 and 1 work; in a JPEG mask, where compression
  leaves traces around the edges, every pixel above 127. Of a coloured mask the brightest channel counts.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageChops

from anomalib_zsad.data.words import unnumbered
from anomalib_zsad.pictures import is_deep, open_file

Split = Literal["train", "test"]

GOOD = frozenset({"good", "ok"})
_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_LOSSY = frozenset({".jpeg", ".jpg"})
_AFFIX = re.compile(r"[ _-]+(?:mask|gt|label|segmentation)\d*$", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """One image of a data set.

    Attributes:
        image (Path): The file.
        split (str): ``"train"`` or ``"test"``.
        category (str): Class, as the data set spells it.
        defect (str): Kind of defect, as the data set spells it; ``""`` for a normal image.
        masks (tuple[Path, ...]): Mask files, to be united; empty if there is none.
        box (tuple[int, int, int, int] | None): Left, top, right, bottom of the part that is meant, ``None`` for all.
    """

    image: Path
    split: Split
    category: str
    defect: str
    masks: tuple[Path, ...] = ()
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Layout:
    """A data set: what it holds, and how to list it.

    Attributes:
        name (str): Class name of its datamodule.
        title (str): What the literature calls it.
        categories (tuple[str, ...]): Classes.
        read (Callable): From the data set's folder and a class to its entries.
        counts (Mapping): Published numbers of normal and anomalous images of each split, all classes together. Empty
            where there is no number to rely on.
        tree (str): What the folder must look like.
        home (str): Where to get it.
        licence (str): Its terms, as far as its makers state them.
        nested (tuple[str, ...]): Folders in which archives put it.
        hints (tuple[str, ...]): Parts of folder names that tell it from sets of the same layout.
        groups (Mapping): Names for some of the classes.
        tiled (bool): Whether its images are strips that are cut into squares (:func:`cut`).
        masks (bool): Whether its anomalies are annotated.
        unmasked (tuple[str, ...]): Classes whose anomalies are not, where those of others are.
        odd (tuple[str, ...]): Images (names without suffix) whose mask is missing or empty as published.
    """

    name: str
    title: str
    categories: tuple[str, ...]
    read: Callable[[Path, str], Iterable[Entry]]
    counts: Mapping[str, tuple[int, int]]
    tree: str
    home: str
    licence: str
    nested: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tiled: bool = False
    masks: bool = True
    unmasked: tuple[str, ...] = ()
    odd: tuple[str, ...] = ()

    def holds(self, place: Path) -> bool:
        """Whether a folder has this form, and any image."""
        return place.is_dir() and any(True for category in self.categories for _ in self.read(place, category))

    def find(self, root: Path) -> Path | None:
        """The data set's folder: ``root`` or one of its known sub-folders; ``None`` if it is in neither."""
        return next(filter(self.holds, (root, *(child(root, name) for name in self.nested))), None)

    def entries(self, root: Path | str, categories: Collection[str] | None = None) -> list[Entry]:
        """List the images, whole strips where there are strips.

        Args:
            root (Path | str): The data set's folder.
            categories (Collection[str] | None): Classes; all by default. A folder's name will do, too.

        Raises:
            FileNotFoundError: If the folder does not look like this data set; the message shows what it should be.
        """
        place = self.find(Path(root))
        if place is None:
            what = "the folder does not look like it" if Path(root).is_dir() else "there is no such folder"
            msg = (
                f"{self.name} ({self.title}) was expected at {Path(root)}, but {what}. Nothing is downloaded: get it "
                f"at {self.home} ({self.licence}), and give a folder of this form as root:\n{self.tree}"
            )
            raise FileNotFoundError(msg)
        found = [entry for category in categories or self.categories for entry in self.read(place, category)]
        if not found:
            msg = f"{self.name} at {place} has no images of {', '.join(categories or self.categories)}."
            raise FileNotFoundError(msg)
        return found

    def facts(self) -> str:
        """Layout, counts, source and terms, for docstrings."""
        tree = "\n".join(f"    {line}" for line in self.tree.splitlines())
        counts = "; ".join(
            f"{split} {normal} normal and {anomalous} anomalous" for split, (normal, anomalous) in self.counts.items()
        )
        return (
            f"Layout of ``root``::\n\n{tree}\n\nImages: {counts or 'no published number'}.\n\n"
            f"Source: {self.home}. Nothing is downloaded.\n\nTerms: {self.licence}."
        )


# ---- files ---------------------------------------------------------------------------------------------------------


def images(folder: Path) -> list[Path]:
    """Picture files directly in a folder, sorted; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.name[0] != ".")


def folders(folder: Path) -> list[Path]:
    """Sub-folders, sorted; none if there is no such folder."""
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def child(folder: Path, *names: str) -> Path:
    """The sub-folder of one of these names, whatever its case or a number before it (``01Gorilla``).

    If there is none, a path that does not exist.
    """
    wanted = {name.lower() for name in names}
    for strip in (False, True):
        for path in folders(folder):
            if (unnumbered(path.name) if strip else path.name).lower() in wanted:
                return path
    return folder / names[0]


def key(path: Path) -> str:
    """What an image and its mask have in common: the name without ``_mask``, ``_GT``, ``_label``, ``_Segmentation``."""
    return _AFFIX.sub("", path.stem).lower()


def masks_in(*places: Path) -> dict[str, tuple[Path, ...]]:
    """Masks in folders, by what they share with their images."""
    found: dict[str, tuple[Path, ...]] = {}
    for place in places:
        for path in images(place):
            found[key(path)] = (*found.get(key(path), ()), path)
    return found


def marks_of(image: Image.Image, path: Path) -> np.ndarray:
    """Which pixels of a mask file are marked, ``(H, W)``."""
    if is_deep(image):
        values = np.asarray(image)
    elif image.mode in {"1", "L"}:
        values = np.asarray(image.convert("L"))
    else:  # grey would round dark colours to black
        values = np.asarray(reduce(ImageChops.lighter, image.convert("RGB").split()))
    return values > (127 if path.suffix.lower() in _LOSSY else 0)


def read_marks(masks: Iterable[Path]) -> np.ndarray | None:
    """Unite masks.

    Args:
        masks (Iterable[Path]): Mask files of one image.

    Returns:
        np.ndarray | None: Boolean, shape ``(H, W)``; ``None`` without masks.

    Raises:
        OSError: If a mask cannot be read; the message names the file.
        ValueError: If the masks differ in size.
    """
    united: np.ndarray | None = None
    for path in masks:
        try:
            with open_file(path) as file:
                marks = marks_of(file, path)
        except Exception as error:  # what Pillow's decoders raise is an open list
            msg = f"Cannot read mask {path}: {error}. Replace or remove the file."
            raise OSError(msg) from error
        if united is not None and united.shape != marks.shape:
            msg = f"Mask {path} is of another size than the other mask of the same image."
            raise ValueError(msg)
        united = marks if united is None else united | marks
    return united


def is_marked(masks: Iterable[Path]) -> bool:
    """Whether the masks mark anything."""
    marks = read_marks(masks)
    return marks is not None and bool(marks.any())


def cut(entry: Entry) -> list[Entry]:
    """Cut a strip into squares as high as the strip is wide, or the other way round.

    The squares are spread evenly from end to end; where the length is no multiple of the side, neighbours overlap. A
    square is anomalous if the mask marks one of its pixels. Of an anomalous strip without marks nothing is known of the
    squares, and none are given.
    """
    with Image.open(entry.image) as file:
        width, height = file.size
    side, long = min(width, height), max(width, height)
    count = -(-long // side)
    starts = [round(index * (long - side) / max(count - 1, 1)) for index in range(count)]
    boxes = [(s, 0, s + side, side) if width > height else (0, s, side, s + side) for s in starts]
    marks = read_marks(entry.masks)
    if entry.defect and (marks is None or not marks.any()):
        return []
    if marks is not None and marks.shape != (height, width):
        msg = f"Mask {entry.masks[0]} has not the size of its image {entry.image}."
        raise ValueError(msg)
    squares = []
    for left, top, right, bottom in boxes:
        marked = marks is not None and bool(marks[top:bottom, left:right].any())
        square = replace(entry, box=(left, top, right, bottom))
        squares.append(square if marked else replace(square, defect="", masks=()))
    return squares


# ---- layouts that several data sets share --------------------------------------------------------------------------


def mvtec(root: Path, category: str) -> Iterator[Entry]:
    """``<class>/{train/good,test/{good,<defect>},ground_truth/<defect>}``; ``ok`` may stand for ``good``."""
    home = child(root, category)
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        for folder in folders(child(home, split)):
            normal = folder.name.lower() in GOOD
            masks = {} if normal else masks_in(child(child(home, "ground_truth"), folder.name))
            for image in images(folder):
                yield Entry(image, split, category, "" if normal else folder.name, masks.get(key(image), ()))


def pairs(image_folders: tuple[str, ...], mask_folders: tuple[str, ...]) -> Callable:
    """A folder of images that all show something, and one of their masks."""

    def read(root: Path, category: str) -> Iterator[Entry]:
        masks = masks_in(child(root, *mask_folders)) if child(root, *mask_folders).is_dir() else None
        if masks is None:
            return
        for image in images(child(root, *image_folders)):
            yield Entry(image, "test", category, "anomaly", masks.get(key(image), ()))

    return read


def yes_and_no(root: Path, category: str) -> Iterator[Entry]:
    """``{yes,no}/``, without masks."""
    places = child(root, "no"), child(root, "yes")
    if all(place.is_dir() for place in places):
        for place, defect in zip(places, ("", "tumor"), strict=True):
            for image in images(place):
                yield Entry(image, "test", category, defect)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a table; names and values without the blanks around them."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        return [{str(k).strip().lower(): str(v or "").strip() for k, v in row.items() if k is not None} for row in rows]
