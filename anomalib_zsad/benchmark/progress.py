# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""How far a benchmark is, and how long it will still take."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean

from anomalib_zsad.adapters import Adapter
from anomalib_zsad.benchmark.cells import Cell, Training
from anomalib_zsad.benchmark.results import Result, Results


class Progress:
    """Counts cells and estimates the rest from what similar work has taken.

    Args:
        cells (list[Cell]): All cells of the plan.
        results (Results): The finished ones.
    """

    def __init__(self, cells: list[Cell], results: Results) -> None:
        self.total = len(cells)
        self.missing: list[Cell] = []
        self._tests: list[tuple[str, str, float]] = []  # method, data, seconds
        self._trainings: dict[str, tuple[str, float]] = {}  # key: method, seconds
        for cell in cells:
            result = results.get(cell.key)
            if result is None:
                self.missing.append(cell)
            else:
                self._tests.append((cell.label, cell.test, result.seconds))
                self._read(cell.training)
        self.finished = self._place = self.total - len(self.missing)
        self._left = list(self.missing)

    def trained(self, training: Training, seconds: float) -> None:
        """Take in the duration of a training."""
        self._trainings[training.key] = (training.label, seconds)

    def done(self, cell: Cell, result: Result) -> str:
        """Take in a finished cell; returns its number among all."""
        self._tests.append((cell.label, cell.test, result.seconds))
        return self.skip(cell)

    def skip(self, cell: Cell) -> str:
        """Go past a cell; returns its number among all."""
        self._left.remove(cell)
        self._place += 1
        return f"[{self._place}/{self.total}]"

    def left(self) -> str:
        """Time left, as the end of a line; empty at the end, and while nothing comparable has been done."""
        trainings = {
            cell.training.key: cell.label
            for cell in self._left
            if cell.training and cell.training.key not in self._trainings and not cell.training.path.is_file()
        }
        known = list(self._trainings.values())
        parts = [_mean(known, lambda one, label=label: one[0] == label) for label in trainings.values()]
        for cell in self._left:
            same_data = [one for one in self._tests if one[1] == cell.test]
            parts.append(_mean(same_data or self._tests, lambda one, cell=cell: one[0] == cell.label))
        if not parts or None in parts:
            return ""
        return f" | {duration(sum(part for part in parts if part is not None))} left"

    def _read(self, training: Training | None) -> None:
        if training is None or training.key in self._trainings or training.path.suffix != ".safetensors":
            return
        if training.path.is_file():
            seconds = Adapter.load(training.path, training.method.class_path).origin.get("training_seconds")
            if seconds is not None:
                self.trained(training, seconds)


def _mean(known: Iterable[tuple], alike) -> float | None:  # noqa: ANN001
    """Mean duration of what is alike, of everything if nothing is."""
    known = list(known)
    chosen = [one[-1] for one in known if alike(one)] or [one[-1] for one in known]
    return fmean(chosen) if chosen else None


def duration(seconds: float) -> str:
    """Write seconds as a person would say them.

    Example:
        >>> duration(42.4), duration(600), duration(9000)
        ('42 s', '10 min', '2 h 30 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
