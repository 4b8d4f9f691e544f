# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The work of a plan: trainings and cells, each with a name that changes with whatever determines its result."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, get_args

from anomalib_zsad.benchmark.plan import Direction, Method, Plan, Rules
from anomalib_zsad.data.defect_tables import table_of

INDIFFERENT = frozenset({"accelerator", "devices", "default_root_dir", "log_every_n_steps", "logger", "profiler"})
"""Arguments of Lightning's trainer that decide no figure, as do those that begin with ``enable_``. A plan has one of
``devices``, wherever it is."""


@dataclass(frozen=True, eq=False)
class Training:
    """One adapter: a method, its training data and a seed.

    Attributes:
        plan (Plan): The benchmark.
        label (str): Name of the method.
        direction (Direction): Training data.
        seed (int): Seed.
        left_out (str): Category that is not trained on, empty for none.
    """

    plan: Plan
    label: str
    direction: Direction
    seed: int
    left_out: str = ""

    @property
    def method(self) -> Method:
        """The method."""
        return self.plan.methods[self.label]

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the model."""
        own = self.method.trained_on.get(self.direction.train, {})
        return {**self.plan.common, **self.method.init_args, **own, "seed": self.seed}

    @property
    def data_arguments(self) -> dict[str, Any]:
        """Arguments of ``ZeroShot`` that determine the training data."""
        own = {"train_batch_size": self.method.train_batch_size, "seed": self.seed}
        found = {**own, **_words(self.plan, self.method), **self.direction.auxiliary}
        if self.left_out:
            found["exclude_classes"] = sorted({*found.get("exclude_classes", ()), self.left_out})
        return found

    @property
    def given(self) -> Path | None:
        """The adapter file that the plan names instead of a training."""
        path = self.method.adapters.get(self.direction.train)
        return Path(path.format(seed=self.seed, category=self.left_out)) if path else None

    @property
    def facts(self) -> dict[str, Any]:
        """What determines the adapter."""
        if self.given is not None:
            return {"adapter": str(self.given), "sha256": _hash_of_file(self.given)}
        return {
            "config": _resolved(self.method, self.arguments),
            "source": self.plan.data[self.direction.train].model_dump(),
            "data": self.data_arguments,
            "trainer": decisive(self.plan.trainer),
            "version": _version(),
        }

    @cached_property
    def key(self) -> str:
        """Name of the adapter's file, without suffix."""
        source = f"{self.direction.train} without {self.left_out}" if self.left_out else self.direction.train
        return named(f"{self.label}-{source}-seed{self.seed}", self.facts)

    @property
    def path(self) -> Path:
        """Where the adapter is, or will be."""
        return self.given or self.plan.output / "adapters" / f"{self.key}.safetensors"


@dataclass(frozen=True, eq=False)
class Cell:
    """One test: an adapter (or a model without training), a data set, a rule set.

    Attributes:
        plan (Plan): The benchmark.
        label (str): Name of the method.
        training (Training | None): ``None`` for a model that is not trained.
        test (str): Name of the test data.
        rules (Rules): Rule set.
    """

    plan: Plan
    label: str
    training: Training | None
    test: str
    rules: Rules = "deployable"

    @property
    def method(self) -> Method:
        """The method."""
        return self.plan.methods[self.label]

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the model, the adapter apart.

        A method that takes a data set's defect words (DAPO) is tested with those of the test data, as in its released
        code, where a table has them and the plan gives none. They are known before any image of it is, so that nothing
        of the target is seen: the test stays zero-shot.
        """
        if self.training is None:
            return dict(self.method.init_args)
        arguments, fields = self.training.arguments, self.method.config_class.model_fields
        extra: dict[str, Any] = {}
        if self.rules == "official":
            extra["rules"] = "official"
            if "official_target" in fields:
                extra["official_target"] = "visa" if self.plan.data[self.test].class_path == "Visa" else "other"
        # PromptAD's field of that name takes a list for one class and no data set's name
        by_name = "defect_types" in fields and str in get_args(fields["defect_types"].annotation)
        if by_name and arguments.get("defect_types") is None and table_of(name := self._data_set):
            extra["defect_types"] = name
        return {**arguments, **extra}

    @property
    def data_arguments(self) -> dict[str, Any]:
        """Arguments of ``ZeroShot`` that determine the test data."""
        left_out = self.training.left_out if self.training else ""
        chosen = {"target_categories": [left_out]} if left_out else {}
        return {**_words(self.plan, self.method), **chosen}

    @property
    def facts(self) -> dict[str, Any]:
        """What determines the result."""
        return {
            "model": self.method.class_path,
            "arguments": {**_resolved(self.method, self.arguments), "seed": None} if self.training else self.arguments,
            "training": self.training.facts if self.training else None,
            "target": self.plan.data[self.test].model_dump(),
            "data": self.data_arguments,
            "thresholds": self.plan.thresholds,
            "trainer": decisive(self.plan.trainer),
            "version": _version(),
        }

    @cached_property
    def key(self) -> str:
        """Name of the cell's file, without suffix."""
        source = f"-{self.training.direction.train}" if self.training else ""
        seed = f"-seed{self.training.seed}" if self.training else ""
        category = f" {self.training.left_out}" if self.training and self.training.left_out else ""
        return named(f"{self.label}-{self.rules}{source}-to-{self.test}{category}{seed}", self.facts)

    @property
    def _data_set(self) -> str:
        """The test data by their class; ``MetaJson`` reads any set, and there the plan's name tells which."""
        name = self.plan.data[self.test].class_path.rpartition(".")[2]
        return self.test if name == "MetaJson" else name

    def __str__(self) -> str:
        """As progress shows it."""
        rules = f" ({self.rules})" if len(self.method.rules) > 1 else ""
        if self.training is None:
            return f"{self.label}{rules}: {self.test}"
        left_out = f" {self.training.left_out}" if self.training.left_out else ""
        return (
            f"{self.label}{rules} seed {self.training.seed}: {self.training.direction.train} -> {self.test}{left_out}"
        )


def cells_of(plan: Plan, direction: Direction) -> Iterator[Cell]:
    """Everything that a direction measures."""
    for label, method in plan.methods.items():
        for name in plan.tests(direction):
            if not method.ours:
                yield Cell(plan, label, None, name)
                continue
            adapter = method.adapters.get(direction.train)
            one_file = adapter is not None and "{seed}" not in adapter
            for seed in plan.seeds[:1] if one_file else plan.seeds:
                for category in plan.data[name].categories if direction.leave_one_out else ("",):
                    training = Training(plan, label, direction, seed, category)
                    for rules in method.rules:
                        yield Cell(plan, label, training, name, rules)


def all_cells(plan: Plan) -> list[Cell]:
    """Every cell once, those of one training together; what two conventions share is measured once."""
    cells = {cell.key: cell for direction in plan.directions() for cell in cells_of(plan, direction)}
    order = {key: place for place, key in enumerate(dict.fromkeys(_group(cell) for cell in cells.values()))}
    return sorted(cells.values(), key=lambda cell: order[_group(cell)])


def _words(plan: Plan, method: Method) -> dict[str, str]:
    style = method.class_words or plan.class_words
    return {"class_words": style} if style else {}


def _resolved(method: Method, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A model's complete configuration as plain data; what it does not take is left to the cell to find."""
    fields = {name: value for name, value in arguments.items() if name != "weights"}
    try:
        return method.config_class.resolve(fields).model_dump(mode="json")
    except ValueError:
        return fields


def decisive(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of Lightning's trainer that may decide a figure."""
    return {
        name: value for name, value in trainer.items() if name not in INDIFFERENT and not name.startswith("enable_")
    }


def _group(cell: Cell) -> str:
    return cell.training.key if cell.training else cell.label


def named(label: str, facts: Mapping[str, Any]) -> str:
    """A name for a file that changes with the facts.

    Example:
        >>> named("CoPS VisA", {"seed": 0}), named("CoPS VisA", {"seed": 1})
        ('CoPS_VisA-de7d7744ccd7', 'CoPS_VisA-a4bbadc1c789')
    """
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', label)}-{digest[:12]}"


def _hash_of_file(path: Path) -> str | None:
    return _hash_of_version(path, path.stat().st_mtime_ns) if path.is_file() else None


@cache
def _hash_of_version(path: Path, changed: int) -> str:
    del changed
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _version() -> str:
    from anomalib import __version__ as host

    from anomalib_zsad import __version__

    return f"anomalib_zsad {__version__}, anomalib {host}"
