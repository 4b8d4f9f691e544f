# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The tables of a benchmark: mean and spread over seeds, published numbers beside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev

import pandas as pd

from anomalib_zsad.benchmark.cells import Cell, cells_of
from anomalib_zsad.benchmark.comparison import identify, reasons, recipe_for, remarks
from anomalib_zsad.benchmark.literature import Number, find
from anomalib_zsad.benchmark.plan import Direction, Plan
from anomalib_zsad.benchmark.results import Result, Results
from anomalib_zsad.metrics import METRICS, Report


@dataclass(frozen=True)
class Value:
    """A metric in percent.

    Attributes:
        mean (float): Mean over runs.
        spread (float | None): Sample standard deviation over runs, ``None`` for a single one.
        published (float | None): The published number, where it may stand beside.
        source (str): Where it was published.
    """

    mean: float
    spread: float | None
    published: float | None = None
    source: str = ""

    @property
    def difference(self) -> float | None:
        """Ours minus the published one."""
        return None if self.published is None else self.mean - self.published


@dataclass(frozen=True)
class Entry:
    """A method under one rule set on one data set: all its runs.

    Attributes:
        convention (str): Training convention.
        row (str): Name of its row: the method, with the rule set if there are several, and with what it was trained on
            where the convention tests a data set more than once.
        cell (Cell): One of its cells, for everything but the seed.
        runs (Mapping[int | None, Report]): Complete runs by seed, all categories of a run together.
        planned (int): Number of runs that the plan asks for.
        result (Result | None): One of the results, for the facts of the model.
        codes (tuple[str, ...]): Reasons and remarks on the comparison.
        metrics (Mapping[str, Value]): By metric; undefined ones are absent.
    """

    convention: str
    row: str
    cell: Cell
    runs: Mapping[int | None, Report]
    planned: int
    result: Result | None
    codes: tuple[str, ...]
    metrics: Mapping[str, Value]

    @property
    def defect_types(self) -> str:
        """Defect words that the prompts were made of, empty where the method chooses none or takes none."""
        config = self.result.model.get("config", {}) if self.result else {}
        return ", ".join(config.get("defect_types") or ())


class Tables:
    """All entries of a plan.

    Args:
        plan (Plan): The benchmark.
        results (Results): What was measured so far.
    """

    def __init__(self, plan: Plan, results: Results) -> None:
        self.plan = plan
        self.results = results

    @cached_property
    def entries(self) -> list[Entry]:
        """Every method, rule set and data set of every convention, in the plan's order."""
        place = {name: number for number, name in enumerate(self.plan.data)}
        found = []
        for convention, directions in self.plan.conventions.items():
            grouped: dict[tuple[str, ...], tuple[Direction, list[Cell]]] = {}
            for one in directions:
                for cells in _grouped(cells_of(self.plan, one)):
                    grouped.setdefault(tuple(cell.key for cell in cells), (one, cells))
            ordered = sorted(grouped.values(), key=lambda pair: place[pair[1][0].test])
            rows = _rows([(direction, cells[0]) for direction, cells in ordered])
            found += [
                self._entry(convention, row, direction, cells)
                for row, (direction, cells) in zip(rows, ordered, strict=True)
            ]
        return found

    def per_class(self) -> pd.DataFrame:
        """A row for each class and ``mean``, of each run: fractions in full precision, as ``metrics.csv``."""
        frames = [
            entry.runs[seed].frame().assign(
                convention=entry.convention,
                method=entry.cell.label,
                rules=entry.cell.rules,
                seed="" if seed is None else str(seed),
                trained_on=entry.cell.training.direction.train if entry.cell.training else "",
                data=entry.cell.test,
                backbone=entry.result.model.get("backbone", "") if entry.result else "",
                image_size=entry.result.model.get("image_size", "") if entry.result else "",
                class_words=entry.result.model.get("class_words", "") if entry.result else "",
                defect_types=entry.defect_types,
            )
            for entry in self.entries
            for seed in entry.runs
        ]  # fmt: skip
        first = ["convention", "method", "rules", "trained_on", "data", "seed", "class"]
        if not frames:
            return pd.DataFrame(columns=[*first, "n_normal", "n_anomalous", *METRICS])
        table = pd.concat(frames, ignore_index=True)
        return table[[*first, *(name for name in table.columns if name not in first)]]

    def summary(self) -> pd.DataFrame:
        """A row for each metric of each entry, in percent: mean, spread, runs, published, difference, reasons."""
        return pd.DataFrame(
            [
                {
                    "convention": entry.convention,
                    "method": entry.cell.label,
                    "rules": entry.cell.rules,
                    "trained_on": entry.cell.training.direction.train if entry.cell.training else "",
                    "data": entry.cell.test,
                    "metric": metric,
                    "mean": value.mean,
                    "std": value.spread,
                    "runs": len(entry.runs),
                    "published": value.published,
                    "difference": value.difference,
                    "source": value.source,
                    "class_words": entry.result.model.get("class_words", "") if entry.result else "",
                    "defect_types": entry.defect_types,
                    "codes": " ".join(entry.codes),
                }
                for entry in self.entries
                for metric, value in entry.metrics.items()
            ],
            columns=[
                "convention", "method", "rules", "trained_on", "data", "metric", "mean", "std", "runs", "published",
                "difference", "source", "class_words", "defect_types", "codes",
            ],
        )  # fmt: skip

    def _entry(self, convention: str, row: str, direction: Direction, cells: Sequence[Cell]) -> Entry:
        by_seed: dict[int | None, list[Cell]] = {}
        for cell in cells:
            by_seed.setdefault(cell.training.seed if cell.training else None, []).append(cell)
        runs: dict[int | None, Report] = {}
        found: Result | None = None
        for seed, parts in by_seed.items():
            results = [self.results.get(cell.key) for cell in parts]
            complete = [result for result in results if result is not None]
            if len(complete) == len(parts):
                found = found or complete[0]
                rows = (row for result in complete for row in result.report.rows)
                runs[seed] = Report(tuple(sorted(rows, key=lambda row: row.name)))
        cell = cells[0]
        if found is None:
            return Entry(convention, row, cell, runs, len(by_seed), None, (), {})
        report = next(iter(runs.values()))
        codes = reasons(cell, convention, found, report)
        numbers = {} if codes else self._published(convention, direction, cell, report)
        if not codes and not numbers:
            codes = ["not-published"]
        values = {
            metric: _value([run.mean[metric] for run in runs.values()], numbers.get(metric))
            for metric in METRICS
            if all(metric in run.mean for run in runs.values())
        }
        codes = [*codes, *(() if codes else remarks(cell))]
        return Entry(convention, row, cell, runs, len(by_seed), found, tuple(codes), values)

    @staticmethod
    def _published(convention: str, direction: Direction, cell: Cell, report: Report) -> Mapping[str, Number]:
        data = identify(cell, report)
        recipe = recipe_for(cell)
        if data is None or recipe is None:
            return {}
        return find(recipe.method, convention, data.name, direction.variant)


def _grouped(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Cells of one entry together: seeds and categories differ."""
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.label, cell.test, cell.rules), []).append(cell)
    return list(groups.values())


def _rows(entries: Sequence[tuple[Direction, Cell]]) -> list[str]:
    """Names of the rows of a convention's entries, so that none holds a data set twice."""
    levels = [_names(direction, cell) for direction, cell in entries]
    found = [names[0] for names in levels]
    for level in (1, 2):
        places = Counter((name, cell.test) for name, (_, cell) in zip(found, entries, strict=True))
        shared = {name for (name, _), count in places.items() if count > 1}
        found = [names[level] if name in shared else name for name, names in zip(found, levels, strict=True)]
    return found


def _names(direction: Direction, cell: Cell) -> tuple[str, str, str]:
    """A method, the same with its training data, the same with how much of them."""
    name = f"{cell.label} ({cell.rules})" if len(cell.method.rules) > 1 else cell.label
    if cell.training is None:
        return name, name, name
    trained = f"{name}, trained on {'the others of ' if direction.leave_one_out else ''}{direction.train}"
    chosen = ", ".join(f"{argument}: {value}" for argument, value in direction.auxiliary.items())
    return name, trained, f"{trained} ({chosen or 'all'})"


def _value(runs: Sequence[float], number: Number | None) -> Value:
    percent = [100 * run for run in runs]
    spread = stdev(percent) if len(percent) > 1 else None
    if number is None:
        return Value(fmean(percent), spread)
    return Value(fmean(percent), spread, number.value, number.source)
