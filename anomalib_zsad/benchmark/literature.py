# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Published numbers of CLIP-based zero-shot anomaly detection, and what they were measured with.

``published/results.csv`` has one number a line, in percent. ``table`` groups them by where they come from: 1.1 and 1.2
train on VisA (and on MVTec AD to test VisA), 1.3 and 1.4 the other way round, 1.5 leaves one category out, 1.6 is other
protocols, 1.7 the best number of each column, 1.8 the numbers that a reproduction should reach. ``data.csv`` says which
test images a data set's name stands for, ``recipes.csv`` how the numbers of this package's methods came about.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

Grade = Literal["P", "S", "I"]

METRICS = (
    "image_AUROC", "image_AP", "image_F1Max", "pixel_AUROC", "pixel_AP", "pixel_PRO", "pixel_F1Max",
)  # fmt: skip
CONVENTIONS = ("A", "B", "A or B", "leave-one-out", "other")
"""Training data of a number: A is VisA, and MVTec AD to test VisA; B is MVTec AD, and VisA to test MVTec AD."""
GRADES = {"P": "primary source", "S": "second-hand", "I": "inferred"}

_FIRST = ("1.1", "1.2", "1.3", "1.5")  # tables in which a method's own number is looked for


@dataclass(frozen=True)
class Number:
    """One published number.

    Attributes:
        table (str): Group of sources, see the module.
        convention (str): One of :data:`CONVENTIONS`.
        method (str): Name as published.
        variant (str): Who ran it or in which form, empty for a paper's own or its table's main entry.
        data (str): Data set, ``set/category``, or a mean over sets.
        metric (str): One of :data:`METRICS`.
        value (float): Percent.
        source (str): Paper, repository or log.
        grade (Grade): How it is known, see :data:`GRADES`.
    """

    table: str
    convention: str
    method: str
    variant: str
    data: str
    metric: str
    value: float
    source: str
    grade: Grade


@dataclass(frozen=True)
class DataSet:
    """The test images that a name in the tables stands for.

    Attributes:
        name (str): Name in the tables.
        class_path (str): Datamodule that reads the set.
        classes (int): Number of categories.
        normal (int | None): Normal test images, ``None`` where no source gives the number.
        anomalous (int | None): Anomalous test images.
    """

    name: str
    class_path: str
    classes: int
    normal: int | None
    anomalous: int | None


@dataclass(frozen=True)
class Recipe:
    """What a method's published numbers were measured with.

    Attributes:
        class_path (str): Model class.
        method (str): Name in the tables.
        variant (str): Variant of the numbers for which this recipe holds, empty for any.
        trained_on (str): Training data for which this recipe holds, empty for any.
        backbone (str): CLIP by open_clip's name.
        pretrained (str): Its weights.
        image_size (int): Side of the input in pixels.
        epochs (int | None): Epochs of training, ``None`` for a method without training.
        train_batch_size (int | None): Images in a training batch.
        class_words (str): Style of the class words, empty where the method has none or any will do.
        settings (Mapping[str, Any]): Options that differ from the model's defaults.
        auxiliary (Mapping[str, Any]): Arguments of ``ZeroShot`` that choose from the training data, empty for all of
            its test split. An anomaly more than published is the one that calibration takes.
    """

    class_path: str
    method: str
    variant: str
    trained_on: str
    backbone: str
    pretrained: str
    image_size: int
    epochs: int | None
    train_batch_size: int | None
    class_words: str
    settings: Mapping[str, Any]
    auxiliary: Mapping[str, Any]


def _rows(name: str) -> list[dict[str, str]]:
    with (Path(__file__).parent / "published" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@cache
def numbers() -> tuple[Number, ...]:
    """All published numbers.

    Example:
        >>> best = max((one for one in numbers() if one.data == "VisA" and one.table == "1.1"), key=lambda n: n.value)
        >>> best.method, best.metric, best.value
        ('Bayes-PFL', 'pixel_AUROC', 95.6)
    """
    return tuple(
        Number(**{**row, "value": float(row["value"])})  # type: ignore[arg-type]
        for row in _rows("results.csv")
    )


@cache
def data_sets() -> tuple[DataSet, ...]:
    """The data sets of the tables that a datamodule reads."""
    return tuple(
        DataSet(row["name"], row["class_path"], int(row["classes"]), _int(row["normal"]), _int(row["anomalous"]))
        for row in _rows("data.csv")
    )


@cache
def recipes() -> tuple[Recipe, ...]:
    """How the published numbers of the methods were measured."""
    return tuple(
        Recipe(
            row["class_path"],
            row["method"],
            row["variant"],
            row["trained_on"],
            row["backbone"],
            row["pretrained"],
            int(row["image_size"]),
            _int(row["epochs"]),
            _int(row["train_batch_size"]),
            row["class_words"],
            json.loads(row["settings"]),
            json.loads(row["auxiliary"]),
        )
        for row in _rows("recipes.csv")
    )


def recipe_of(class_path: str, trained_on: str, variant: str) -> Recipe | None:
    """Recipe of a model class for training data and variant by their names in the tables, if there are such numbers."""
    return next(
        (
            one for one in recipes()
            if one.class_path == class_path and one.trained_on in {"", trained_on} and one.variant in {"", variant}
        ),
        None,
    )  # fmt: skip


def find(method: str, convention: str, data: str, variant: str = "") -> dict[str, Number]:
    """A method's own numbers on a data set by metric, its paper's table before others.

    Args:
        method (str): Name in the tables.
        convention (str): One of :data:`CONVENTIONS`.
        data (str): Name in the tables.
        variant (str): Form of the method. Numbers that others measured have a variant, too, and are not found by "".

    Example:
        >>> {name: number.value for name, number in find("CoPS", "A", "HeadCT").items()}
        {'image_AUROC': 96.1, 'image_AP': 97.1}
    """
    found: dict[str, Number] = {}
    for number in _by_key().get((method, convention, data, variant), ()):
        found.setdefault(number.metric, number)
    return found


@cache
def _by_key() -> dict[tuple[str, ...], list[Number]]:
    own: dict[tuple[str, ...], list[Number]] = {}
    for number in sorted((one for one in numbers() if one.table in _FIRST), key=lambda one: _FIRST.index(one.table)):
        own.setdefault((number.method, number.convention, number.data, number.variant), []).append(number)
    return own


def _int(text: str) -> int | None:
    return int(text) if text else None
