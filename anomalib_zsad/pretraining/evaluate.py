# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What a small CLIP is worth: text prompts alone, a linear adapter and trained methods, beside controls that know less.

Everything is trained on the classes and defects that ``SyntheticSurfaces`` calls seen, and tested at the backbone's
native size on the four pairings of seen and unseen ones and, where they lie at hand, on real photographs. Three
controls stand beside every figure: the naive one (how much a picture differs from its own blur), a random tower, and a
random tower whose first layer is the one that the training starts from.
"""

from __future__ import annotations

import functools
import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from anomalib_zsad.clip.weights import clip_config, load_clip, weights_digest
from anomalib_zsad.metrics import evaluate
from anomalib_zsad.metrics.report import METRICS
from anomalib_zsad.pretraining.detectors import (
    ARGUMENTS,
    Detect,
    blur_difference,
    dct_tower,
    linear_adapter,
    text_alone,
    trained,
)
from anomalib_zsad.pretraining.picture_sets import PictureSet, generated_sets, generated_training, real_sets


@dataclass(frozen=True)
class Plan:
    """What is evaluated.

    Attributes:
        backbone (str): Name of the backbone.
        pretrained (str | None): Its weights.
        methods (tuple[str, ...]): Methods to train.
        seeds (tuple[int, ...]): One training each.
        images (int): Generated pictures to train on.
        epochs (int): How often they are seen.
        test_images (int): Pictures in each generated test set.
        real (Path | None): Folder of real test sets.
        image_size (int | None): Side of all pictures; ``None`` is the backbone's native size.

    Raises:
        ValueError: If a method does not exist.
    """

    backbone: str = "surfaces-tiny"
    pretrained: str | None = None
    methods: tuple[str, ...] = tuple(ARGUMENTS)
    seeds: tuple[int, ...] = (0, 1, 2)
    images: int = 640
    epochs: int = 2
    test_images: int = 480
    real: Path | None = None
    image_size: int | None = None

    def __post_init__(self) -> None:
        """Check names before the first detector is measured."""
        if unknown := [method for method in self.methods if method not in ARGUMENTS]:
            msg = f"methods: there is no {', '.join(unknown)}; choose from {', '.join(ARGUMENTS)}."
            raise ValueError(msg)

    @property
    def size(self) -> int:
        """Side of all pictures."""
        return self.image_size or clip_config(self.backbone).vision.image_size


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name (str): What it shows.
        seed (int): Seed of the training.
        weights (str): :func:`weights_digest` of its tower; ``-`` without one.
        images (int): Pictures that it was trained on.
        epochs (int): How often they were seen.
        make (Callable[[], Detect]): Makes the detector.
    """

    name: str
    seed: int
    weights: str
    images: int
    epochs: int
    make: Callable[[], Detect]


def rows(plan: Plan, folder: Path) -> list[Row]:
    """All rows; files that they need are written to ``folder``."""
    towers = {
        plan.backbone: plan.pretrained,
        "random tower": "random:0",
        "random tower, DCT layer": dct_tower(plan.backbone, folder, seed=0),
    }
    found = [Row("blur difference", 0, "-", 0, 0, lambda: blur_difference)]
    for tower, weights in towers.items():
        clip = functools.partial(load_clip, plan.backbone, weights, image_size=plan.size)
        digest, images, epochs = weights_digest(plan.backbone, weights), plan.images, plan.epochs
        found += [
            Row(f"text alone, {tower}", 0, digest, 0, 0, lambda clip=clip: text_alone(clip())),  # type: ignore[misc]
            Row(
                f"linear adapter, {tower}",
                0,
                digest,
                images,
                1,
                lambda clip=clip: linear_adapter(clip(), generated_training(plan.images, plan.size)),  # type: ignore[misc]
            ),
        ]
        for method in plan.methods:
            start = functools.partial(trained, method, plan.backbone, weights, images=images, size=plan.size)
            if tower == plan.backbone:
                make = functools.partial(start, seed=0, epochs=0)
                found.append(Row(f"{method} untrained, {tower}", 0, digest, 0, 0, make))
            for seed in plan.seeds if tower == plan.backbone else plan.seeds[:1]:
                make = functools.partial(start, seed=seed, epochs=epochs)
                found.append(Row(f"{method}, {tower}", seed, digest, images, epochs, make))
    return found


OF_ROW = ("weights", "image_size", "images", "epochs")
OF_SET = ("test_images",)
KEY = ("detector", "seed", "test_set", *OF_ROW, *OF_SET)
"""Columns of the table that decide a line's metrics; :class:`Row` and :class:`PictureSet` say what they are."""


def measure(detect: Detect, test: PictureSet) -> dict[str, float]:
    """Six metrics, per class and then the mean, as everywhere in this package."""
    scores, labels, maps, masks, words = [], [], [], [], []
    for batch in test.batches():
        score, anomaly_map = detect(batch.images, batch.words)
        scores.append(score)
        labels.append(batch.labels)
        words += batch.words
        if batch.masks is not None:
            maps.append(anomaly_map)
            masks.append(batch.masks)
    planes = torch.cat(maps) if maps else None
    known = torch.cat(masks) if masks else None
    return evaluate(torch.cat(scores), torch.cat(labels), planes, known, words).mean


def cell(values: Sequence[dict[str, float]]) -> str:
    """``image / pixel`` AUROC in percent; with several runs the mean and the spread (standard deviation) of each."""
    parts = []
    for metric in ("image_AUROC", "pixel_AUROC"):
        found = [100 * value[metric] for value in values if not math.isnan(value.get(metric, math.nan))]
        spread = f"±{statistics.stdev(found):.1f}" if len(found) > 1 else ""
        parts.append(f"{statistics.mean(found):.1f}{spread}" if found else "-")
    return " / ".join(parts)


def markdown(results: pd.DataFrame) -> str:
    """Rows of detectors, columns of test sets; what makes several of one stands behind its name."""
    results = results.assign(
        detector=_told_apart(results, "detector", OF_ROW), test_set=_told_apart(results, "test_set", OF_SET)
    )
    sets = list(dict.fromkeys(results.test_set))
    lines = ["| | " + " | ".join(sets) + " |", "|---" * (len(sets) + 1) + "|"]
    for name in dict.fromkeys(results.detector):
        rows = results[results.detector == name]
        cells = [cell(rows[rows.test_set == one].to_dict("records")) for one in sets]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _told_apart(results: pd.DataFrame, name: str, columns: Sequence[str]) -> pd.Series:
    """Names, each followed by those columns that differ among its lines."""
    texts = results[name]
    for column in columns:
        several = results.groupby(name)[column].transform("nunique") > 1
        texts = texts.where(~several, texts + f", {column} " + results[column].astype(str))
    return texts


def _keys(table: Path) -> set[tuple]:
    """What a table holds already.

    Raises:
        ValueError: If it lacks columns, as those of earlier versions do.
    """
    if not table.exists():
        return set()
    results = pd.read_csv(table, dtype={"weights": str})
    if missing := [column for column in KEY if column not in results]:
        msg = (
            f"{table} has no column {', '.join(missing)}, so that nobody can tell what its figures were measured with. "
            "Add what is missing, or name another file."
        )
        raise ValueError(msg)
    return set(results[list(KEY)].itertuples(index=False, name=None))


def run(plan: Plan, table: Path) -> Iterator[tuple[str, int, str, dict[str, float]]]:
    """Measure every detector on every set; lines that ``table`` holds already are not measured again.

    Args:
        plan (Plan): What to measure.
        table (Path): CSV file, one line for each :data:`KEY`; it is appended to. Its folder is made.

    Yields:
        tuple[str, int, str, dict[str, float]]: Detector, seed, test set, metrics.

    Raises:
        ValueError: If there are no real sets where the plan has them, or the table is of another form.
    """
    sets = generated_sets(plan.test_images, plan.size) + (real_sets(plan.real, plan.size) if plan.real else [])
    done = _keys(table)
    table.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(plan, Path(folder)):
            of_row = (row.weights, plan.size, row.images, row.epochs)
            missing = {
                key: one for one in sets if (key := (row.name, row.seed, one.name, *of_row, one.count)) not in done
            }
            if not missing:
                continue
            detect = row.make()
            for key, one in missing.items():
                values = measure(detect, one)
                line = pd.DataFrame([dict(zip(KEY, key, strict=True)) | dict.fromkeys(METRICS) | values])
                line.to_csv(table, mode="a", header=not table.exists(), index=False)
                yield row.name, row.seed, one.name, values
