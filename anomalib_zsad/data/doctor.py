# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Looks downloaded data through: which sets are there, and what is missing or odd about them."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from anomalib_zsad.data.known_sets import SETS
from anomalib_zsad.data.layouts import Entry, Layout, folders, marks_of
from anomalib_zsad.data.meta_json import find_indexes, read_index
from anomalib_zsad.pictures import open_file, tells_white

_SHOWN = 3  # files named for each finding
_DEPTH = 2  # folders below the one given


@dataclass
class Report:
    """What was found out about one data set.

    Attributes:
        name (str): Name of its datamodule; ``"?"`` if that cannot be told.
        place (Path): Its folder, or its index file.
        classes (int): Number of classes with images.
        counts (dict[str, tuple[int, int]]): Normal and anomalous images of each split.
        published (Mapping[str, tuple[int, int]]): The same, published.
        problems (list[str]): What is wrong.
        notes (list[str]): What is worth knowing.
    """

    name: str
    place: Path
    classes: int = 0
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    published: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _File:
    """What one look at a file told."""

    digest: bytes = b""
    size: tuple[int, int] = (0, 0)
    marked: bool = False
    fault: str = ""
    unclear: bool = False  # what white is, which matters for images, but not for masks


def examine(root: Path, name: str | None = None, *, quiet: bool = False) -> list[Report]:
    """Find the data sets in a folder, and look at all their files.

    Every image is decoded, and every file hashed, once. The folder itself and two levels below it are searched.

    Args:
        root (Path): The folder.
        name (str | None): What ``root`` is, if it cannot be told by itself. Defaults to ``None``.
        quiet (bool): No progress bar. Without a terminal there is none anyway. Defaults to ``False``.

    Returns:
        list[Report]: One for each data set and each index file, in the order of their places.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there is no data set of that name.
    """
    if not root.is_dir():
        msg = f"There is no folder {root}."
        raise FileNotFoundError(msg)
    if name is not None and name not in SETS:
        msg = f"There is no data set {name!r}; known are {', '.join(SETS)}."
        raise ValueError(msg)
    reports, listed = [], []
    for place, layouts in [(root, [SETS[name]])] if name else _recognised(root):
        report, entries = _list(place, layouts)
        reports.append(report)
        listed.append(entries)
    paths = [path for entries in listed for entry in entries for path in (entry.image, *entry.masks)]
    files = _look(paths, quiet=quiet)
    odd = {stem for layout in SETS.values() for stem in layout.odd}
    for report, entries in zip(reports, listed, strict=True):
        _check(report, entries, files, odd)
    _compare(reports, listed, files)
    return reports


# ---- recognising ---------------------------------------------------------------------------------------------------


def _recognised(root: Path) -> Iterator[tuple[Path, list[Layout]]]:
    """Folders, and what they may be; index files, with no layout."""
    level = [root]
    for _ in range(_DEPTH + 1):
        below: list[Path] = []
        for place in level:
            found = _candidates(place)
            if found:
                yield place, found
            indexes = find_indexes(place)
            yield from ((index, []) for index in indexes)
            if not found and not indexes:
                below += [path for path in folders(place) if not path.name.startswith(".")]
        level = below


def _candidates(place: Path) -> list[Layout]:
    found = [layout for layout in SETS.values() if _holds(layout, place)]
    hinted = [layout for layout in found if any(hint in _names(place) for hint in layout.hints)]
    if len(hinted) == 1 or len(found) < 2:
        return hinted or found
    full = {layout.name: len({entry.category for entry in _entries(layout, place)}) for layout in found}
    found = [layout for layout in found if full[layout.name] == max(full.values())]
    counted = [layout for layout in found if _counts(_entries(layout, place)) == dict(layout.counts)]
    return counted if len(counted) == 1 else found


def _holds(layout: Layout, place: Path) -> bool:
    try:
        return layout.holds(place)
    except (OSError, ValueError, KeyError):  # of this form, but broken
        return True


def _entries(layout: Layout, place: Path) -> list[Entry]:
    return [entry for category in layout.categories for entry in layout.read(place, category)]


def _names(place: Path) -> str:
    return "/".join(place.resolve().parts[-2:]).lower()


# ---- listing -------------------------------------------------------------------------------------------------------


def _list(place: Path, layouts: Sequence[Layout]) -> tuple[Report, list[Entry]]:
    if len(layouts) > 1:
        names = ", ".join(layout.name for layout in layouts)
        note = f"could be any of {names}: say which by --as, or name the folder after it"
        return Report("?", place, notes=[note]), []
    layout = layouts[0] if layouts else None
    report = Report(layout.name if layout else "MetaJson", place)
    try:
        entries = layout.entries(place) if layout else read_index(place, place.parent)
    except (OSError, ValueError, KeyError) as error:
        report.problems.append(f"cannot be listed: {error}")
        return report, []
    report.counts = _counts(entries)
    report.classes = len({entry.category for entry in entries})
    if layout:
        report.published = layout.counts
        _check_counts(report, layout, {entry.category for entry in entries})
    return report, entries


def _counts(entries: Iterable[Entry]) -> dict[str, tuple[int, int]]:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for entry in entries:
        counts[entry.split][bool(entry.defect)] += 1
    return {split: (normal, anomalous) for split, (normal, anomalous) in sorted(counts.items(), reverse=True)}


def _check_counts(report: Report, layout: Layout, present: set[str]) -> None:
    missing = [category for category in layout.categories if category not in present]
    if missing:
        report.problems.append(f"without {len(missing)} of {len(layout.categories)} classes: {', '.join(missing)}")
    elif not layout.counts:
        report.notes.append("no published counts to compare with")
    for split in () if missing else layout.counts:
        has = report.counts.get(split, (0, 0))
        if has != layout.counts[split]:
            should = _pair(layout.counts[split])
            report.problems.append(f"{split} has {_pair(has)} images (normal/anomalous), published are {should}")


# ---- looking at files ----------------------------------------------------------------------------------------------


def _look(paths: Iterable[Path], *, quiet: bool) -> dict[Path, _File]:
    unique = list(dict.fromkeys(paths))
    bar = tqdm(total=len(unique), desc="reading", unit=" files", disable=True if quiet else None, leave=False)
    with ThreadPoolExecutor(os.cpu_count()) as pool, bar:
        files = {}
        for path, file in zip(unique, pool.map(_read, unique), strict=True):
            files[path] = file
            bar.update()
    return files


def _read(path: Path) -> _File:
    try:
        with open_file(path) as image:
            marked = bool(marks_of(image, path).any())
            digest = hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
            return _File(digest, image.size, marked, unclear=not tells_white(image))
    except Exception as error:  # noqa: BLE001 - what Pillow's decoders raise is an open list
        return _File(fault=str(error) or type(error).__name__)


def _check(report: Report, entries: Sequence[Entry], files: Mapping[Path, _File], odd: set[str]) -> None:
    broken = [path for entry in entries for path in (entry.image, *entry.masks) if files[path].fault]
    _add(report.problems, broken, "cannot be read")
    unclear = [entry.image for entry in entries if files[entry.image].unclear]
    _add(report.problems, unclear, "refused, as 32 bits per channel do not say what white is")
    unmasked = SETS[report.name].unmasked if report.name in SETS else ()
    masked = any(entry.masks for entry in entries)
    bare = [e.image for e in entries if masked and e.defect and not e.masks and e.category not in unmasked]
    empty = [
        entry.image
        for entry in entries
        if entry.defect and entry.masks and not any(files[mask].marked or files[mask].fault for mask in entry.masks)
    ]
    for found, what in ((bare, "anomalous, but without mask"), (empty, "anomalous, but with an empty mask")):
        _add(report.problems, [path for path in found if path.stem not in odd], what)
        _add(report.notes, [path for path in found if path.stem in odd], f"{what}, as published")
    other = [
        mask
        for entry in entries
        for mask in entry.masks
        if not (files[mask].fault or files[entry.image].fault) and files[mask].size != files[entry.image].size
    ]
    _add(report.problems, other, "masks of another size than their images")
    _check_duplicates(report, entries, files)


def _check_duplicates(report: Report, entries: Sequence[Entry], files: Mapping[Path, _File]) -> None:
    same: dict[bytes, list[Entry]] = defaultdict(list)
    for entry in entries:
        if files[entry.image].digest:
            same[files[entry.image].digest].append(entry)
    groups = [group for group in same.values() if len(group) > 1]
    across = [group for group in groups if len({entry.split for entry in group}) > 1]
    contrary = [group for group in groups if len({bool(entry.defect) for entry in group}) > 1]
    copies = [entry.image for group in groups if group not in across for entry in group[1:]]
    _add(report.problems, [group[0].image for group in across], "in training and test split with the same content")
    _add(report.problems, [group[0].image for group in contrary], "normal and anomalous with the same content")
    _add(report.notes, copies, "exact copies of others in their split")


def _compare(reports: Sequence[Report], listed: Sequence[Sequence[Entry]], files: Mapping[Path, _File]) -> None:
    """Note images that two data sets share: to train on the one and test on the other would not be zero-shot."""
    digests = [{files[entry.image].digest for entry in entries} - {b""} for entries in listed]
    for later, report in enumerate(reports):
        for earlier in range(later):
            shared = len(digests[earlier] & digests[later])
            if shared and reports[earlier].place != report.place:
                report.notes.append(f"{shared} images are also in {reports[earlier].name} ({reports[earlier].place})")


def _add(lines: list[str], paths: Sequence[Path], what: str) -> None:
    if paths:
        shown = ", ".join(str(path) for path in paths[:_SHOWN])
        more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        lines.append(f"{len(paths)} {what}: {shown}{more}")


# ---- telling -------------------------------------------------------------------------------------------------------


def table(reports: Sequence[Report]) -> str:
    """Reports as text: a line for each data set, then what was found."""
    rows: list[tuple[str, ...]] = [
        ("data set", "classes", "train good/bad", "published", "test good/bad", "published", "", "folder")
    ]
    for report in reports:
        both = (report.counts, report.published)
        numbers = [_pair(counts.get(split)) for split in ("train", "test") for counts in both]
        state = "WRONG" if report.problems else "?" if report.name == "?" else "ok"
        rows.append((report.name, str(report.classes or "-"), *numbers, state, str(report.place)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for report in reports:
        found = [f"  wrong: {line}" for line in report.problems] + [f"  note:  {line}" for line in report.notes]
        lines += ["", f"{report.name} in {report.place}", *found] if found else []
    return "\n".join(lines)


def _pair(counts: tuple[int, int] | None) -> str:
    return "{}/{}".format(*counts) if counts else "-"
