# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""A folder of photographs becomes tables, overlays and a report; what was done before is not done again.

The report's folder holds

* ``results.jsonl``: a line for each image, written as soon as it is done;
* ``results.csv``: the same as a table, with the first region only;
* ``overlays/``: every image under its heat, with outlines, boxes and verdict;
* ``report.html``: the gallery, one file that needs nothing else;
* ``gallery.jsonl`` and ``run.json``: what the report shows of each image, and which model made it, of which
  photographs.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from anomalib_zsad.deploy.detector import Detection, Detector, Unreadable
from anomalib_zsad.deploy.drawing import embedded, overlay
from anomalib_zsad.deploy.folders import find_images
from anomalib_zsad.deploy.journal import Journal
from anomalib_zsad.deploy.report import write_report
from anomalib_zsad.deploy.report_folder import FILES, FORMAT, MARKER, OVERLAYS, locked, read_run, refuse_foreign
from anomalib_zsad.files import whole

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, Counter[str]], None]
COLUMNS = (
    "image", "verdict", "score", "regions", "left", "top", "right", "bottom", "type", "type_score", "uncertainty",
    "width", "height", "note",
)  # fmt: skip

LONGEST_NAME = 240
"""Bytes of an image's name that leave room for what is put behind it; the overlays of longer ones are shortened."""


def fingerprint(model: Path) -> str:
    """Sha256 of a model file and of the files with its weights."""
    digest = hashlib.sha256()
    for path in sorted({model, model.with_suffix(".bin"), model.with_name(model.name + ".data")}):
        if path.is_file():
            with path.open("rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
    return digest.hexdigest()


def images_of(photos: Path, report: Path | None = None) -> dict[str, Path]:
    """Images of a folder, or the one file, by their names in results.

    Raises:
        FileNotFoundError: If there is no such folder or file.
        ValueError: If there are no images in it, or it is the folder of a report.
    """
    if not photos.exists():
        msg = f"{photos} does not exist."
        raise FileNotFoundError(msg)
    if not photos.is_dir():
        return {photos.name: photos}
    found = {path.relative_to(photos).as_posix(): path for path in find_images(photos, leave_out=report)}
    if not found:
        msg = f"{photos} has no images."
        raise ValueError(msg)
    return found


def record_of(image: str, result: Detection | Unreadable) -> dict[str, Any]:
    """What is written down of a result: plain data."""
    if isinstance(result, Unreadable):
        return {"image": image, "verdict": "unreadable", "note": result.reason}
    regions = [
        {"box": region.box, "area": region.area, "score": round(region.score, 6), "type": region.type}
        for region in result.regions
    ]
    return {
        "image": image,
        "verdict": "anomalous" if result.anomalous else "normal",
        "score": round(result.score, 6),
        "regions": regions,
        "types": {name: round(score, 6) for name, score in result.types},
        "uncertainty": None if result.uncertainty is None else round(float(result.uncertainty.max()), 6),
        "width": result.size[0],
        "height": result.size[1],
        "note": result.note,
    }


def inspect(
    detector: Detector, images: dict[str, Path], folder: Path, run: dict[str, Any], gallery: int, progress: Progress
) -> Counter[str]:
    """Detect in images and write everything about it to a folder.

    Images that the folder has results for are skipped if neither they nor ``run`` have changed, so that the same call
    after an interruption goes on where it stopped. Unreadable images are tried again. If ``run`` has changed, what the
    folder held is removed, with a warning.

    Args:
        detector (Detector): Best with ``throughput=True``.
        images (dict[str, Path]): Files by name.
        folder (Path): Where to write.
        run (dict[str, Any]): What results depend on, besides the image, and where images are: plain data.
        gallery (int): The report shows this many images, those of the highest scores.
        progress (Progress): Called with the number of images done, of all images, and the verdicts so far.

    Returns:
        Counter[str]: Number of images by verdict: ``anomalous``, ``normal``, ``unreadable``.

    Raises:
        ValueError: If the folder has files of others that would be replaced.
        BlockingIOError: If another run is writing to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    refuse_foreign(folder)
    with ExitStack() as stack:
        stack.enter_context(locked(folder))
        _start_over_if_changed(folder, run)
        results = stack.enter_context(Journal(folder / "results.jsonl"))
        shown = stack.enter_context(Journal(folder / "gallery.jsonl"))
        stamps = {image: _stamp(path) for image, path in images.items()}
        verdicts: Counter[str] = Counter()
        todo = {}
        for image, path in images.items():
            if _is_done(image, stamps[image], results, shown, folder):
                verdicts[results[image]["verdict"]] += 1
            else:
                todo[path] = image
        progress(sum(verdicts.values()), len(images), verdicts)
        for result in detector.scan(todo):
            image = todo[result.path or Path()]
            if isinstance(result, Detection):
                _save_overlay(result, detector.type_names, _overlay_path(folder, image))
                shown.append({"image": image, **embedded(result)})
            record = {**record_of(image, result), **stamps[image]}
            results.append(record)
            verdicts[record["verdict"]] += 1
            progress(sum(verdicts.values()), len(images), verdicts)
        results.compact(images)
        records = [results[image] for image in images]
        _write_table(folder / "results.csv", records)
        readable = [record for record in records if record["verdict"] != "unreadable"]
        best = sorted(readable, key=lambda record: -record["score"])[:gallery]
        shown.compact(record["image"] for record in readable)
        facts = {"model": detector.facts, "threshold": detector.threshold, "pixel_threshold": detector.pixel_threshold}
        cards: Iterator[dict[str, Any]] = (  # names that are numbers would lose their order as keys of an object
            {**record, "types": list(record["types"].items()), **shown[record["image"]]} for record in best
        )
        write_report(folder / "report.html", facts, detector.type_names, records, cards)
    return verdicts


def _start_over_if_changed(folder: Path, run: dict[str, Any]) -> None:
    before, now = read_run(folder), {MARKER: FORMAT, **run}
    if before == now:
        return
    if before is not None:
        changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        told = "; ".join(
            "the model is another" if name == "model" else f"{name} was {before.get(name)!r}, is {now.get(name)!r}"
            for name in changed
        )
        logger.warning("The results in %s are replaced: %s.", folder, told)
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
        if (folder / OVERLAYS).is_dir():
            shutil.rmtree(folder / OVERLAYS)
    with whole(folder / "run.json") as partial:
        partial.write_text(json.dumps(now), encoding="utf-8")


def _stamp(path: Path) -> dict[str, int]:
    try:
        status = path.stat()
    except OSError:
        return {}
    return {"bytes": status.st_size, "modified": status.st_mtime_ns}


def _is_done(image: str, stamp: dict[str, int], results: Journal, shown: Journal, folder: Path) -> bool:
    if image not in results or image not in shown or not _overlay_path(folder, image).is_file():
        return False
    record = results[image]
    return record["verdict"] != "unreadable" and {name: record.get(name) for name in stamp} == stamp


def _overlay_path(folder: Path, image: str) -> Path:
    parent, _, name = image.rpartition("/")
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = f"{os.fsencode(name)[:200].decode(errors='ignore')}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
    return folder / OVERLAYS / parent / f"{name}.jpg"  # behind the whole name: a.png and a.jpg are two images


def _save_overlay(result: Detection, type_names: tuple[str, ...], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()  # writing to a file, Pillow takes no notice of a disk that is full at its last block
    overlay(result, type_names).save(content, "JPEG", quality=88)
    with whole(path) as partial:
        partial.write_bytes(content.getvalue())


def _write_table(path: Path, records: list[dict[str, Any]]) -> None:
    with whole(path) as partial, partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(map(_row, records))


def _row(record: dict[str, Any]) -> dict[str, Any]:
    row = {name: record[name] for name in COLUMNS if record.get(name) is not None}
    if record["verdict"] == "unreadable":
        return row
    row["regions"] = len(record["regions"])
    if record["regions"]:
        row |= zip(("left", "top", "right", "bottom"), record["regions"][0]["box"], strict=True)
    if record["types"]:
        row["type"], row["type_score"] = next(iter(record["types"].items()))
    return row
