# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Trains and tests what a plan has and the results lack."""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from lightning.pytorch import seed_everything
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import anomalib_zsad
from anomalib_zsad.adapters import read_header
from anomalib_zsad.benchmark.cells import Cell, Training, all_cells
from anomalib_zsad.benchmark.clips import SharedClips
from anomalib_zsad.benchmark.mistakes import explain
from anomalib_zsad.benchmark.others import load_other, test_other
from anomalib_zsad.benchmark.plan import Plan
from anomalib_zsad.benchmark.progress import Progress
from anomalib_zsad.benchmark.results import Result, Results
from anomalib_zsad.clip.sources import WeightsNotFoundError
from anomalib_zsad.data import ZeroShot
from anomalib_zsad.data.zero_shot import sources_of
from anomalib_zsad.metrics import Report

MISFORTUNES = (
    ImportError, OSError, RuntimeError, MemoryError, ArithmeticError, ValueError, TypeError, MisconfigurationException,
)  # fmt: skip
"""What ends a cell and not the benchmark: missing data or weights, memory, a loss that is not finite, arguments that do
not exist or do not fit each other."""
SIDES = frozenset({"source_categories", "source_split", "exclude_classes", "target_categories"})
"""Arguments of ``ZeroShot`` that say which images it takes; limits do not, as their choice is the seed's."""


class Problem(NamedTuple):
    """Why a cell could not be measured.

    Attributes:
        code (str): ``weights-missing``, ``adapter-missing``, ``data-missing``, ``not-zero-shot``, ``training-failed``
            or ``test-failed``.
        text (str): What is wrong and how to mend it.
    """

    code: str
    text: str


class _ProblemError(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


class Runner:
    """Measures the cells of a plan, one after the other.

    Everything that is finished lies in the plan's output folder and is not done again: a training is finished when its
    adapter is there, a test when its cell is. A run that was killed goes on behind the last finished one. Tests read
    their adapter from its file, and every training starts from its seed, so that it does not matter what ran before.

    Args:
        plan (Plan): What to measure.
        say (Callable[[str], None] | None): Takes the lines of progress. Defaults to ``None``, standard output.
    """

    def __init__(self, plan: Plan, say: Callable[[str], None] | None = None) -> None:
        self.plan = plan
        self.results = Results(plan.output / "cells")
        self.say = say or partial(print, file=sys.stdout, flush=True)  # this one: tests write to another
        self.clips = SharedClips()
        self._apart: dict[str, Problem | None] = {}

    def run(self) -> dict[str, Problem]:
        """Measure what is missing.

        Returns:
            dict[str, Problem]: Why a cell could not be measured, by its key.
        """
        problems: dict[str, Problem] = {}
        cells = all_cells(self.plan)
        progress = Progress(cells, self.results)
        if progress.finished:
            self.say(f"{progress.finished} of {len(cells)} cells were measured before.")
        untrained: dict[str, Problem] = {}
        for cell in progress.missing:
            try:
                if cell.training is not None:
                    self._keep_apart(cell, cell.training)
                    self._ensure(cell.training, progress, untrained)
                    self._check_origin(cell, cell.training)
                result = self._measure(cell)
            except _ProblemError as error:  # noqa: PERF203 - minutes each
                logging.getLogger(__name__).debug("%s", cell, exc_info=True)
                problems[cell.key] = error.problem
                reason = f"{error.problem.code}, {error.problem.text.splitlines()[0]}"
                self.say(f"{progress.skip(cell)} {cell}: not measured ({reason})")
            else:
                self.say(f"{progress.done(cell, result)} {cell}: {_headline(result.report)}{progress.left()}")
        return problems

    # ---- the two kinds of work -----------------------------------------------------------------------------------

    def _keep_apart(self, cell: Cell, training: Training) -> None:
        """Show both sides at once to ``ZeroShot``, which refuses objects and images that they share.

        Trainings and tests see one side each. A pair is looked at once, whatever the methods and seeds.
        """
        chosen = [
            {name: value for name, value in one.data_arguments.items() if name in SIDES} for one in (training, cell)
        ]
        source = {"source": self.plan.data[training.direction.train].model_dump(), **chosen[0]}
        target = {"target": self.plan.data[cell.test].model_dump(), **chosen[1]}
        key = json.dumps([source, target], sort_keys=True, default=str)
        if key not in self._apart:
            try:
                with self._quiet():
                    _keep_apart(source, target)
                self._apart[key] = None
            except _ProblemError as error:
                self._apart[key] = error.problem
        if problem := self._apart[key]:
            raise _ProblemError(problem)

    def _check_origin(self, cell: Cell, training: Training) -> None:
        """Believe a given adapter, rather than the plan, as to what it was trained on."""
        if training.given is None or training.given.suffix != ".safetensors":  # released checkpoints do not say
            return
        with _named("test-failed"):
            seen = sources_of(read_header(training.given)["origin"])
            tested, trained = (self.plan.data[name].label for name in (cell.test, training.direction.train))
        if tested in seen and tested != trained:
            msg = (
                f"{training.given}, which the plan names for {training.direction.train}, says that it was trained or "
                f"calibrated on {tested}: testing it there would not be zero-shot."
            )
            raise _ProblemError(Problem("not-zero-shot", msg))

    def _ensure(self, training: Training, progress: Progress, untrained: dict[str, Problem]) -> None:
        """Train unless the adapter is there; what failed once is not tried for every data set again."""
        if training.path.is_file():
            return
        if training.given is not None:
            msg = f"There is no file {training.given}, which the plan names for {training.label}."
            raise _ProblemError(Problem("adapter-missing", msg))
        if training.key in untrained:
            raise _ProblemError(untrained[training.key])
        try:
            progress.trained(training, self._train(training))
        except _ProblemError as error:
            untrained[training.key] = error.problem
            raise

    def _train(self, training: Training) -> float:
        """Train and keep the adapter; returns the seconds that it took."""
        start = time.perf_counter()
        with self._quiet(), _named("training-failed"):
            model = self._model(training.method.class_path, training.arguments)
            source: Any = self.plan.data[training.direction.train].model_dump()
            datamodule = ZeroShot(source=source, **training.data_arguments, **self.plan.loader)
            _set_up(datamodule, "fit")
            with self._engine() as engine:
                seed_everything(training.seed, workers=True, verbose=False)
                engine.fit(model, datamodule=datamodule)
        seconds = time.perf_counter() - start
        model.origin |= {"seed": str(training.seed), "training_seconds": round(seconds, 3)}
        model.save_adapter(training.path)
        return seconds

    def _measure(self, cell: Cell) -> Result:
        """Test and keep the result."""
        start = time.perf_counter()
        with self._quiet(), _named("test-failed"):
            report, model = self._test_other(cell) if cell.training is None else self._test_ours(cell, cell.training)
        result = Result(report, cell.facts, model, time.perf_counter() - start)
        self.results.put(cell.key, result)
        return result

    def _test_ours(self, cell: Cell, training: Training) -> tuple[Report, dict[str, Any]]:
        model = self._model(cell.method.class_path, {**cell.arguments, "weights": training.path})
        model.evaluator.thresholds = self.plan.thresholds
        target: Any = self.plan.data[cell.test].model_dump()
        report = self._test(model, ZeroShot(target=target, **cell.data_arguments, **self.plan.loader))
        facts = {**model.describe(), "config": model.config.model_dump(mode="json"), "origin": dict(model.origin)}
        facts["origin"].pop("training_seconds", None)
        return report, facts

    def _test_other(self, cell: Cell) -> tuple[Report, dict[str, Any]]:
        with _named("weights-missing", WeightsNotFoundError):
            model = load_other(cell.method.class_path, cell.arguments, self.plan.thresholds)
        arguments = {"target": self.plan.data[cell.test].model_dump(), **cell.data_arguments, **self.plan.loader}
        return test_other(model, arguments, lambda datamodule: self._test(model, datamodule))

    def _test(self, model: AnomalibModule, datamodule: ZeroShot) -> Report:
        """The one test loop, for every model: anomalib's engine and the per-class evaluator.

        Raises:
            RuntimeError: If no image was scored.
        """
        _set_up(datamodule, "test")
        with self._engine() as engine:
            engine.test(model, datamodule=datamodule, verbose=False)
        report: Report = model.evaluator.report  # type: ignore[union-attr, assignment]
        if not report.rows:
            msg = "No image of the data has a label."
            raise RuntimeError(msg)
        return report

    def _model(self, class_path: str, arguments: Mapping[str, Any]) -> Any:
        model = getattr(anomalib_zsad, class_path)(**arguments, visualizer=False)
        with _named("weights-missing", WeightsNotFoundError):
            self.clips.share_with(model)
        return model

    # ---- surroundings --------------------------------------------------------------------------------------------

    @contextmanager
    def _engine(self) -> Generator[Engine]:
        """An engine in a folder that goes with it: checkpoints and tables of single runs are not kept."""
        own: dict[str, Any] = {
            "devices": 1, "enable_progress_bar": False, "enable_model_summary": False, "logger": False,
            "num_sanity_val_steps": 0,
        }  # fmt: skip
        with TemporaryDirectory(prefix="anomalib-zsad-") as folder:
            yield Engine(**({"default_root_dir": folder} | own | self.plan.trainer))

    @contextmanager
    def _quiet(self) -> Generator[None]:
        """Put the tables of single runs into ``log.txt`` and keep loggers silent but for errors."""
        path = self.plan.output / "log.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        before = logging.root.manager.disable
        with path.open("a", encoding="utf-8") as log, redirect_stdout(log), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            try:
                yield
            finally:
                logging.disable(before)


@contextmanager
def _named(code: str, kinds: Any = MISFORTUNES) -> Generator[None]:
    """Give what goes wrong inside a code."""
    try:
        yield
    except kinds as error:
        raise _ProblemError(Problem(code, explain(error))) from error


def _set_up(datamodule: ZeroShot, stage: str) -> None:
    """Find the data before anything else is done; a data set without a folder is not downloaded, but missing."""
    roots = (getattr(one, "root", None) for one in (*datamodule.source, *datamodule.target))
    with _named("data-missing"):
        if all(root is None or Path(root).is_dir() for root in roots):
            datamodule.prepare_data()
        datamodule.setup(stage)


def _keep_apart(source: Mapping[str, Any], target: Mapping[str, Any]) -> None:
    """Let ``ZeroShot`` compare both sides, as far as they are there.

    An adapter that lies there already needs no source, and a training says itself why it cannot have it.
    """
    with _named("test-failed"):
        tested = ZeroShot(**target)
    _set_up(tested, "test")
    try:
        trained = ZeroShot(**source)
    except MISFORTUNES:
        return
    with _named("not-zero-shot"):
        both = ZeroShot(**source, **target)
    try:
        _set_up(trained, "fit")
    except _ProblemError:
        return
    with _named("not-zero-shot"):
        both.test_data = tested.test_data
        both.setup("fit")


def _headline(report: Report) -> str:
    names = {"image_AUROC": "image AUROC", "pixel_AUROC": "pixel AUROC", "pixel_PRO": "PRO"}
    return ", ".join(f"{shown} {100 * report.mean[name]:.1f}" for name, shown in names.items() if name in report.mean)
