# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""The index files with which the field's code finds its images: ``meta.json`` in its variants, and jsonl."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from anomalib_zsad.data.field import FieldDataModule
from anomalib_zsad.data.layouts import GOOD, Entry, Split, key

_SPLITS: dict[str, Split] = {"train": "train", "test": "test"}
_IMAGE, _MASK = ("img_path", "image_path"), ("mask_path",)
_CLASS, _LABEL = ("cls_name", "product_cls", "class_name"), ("anomaly", "label")
_DEFECT = ("specie_name", "defect_cls")


def find_indexes(root: Path) -> list[Path]:
    """The index files of a folder: ``meta.json``, or else every ``meta_*.json`` and ``*.jsonl``."""
    if (root / "meta.json").is_file():
        return [root / "meta.json"]
    return sorted([*root.glob("meta_*.json"), *root.glob("*.jsonl")]) if root.is_dir() else []


def find_index(root: Path) -> Path:
    """The only index file of a folder.

    Raises:
        FileNotFoundError: If there is none, or there are several.
    """
    found = find_indexes(root)
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found) or "none"
    msg = (
        f"An index file (meta.json, meta_<set>.json or *.jsonl) was expected in {root}; it has {names}. Name it: index."
    )
    raise FileNotFoundError(msg)


def read_index(path: Path, root: Path) -> list[Entry]:
    """List the images of an index file.

    Args:
        path (Path): The file.
        root (Path): Folder that the paths in it are relative to.

    Returns:
        list[Entry]: The images; training images that are tested, too, are left out.

    Raises:
        ValueError: If the file cannot be understood, or masks belong to other images.
        FileNotFoundError: If images or masks that it names do not exist.
    """
    records = list(_records(path))
    if not records:
        msg = f"{path} names no images."
        raise ValueError(msg)
    place = _Places(root)
    entries = [_entry(record, split, category, place, path) for split, category, record in records]
    tested = {entry.image for entry in entries if entry.split == "test"}
    entries = [entry for entry in entries if entry.split == "test" or entry.image not in tested]
    _refuse_missing(entries, path)
    _refuse_shifted(entries, path)
    return entries


def _records(path: Path) -> Iterator[tuple[Split, str, dict[str, Any]]]:
    """Split, class and record of every image, whatever the nesting."""
    text = path.read_text(encoding="utf-8-sig")
    try:
        if path.suffix == ".jsonl":
            index: Any = {"": [json.loads(line) for line in text.splitlines() if line.strip()]}
        else:
            index = json.loads(text)
    except json.JSONDecodeError as error:
        msg = f"{path} is no JSON: {error}."
        raise ValueError(msg) from error
    index = index if isinstance(index, dict) else {"": index}
    by_split = {str(name).lower(): classes for name, classes in index.items()}
    if not by_split.keys() <= _SPLITS.keys():  # {class: [...]}: no level of splits, all is test
        by_split = {"test": index}
    for split, classes in by_split.items():
        for name, records in (classes if isinstance(classes, dict) else {"": classes}).items():
            for record in records if isinstance(records, list) else (records,):
                if not isinstance(record, dict):
                    msg = f"{path} is no index: {str(record)[:80]!r} stands where an entry should."
                    raise ValueError(msg)  # noqa: TRY004 - the file is wrong, not the code
                category = _value(record, _CLASS) or name
                yield _SPLITS[split], str(category or "object"), record


def _value(record: dict[str, Any], names: Sequence[str]) -> Any:
    return next((record[name] for name in names if record.get(name) is not None), None)


def _entry(record: dict[str, Any], split: Split, category: str, place: "_Places", path: Path) -> Entry:
    image, label, kind = _value(record, _IMAGE), _value(record, _LABEL), _value(record, _DEFECT)
    kind = "+".join(map(str, kind)) if isinstance(kind, list) else str(kind or "").strip()
    if not image or (label is None and not kind):
        msg = f"{path} has an entry without {' or '.join(_IMAGE if not image else _LABEL)}: {json.dumps(record)[:200]}."
        raise ValueError(msg)
    try:
        anomalous = bool(int(label)) if label is not None else kind.lower() not in GOOD
    except (TypeError, ValueError) as error:
        msg = f"{path} has an entry labelled {label!r}; expected are 0, normal, and 1: {json.dumps(record)[:200]}."
        raise ValueError(msg) from error
    defect = (kind if kind.lower() not in GOOD | {""} else "anomaly") if anomalous else ""
    mask = str(_value(record, _MASK) or "").strip()
    masks: tuple[Path, ...] = ()
    if anomalous and mask and "no_gt" not in mask:
        found = place.of(mask)
        masks = () if found.is_dir() else (found,)  # "" joined to the root is the root, and some files have that
    return Entry(place.of(str(image)), split, category, defect, masks)


class _Places:
    """From paths as written, perhaps on another computer, to files below ``root``.

    A path that does not exist below ``root`` loses as many of its first parts as are needed for the first such image;
    the same number is tried for the others of its kind, absolute or relative. So the index of a moved data set, or of
    one whose paths begin with the name of its folder, can be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.dropped: dict[str, int] = {}

    def of(self, written: str) -> Path:
        pure = PureWindowsPath(written) if "\\" in written else PurePosixPath(written)
        if pure.is_absolute() and Path(written).exists():
            return Path(written)
        parts = pure.parts
        kind = pure.anchor
        for drop in (self.dropped[kind],) if kind in self.dropped else range(bool(kind), max(len(parts), 1)):
            path = self.root.joinpath(*parts[drop:])
            if parts[drop:] and path.is_file():
                self.dropped[kind] = drop
                return path
        return self.root.joinpath(*parts[bool(kind) :]) if parts else self.root


def _refuse_missing(entries: list[Entry], path: Path) -> None:
    missing = [file for entry in entries for file in (entry.image, *entry.masks) if not file.is_file()]
    if missing:
        msg = (
            f"{path} names {len(missing)} files that do not exist, {missing[0]} for one. Give the folder that its "
            "paths are relative to as root."
        )
        raise FileNotFoundError(msg)


def _refuse_shifted(entries: list[Entry], path: Path) -> None:
    """Refuse masks that carry the name of another image of the same folder: they were paired by position."""
    names = {(entry.image.parent, key(entry.image)) for entry in entries}
    shifted = [
        entry
        for entry in entries
        for mask in entry.masks
        if key(mask) != key(entry.image) and (entry.image.parent, key(mask)) in names
    ]
    if shifted:
        first = shifted[0]
        msg = (
            f"{path} gives {len(shifted)} images the mask of another image: {first.image.name} has "
            f"{first.masks[0].name}, for one. It was made by position in a sorted list; make it again by name."
        )
        raise ValueError(msg)


class MetaJson(FieldDataModule):
    """Data of an index file, as the repositories of AnomalyCLIP, AdaCLIP, Bayes-PFL, AA-CLIP and DAPO use them.

    ====================  ============================================================================================
    AnomalyCLIP, AdaCLIP  ``meta.json`` in the data's folder: ``{"train": {class: [entry]}, "test": ...}`` with
                          ``img_path``, ``mask_path``, ``cls_name``, ``specie_name``, ``anomaly``
    Bayes-PFL             ``meta_<set>.json`` beside the data's folder, whose name begins the paths
    AA-CLIP, MoECLIP      jsonl: ``image_path``, ``mask_path``, ``class_name``, ``label``; all is test
    DAPO                  ``{class: [entry]}``; all is test; ``product_cls`` and ``defect_cls``
    ====================  ============================================================================================

    Names of splits may be capital. Paths may be relative to ``root``, begin with its name, or be absolute, also those
    of another computer. An empty mask path, one that is a folder, or one with ``no_gt`` in it says that there is none.
    An index that pairs images and masks by position is refused. All of this is for files made elsewhere: raw downloads
    have datamodules of their own.

    Args:
        root (Path | str | None): Folder that the paths are relative to. Defaults to ``None``: ``./datasets/MetaJson``.
        index (Path | str | None): The file, absolute or below ``root``. Defaults to ``None``: the one in ``root``.
        kwargs (Any): Those of :class:`~anomalib_zsad.data.field.FieldDataModule`; of the styles of class words, only
            ``"folder"`` (the file's words, cleaned) and ``"object"`` differ here.
    """

    def __init__(
        self,
        root: Path | str | None = None,
        index: Path | str | None = None,
        **kwargs: Any,
    ) -> None:
        self.index = index
        self._read: list[Entry] | None = None
        super().__init__(root, **kwargs)

    def _everything(self) -> list[Entry]:
        if self._read is None:
            self._read = read_index(self.root / self.index if self.index else find_index(self.root), self.root)
        return self._read

    @property
    def categories(self) -> tuple[str, ...]:
        """All classes of the file; none if it does not exist (a source need not, for testing)."""
        try:
            counts = Counter(entry.category for entry in self._everything())
        except FileNotFoundError:
            return ()
        return tuple(counts)

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Names for several classes."""
        return {"all": self.categories}

    @property
    def annotated(self) -> bool:
        """Whether the file names any mask."""
        return any(entry.masks for entry in self._everything())

    def folders_of(self, category: str) -> set[Path]:
        """Folders with images of a class: they tell it from a class of the same name in another index of this root."""
        return {entry.image.parent.resolve() for entry in self._everything() if entry.category == category}

    def entries(self) -> list[Entry]:
        """List the images of the classes asked for.

        Raises:
            FileNotFoundError: If the index, or a file that it names, does not exist.
            ValueError: If the index cannot be understood, or pairs masks with other images.
        """
        return [entry for entry in self._everything() if not self._wanted or entry.category in self._wanted]
