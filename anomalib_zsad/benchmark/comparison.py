# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Whether a figure of ours may stand beside a published one, and why not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from inspect import signature
from typing import Any

from anomalib_zsad.benchmark.cells import Cell, Training, decisive
from anomalib_zsad.benchmark.literature import DataSet, Recipe, data_sets, recipe_of
from anomalib_zsad.benchmark.plan import Direction, Plan
from anomalib_zsad.benchmark.results import Result
from anomalib_zsad.metrics import Report

REASONS = {
    "random-backbone": "the CLIP has random weights: its figures say nothing about a method",
    "small-backbone": "the CLIP is a small one of this package",
    "other-backbone": "another CLIP than that of the published numbers, or one named by its file and not by its tag",
    "other-image-size": "another input size",
    "fewer-epochs": "trained for fewer epochs",
    "more-epochs": "trained for more epochs",
    "other-words": "other class words than the paper's",
    "other-settings": "an option of the method or the trainer, or the batch size, differs from the published recipe",
    "other-training-data": "not trained on the data of this convention, or on another part of them than published",
    "other-data": "no published data set, or not with these classes and numbers of images",
    "not-published": "nobody has published this method on this data set under this convention",
}
"""Why no published number stands beside a cell, by code."""

REMARKS = {
    "one-rule": "one rule for all data sets; the published numbers come from the released code's rules by data set",
}
"""What to know about numbers that do stand beside each other, by code."""

_EVALUATION = {
    "backbone", "pretrained", "image_size", "seed", "epochs", "class_name", "rules", "official_target", "noise_seed",
    "uncertainty_map", "distance_maps",
}  # fmt: skip
_CHOICE = {
    "source_categories", "source_split", "exclude_classes", "max_images_per_class", "max_anomalies_per_class",
    "one_defect_type_per_class", "calibration_ratio",
}  # fmt: skip
_USUAL = {"max_epochs", "num_sanity_val_steps", "precision"}  # of the trainer; epochs have a code of their own


def reasons(cell: Cell, convention: str, result: Result, report: Report) -> list[str]:
    """Codes of :data:`REASONS` that hold for a cell; empty if a published number may stand beside it.

    Args:
        cell (Cell): The cell.
        convention (str): Convention under whose name it is shown.
        result (Result): What was measured, with the facts of the model.
        report (Report): The metrics, all categories together.
    """
    from anomalib_zsad.clip.weights import OWN
    from anomalib_zsad.data.zero_shot import sources_of

    backbone, _, pretrained = str(result.model.get("backbone", "")).partition("/")
    recipe = recipe_for(cell)
    codes = []
    if pretrained.startswith("random"):
        codes.append("random-backbone")
    elif backbone in OWN:
        codes.append("small-backbone")
    if recipe is not None:
        if not codes and (backbone, pretrained.partition(".")[0]) != (recipe.backbone, recipe.pretrained):
            codes.append("other-backbone")
        if int(result.model.get("image_size", 0)) != recipe.image_size:
            codes.append("other-image-size")
        if recipe.class_words not in {"", result.model.get("class_words")}:
            codes.append("other-words")
        if cell.training is not None:
            codes += _trained_otherwise(cell.training, result, recipe)
        elif _set_otherwise(cell, recipe):
            codes.append("other-settings")
    if cell.training is not None:
        source, tested = (_data_by_class(cell.plan, name) for name in (cell.training.direction.train, cell.test))
        other = source != _training_data(convention, tested)
        told = sources_of(result.model.get("origin", {}))
        other |= bool(told) and cell.plan.data[cell.training.direction.train].label not in told
        if other or (recipe is not None and _choice(cell.training.direction) != recipe.auxiliary):
            codes.append("other-training-data")
    if identify(cell, report) is None:
        codes.append("other-data")
    return codes


def recipe_for(cell: Cell) -> Recipe | None:
    """Recipe of the published numbers that belong beside a cell, ``None`` if there are none."""
    if cell.training is None:
        return recipe_of(cell.method.class_path, "", "")
    direction = cell.training.direction
    return recipe_of(cell.method.class_path, _data_by_class(cell.plan, direction.train), direction.variant)


def remarks(cell: Cell) -> list[str]:
    """Codes of :data:`REMARKS` that hold for a cell."""
    rules = cell.method.ours and "rules" in cell.method.config_class.model_fields
    return ["one-rule"] if rules and cell.rules == "deployable" else []


def identify(cell: Cell, report: Report) -> DataSet | None:
    """The published data set that was tested, told by its reader and the numbers of classes and images.

    ``MetaJson`` reads any set: there, the plan has to call it by its published name.
    """
    class_path = cell.plan.data[cell.test].class_path.rpartition(".")[2]
    normal, anomalous = (sum(getattr(row, name) for row in report.rows) for name in ("n_normal", "n_anomalous"))
    for one in data_sets():
        read = class_path == one.class_path or (class_path == "MetaJson" and cell.test == one.name)
        same_images = one.normal in {None, normal} and one.anomalous in {None, anomalous}
        if read and one.classes == len(report.rows) and same_images:
            return one
    return None


def _data_by_class(plan: Plan, name: str) -> str:
    """Published name of training data; the reader alone tells, for its images are not counted."""
    class_path = plan.data[name].class_path.rpartition(".")[2]
    return next((one.name for one in data_sets() if one.class_path == class_path), "")


def _training_data(convention: str, tested: str) -> str:
    """Training data that a convention has for a test set; "" if it is no convention of the tables."""
    usual, swapped = {"A": ("VisA", "MVTec AD"), "B": ("MVTec AD", "VisA")}.get(convention, ("", ""))
    if convention == "leave-one-out":
        return tested
    return swapped if tested == usual else usual


def _choice(direction: Direction) -> dict[str, Any]:
    """What chooses from the training data, as far as it is not as usual."""
    from anomalib_zsad.data import ZeroShot

    usual = signature(ZeroShot).parameters
    return {
        name: value for name, value in direction.auxiliary.items()
        if name in _CHOICE and value != usual[name].default
    }  # fmt: skip


def _set_otherwise(cell: Cell, recipe: Recipe) -> bool:
    """Whether a model of anomalib has other options than published; its CLIP has a code of its own."""
    import anomalib.models

    parameters = signature(getattr(anomalib.models, cell.method.class_path)).parameters
    wanted = {name: one.default for name, one in parameters.items()} | dict(recipe.settings)
    given = {name: value for name, value in cell.arguments.items() if name not in _EVALUATION}
    # YAML has lists where Python has tuples, and JSON has one kind
    return any(json.dumps(value) != json.dumps(wanted[name]) for name, value in given.items())


def _trained_otherwise(training: Training, result: Result, recipe: Recipe) -> Sequence[str]:
    config, origin = result.model.get("config", {}), result.model.get("origin", {})
    codes = []
    epochs = origin.get("epochs")  # released checkpoints do not say
    if epochs is not None and recipe.epochs is not None and epochs != recipe.epochs:
        codes.append("fewer-epochs" if epochs < recipe.epochs else "more-epochs")
    wanted = training.method.config_class.resolve({
        "backbone": config["backbone"],
        "image_size": config["image_size"],
        **recipe.settings,
    })
    differing = [
        name for name, value in wanted.model_dump(mode="json").items()
        if name not in _EVALUATION and config[name] != value
    ]  # fmt: skip
    batch = training.data_arguments["train_batch_size"]
    otherwise = batch != recipe.train_batch_size or decisive(training.plan.trainer).keys() - _USUAL
    if differing or (training.given is None and otherwise):
        codes.append("other-settings")
    return codes
