# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What a benchmark is to measure, as its YAML file says it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

from anomalib_zsad.benchmark.mistakes import explain
from anomalib_zsad.data.word_styles import check_style

Rules = Literal["deployable", "official"]
Style = Annotated[str, AfterValidator(check_style)]


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

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of a data set's categories; empty if it has only one and no name for it.

        Raises:
            ValueError: If there is no such data set, or it does not take these arguments.
        """
        from anomalib_zsad.data.sources import categories_of

        return categories_of(self._datamodule())

    @property
    def label(self) -> str:
        """Name of a data set as adapters that were trained on it have it.

        Raises:
            ValueError: If there is no such data set, or it does not take these arguments.
        """
        from anomalib_zsad.data.zero_shot import label_of

        return label_of(self._datamodule()).partition(".")[0]

    def _datamodule(self) -> Any:
        from anomalib_zsad.data.sources import as_datamodules

        try:
            (datamodule,) = as_datamodules(self.model_dump(), "data")
        except TypeError as error:
            raise ValueError(explain(error)) from error
        return datamodule


class Method(_Strict):
    """A row of the table.

    Attributes:
        class_path: Model of this package, or a zero-shot model of anomalib such as ``WinClip``.
        init_args: Its arguments.
        trained_on: Arguments that differ by training data.
        rules: Rule sets to score with. ``official`` exists for BayesPFL and CoPS.
        train_batch_size: Images in a training batch.
        adapters: Files of earlier trainings by training data, ``{seed}`` standing for the seed and ``{category}`` for
            the category left out, which ``leave_one_out`` needs; these are not trained.
        class_words: Style of the class words, instead of the plan's.
    """

    class_path: str
    init_args: dict[str, Any] = Field(default_factory=dict)
    trained_on: dict[str, dict[str, Any]] = Field(default_factory=dict)
    rules: tuple[Rules, ...] = ("deployable",)
    train_batch_size: int = Field(default=8, ge=1)
    adapters: dict[str, str] = Field(default_factory=dict)
    class_words: Style | None = None

    @property
    def ours(self) -> bool:
        """Whether it is a model of this package, which trains on auxiliary data."""
        from anomalib_zsad import MODELS

        return self.class_path in MODELS

    @property
    def config_class(self) -> Any:
        """Schema of a model of this package."""
        import anomalib_zsad

        return getattr(anomalib_zsad, self.class_path).config_class


class Direction(_Strict):
    """What is trained on and what is then tested.

    Attributes:
        train: Name of the training data.
        test: Names of the test data, or ``others`` for all but ``train``. What was trained on is never among them.
        leave_one_out: Train on all other categories of ``train`` for each of its categories, and test on that one.
            Takes a data set with two categories or more.
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
        trainer: Arguments of Lightning's trainer. ``devices`` is 1, the default, or a list that names one.
        loader: Arguments of ``ZeroShot`` that change no number: ``eval_batch_size``, ``num_workers``.
        thresholds: Bins of the pixel scores, for sets that do not fit; ``None`` is exact.
        class_words: Style of the class words (:data:`anomalib_zsad.data.word_styles.STYLES`). ``None`` leaves it to the
            data sets: ``folder``, unless one has a style among its arguments.
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
    class_words: Style | None = None
    data: dict[str, Spec]
    methods: dict[str, Method]
    conventions: dict[str, tuple[Direction, ...]]

    @field_validator("methods", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        example = "such as {CoPS: {train_batch_size: 8}, WinClip: {}}"
        if not isinstance(value, Mapping) or not value:
            msg = f"{value!r}: give one method or several by name, each with its settings, {example}"
            raise ValueError(msg)
        for name, method in value.items():
            if not isinstance(method, Mapping | None):
                msg = f"{name}: {method!r} is no mapping of settings; leave it empty, or write some, {example}"
                raise ValueError(msg)  # noqa: TRY004 - pydantic takes this one
        return {name: {"class_path": name} | dict(method or {}) for name, method in value.items()}

    @field_validator("trainer")
    @classmethod
    def _one_device(cls, trainer: dict[str, Any]) -> dict[str, Any]:
        devices = trainer.get("devices", 1)
        if devices != 1 and not (isinstance(devices, list) and len(devices) == 1):
            msg = (
                f"devices: {devices!r}: several would change the size of a batch and the number of steps, and so the "
                "figures. Write 1, or [1] for one of several. To use several GPUs, run one process on each, with its "
                "own part of the methods and the same output"
            )
            raise ValueError(msg)
        return trainer

    @model_validator(mode="after")
    def _names(self) -> Self:
        used = {name for one in self.directions() for name in (one.train, *(one.test if one.test != "others" else ()))}
        used |= {name for method in self.methods.values() for name in (*method.trained_on, *method.adapters)}
        if unknown := sorted(used - self.data.keys()):
            msg = f"{', '.join(unknown)}: no such data; data has {', '.join(self.data)}"
            raise ValueError(msg)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            msg = f"seeds: {list(self.seeds)}: give one or several different ones"
            raise ValueError(msg)
        for name, method in self.methods.items():
            if "official" in method.rules and not (method.ours and "rules" in method.config_class.model_fields):
                msg = f"{name}: {method.class_path} has no official rules; BayesPFL and CoPS have. Leave rules out"
                raise ValueError(msg)
            if method.class_path == "WinClip" and "class_name" in method.init_args:
                msg = f"{name}: WinClip is told each class's word, and class_name would do nothing; use class_words"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _zero_shot(self) -> Self:
        for convention, directions in self.conventions.items():
            for one in directions:
                if not one.leave_one_out and one.train in self.tests(one):
                    msg = (
                        f"conventions.{convention}: {one.train} is tested by models trained on it, which would not be "
                        "zero-shot. Take it out of test, or set leave_one_out: true to train on its other categories"
                    )
                    raise ValueError(msg)
                if one.leave_one_out and len(known := self.data[one.train].categories) < 2:
                    has = f"only {known[0]}" if known else "none"
                    msg = (
                        f"conventions.{convention}: leave_one_out needs a data set with two categories or more; "
                        f"{one.train} has {has}. Train on another data set"
                    )
                    raise ValueError(msg)
                for name, method in self.methods.items():
                    path = method.adapters.get(one.train)
                    if one.leave_one_out and path and "{category}" not in path:
                        msg = (
                            f"methods.{name}.adapters: {path} would be tested on every category of {one.train}, which "
                            f"it was trained on. conventions.{convention} leaves one out at a time: name a file for "
                            "each by {category}, such as weights/without_{category}.safetensors"
                        )
                        raise ValueError(msg)
        return self

    def directions(self) -> Iterator[Direction]:
        """Those of all conventions."""
        for directions in self.conventions.values():
            yield from directions

    def tests(self, direction: Direction) -> tuple[str, ...]:
        """Names of the data that a direction tests."""
        if direction.leave_one_out:
            return (direction.train,)
        if direction.test == "others":
            return tuple(name for name in self.data if name != direction.train)
        return tuple(dict.fromkeys(direction.test))


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
    except FileNotFoundError as error:
        msg = f"There is no {path}. A checkout of the repository has examples in configs/benchmark/."
        raise FileNotFoundError(msg) from error
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
