# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What a benchmark is to measure: from one YAML file to trainings and cells."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

Rules = Literal["deployable", "official"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Spec(_Strict):
    """A class by name and its arguments; in YAML the name alone will do."""

    class_path: str
    init_args: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"class_path": value} if isinstance(value, str) else value


class Method(_Strict):
    """A row of the table.

    Attributes:
        class_path: Model of this package, or a zero-shot model of anomalib such as ``WinClip``.
        init_args: Its arguments.
        trained_on: Arguments that differ by training data.
        rules: Rule sets to score with. ``official`` exists for BayesPFL and CoPS.
        train_batch_size: Images in a training batch.
        adapters: Files of earlier trainings by training data, ``{seed}`` standing for the seed; these are not trained.
    """

    class_path: str
    init_args: dict[str, Any] = Field(default_factory=dict)
    trained_on: dict[str, dict[str, Any]] = Field(default_factory=dict)
    rules: tuple[Rules, ...] = ("deployable",)
    train_batch_size: int = Field(default=8, ge=1)
    adapters: dict[str, str] = Field(default_factory=dict)

    @property
    def ours(self) -> bool:
        """Whether it is a model of this package, which trains on auxiliary data."""
        from anomalib_zsad import MODELS

        return self.class_path in MODELS


class Direction(_Strict):
    """What is trained on and what is then tested.

    Attributes:
        train: Name of the training data.
        test: Names of the test data, or ``others`` for all but ``train``.
        leave_one_out: Train on all other categories of ``train`` for each of its categories, and test on that one.
        auxiliary: Arguments of :class:`~anomalib_zsad.data.ZeroShot` for the training data, such as
            ``max_anomalies_per_class``.
        variant: Variant of the published numbers that belongs beside.
    """

    train: str
    test: tuple[str, ...] | Literal["others"] = "others"
    leave_one_out: bool = False
    auxiliary: dict[str, Any] = Field(default_factory=dict)
    variant: str = ""


class Plan(_Strict):
    """A benchmark.

    Attributes:
        output: Folder of adapters, cells and tables.
        seeds: A training for each.
        common: Arguments of all models of this package, such as ``backbone``.
        trainer: Arguments of Lightning's trainer.
        loader: Arguments of ``ZeroShot`` that change no number: ``eval_batch_size``, ``num_workers``.
        thresholds: Bins of the pixel scores, for sets that do not fit; ``None`` is exact.
        data: Data sets by the names they have in the tables.
        methods: Methods by the names they have in the tables.
        conventions: Directions by the convention's name. ``A``, ``B`` and ``leave-one-out`` have published numbers.
    """

    output: Path
    seeds: tuple[int, ...] = (0,)
    common: dict[str, Any] = Field(default_factory=dict)
    trainer: dict[str, Any] = Field(default_factory=dict)
    loader: dict[str, Any] = Field(default_factory=dict)
    thresholds: int | None = Field(default=None, ge=2)
    data: dict[str, Spec]
    methods: dict[str, Method]
    conventions: dict[str, tuple[Direction, ...]]

    @field_validator("methods", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {name: {"class_path": name} | (method or {}) for name, method in dict(value).items()}

    @model_validator(mode="after")
    def _names(self) -> Self:
        used = {name for one in self._directions() for name in (one.train, *(one.test if one.test != "others" else ()))}
        used |= {name for method in self.methods.values() for name in (*method.trained_on, *method.adapters)}
        if unknown := sorted(used - self.data.keys()):
            msg = f"{', '.join(unknown)}: no such data; data has {', '.join(self.data)}"
            raise ValueError(msg)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            msg = f"seeds: {list(self.seeds)}: give one or several different ones"
            raise ValueError(msg)
        for name, method in self.methods.items():
            if "official" in method.rules and not (method.ours and "rules" in _config_class(method).model_fields):
                msg = f"{name}: {method.class_path} has no official rules; BayesPFL and CoPS have. Leave rules out"
                raise ValueError(msg)
        return self

    def _directions(self) -> Iterator[Direction]:
        for directions in self.conventions.values():
            yield from directions

    def tests(self, direction: Direction) -> tuple[str, ...]:
        """Names of the data that a direction tests."""
        if direction.leave_one_out:
            return (direction.train,)
        if direction.test == "others":
            return tuple(name for name in self.data if name != direction.train)
        return tuple(direction.test)

    def cells(self, direction: Direction) -> Iterator[Cell]:
        """Everything that a direction measures."""
        for label, method in self.methods.items():
            for name in self.tests(direction):
                if not method.ours:
                    yield Cell(self, label, None, name)
                    continue
                adapter = method.adapters.get(direction.train)
                one_file = adapter is not None and "{seed}" not in adapter
                for seed in self.seeds[:1] if one_file else self.seeds:
                    for category in categories(self.data[name]) if direction.leave_one_out else ("",):
                        training = Training(self, label, direction, seed, category)
                        for rules in method.rules:
                            yield Cell(self, label, training, name, rules)

    def all_cells(self) -> list[Cell]:
        """Every cell once, those of one training together; what two conventions share is measured once."""
        cells = {cell.key: cell for direction in self._directions() for cell in self.cells(direction)}
        order = {key: place for place, key in enumerate(dict.fromkeys(_group(cell) for cell in cells.values()))}
        return sorted(cells.values(), key=lambda cell: order[_group(cell)])


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
        excluded = {"exclude_classes": [self.left_out]} if self.left_out else {}
        size = {"train_batch_size": self.method.train_batch_size, "seed": self.seed}
        return {**size, **self.direction.auxiliary, **excluded}

    @property
    def given(self) -> Path | None:
        """The adapter file that the plan names instead of a training."""
        path = self.method.adapters.get(self.direction.train)
        return Path(path.format(seed=self.seed)) if path else None

    @property
    def facts(self) -> dict[str, Any]:
        """What determines the adapter."""
        if self.given is not None:
            return {"adapter": str(self.given), "sha256": _hash_of_file(self.given)}
        return {
            "config": resolved(self.method, self.arguments),
            "source": self.plan.data[self.direction.train].model_dump(),
            "data": self.data_arguments,
            "precision": self.plan.trainer.get("precision"),
            "version": _version(),
        }

    @cached_property
    def key(self) -> str:
        """Name of the adapter's file, without suffix."""
        source = f"{self.direction.train} without {self.left_out}" if self.left_out else self.direction.train
        return _key(f"{self.label}-{source}-seed{self.seed}", self.facts)

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
        """Arguments of the model, the adapter apart."""
        if self.training is None:
            return dict(self.method.init_args)
        extra: dict[str, Any] = {}
        if self.rules == "official":
            extra["rules"] = "official"
            if "official_target" in _config_class(self.method).model_fields:
                extra["official_target"] = "visa" if self.plan.data[self.test].class_path == "Visa" else "other"
        return {**self.training.arguments, **extra}

    @property
    def facts(self) -> dict[str, Any]:
        """What determines the result."""
        return {
            "model": self.method.class_path,
            "arguments": {**resolved(self.method, self.arguments), "seed": None} if self.training else self.arguments,
            "training": self.training.facts if self.training else None,
            "target": self.plan.data[self.test].model_dump(),
            "category": self.training.left_out if self.training else "",
            "thresholds": self.plan.thresholds,
            "precision": self.plan.trainer.get("precision"),
            "version": _version(),
        }

    @cached_property
    def key(self) -> str:
        """Name of the cell's file, without suffix."""
        source = f"-{self.training.direction.train}" if self.training else ""
        seed = f"-seed{self.training.seed}" if self.training else ""
        category = f" {self.training.left_out}" if self.training and self.training.left_out else ""
        return _key(f"{self.label}-{self.rules}{source}-to-{self.test}{category}{seed}", self.facts)

    def __str__(self) -> str:
        """As progress shows it."""
        rules = f" ({self.rules})" if len(self.method.rules) > 1 else ""
        if self.training is None:
            return f"{self.label}{rules}: {self.test}"
        left_out = f" {self.training.left_out}" if self.training.left_out else ""
        return (
            f"{self.label}{rules} seed {self.training.seed}: {self.training.direction.train} -> {self.test}{left_out}"
        )


def read_plan(path: str | Path, output: str | Path | None = None) -> Plan:
    """Read a benchmark's YAML file.

    Args:
        path (str | Path): The file.
        output (str | Path | None): Replaces the file's ``output``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not YAML, a name is unknown or a value is not allowed; the message names the place.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        msg = f"{path} is not YAML: {error}"
        raise ValueError(msg) from error
    if not isinstance(content, Mapping):
        msg = f"{path} holds no benchmark; configs/benchmark/small.yaml is one."
        raise ValueError(msg)  # noqa: TRY004 - what is wrong is the file
    content = {"output": Path("results/benchmark") / Path(path).stem, **content}
    try:
        return Plan(**(content | ({"output": output} if output else {})))
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, one['loc']))}: {one['msg'].removeprefix('Value error, ')}".removeprefix(": ")
            for one in error.errors()
        )
        msg = f"{path}: {'; '.join(problems)}"
        raise ValueError(msg) from None


def resolved(method: Method, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A model's complete configuration as plain data."""
    fields = {name: value for name, value in arguments.items() if name != "weights"}
    return _config_class(method).resolve(fields).model_dump(mode="json")


def categories(spec: Spec) -> tuple[str, ...]:
    """Names of a data set's categories; ``("",)`` if it has only one and no name for it."""
    from anomalib_zsad.data.sources import as_datamodules, categories_of

    (datamodule,) = as_datamodules(spec.model_dump(), "data")
    return categories_of(datamodule) or ("",)


def _config_class(method: Method) -> Any:
    import anomalib_zsad

    return getattr(anomalib_zsad, method.class_path).config_class


def _group(cell: Cell) -> str:
    return cell.training.key if cell.training else cell.label


def _key(label: str, facts: Mapping[str, Any]) -> str:
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
