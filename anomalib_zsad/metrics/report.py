# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""The table that a test run ends with: one line per class, their mean, and what could not be computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from rich.markup import escape
from rich.table import Table

IMAGE_METRICS = ("image_AUROC", "image_AP", "image_F1Max")
PIXEL_METRICS = ("pixel_AUROC", "pixel_AP", "pixel_PRO")
METRICS = IMAGE_METRICS + PIXEL_METRICS

Values = dict[str, float | str]  # a number, or the reason why there is none


@dataclass(frozen=True)
class Row:
    """One class: how many images, and a number or the reason for its absence under each metric's name."""

    name: str
    n_normal: int
    n_anomalous: int
    metrics: Values
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Report:
    """The metrics of every class and their mean over classes."""

    rows: tuple[Row, ...]

    @property
    def mean(self) -> dict[str, float]:
        """Mean of each metric over the classes where it is defined; a metric defined nowhere is absent."""
        columns = {name: [v for row in self.rows if isinstance(v := row.metrics[name], float)] for name in METRICS}
        return {metric: sum(values) / len(values) for metric, values in columns.items() if values}

    @property
    def remarks(self) -> list[str]:
        """Undefined metrics with the reason, and how metrics were computed where that is not the plain way."""
        classes: dict[str, list[str]] = {}
        for row in self.rows:
            reasons: dict[str, list[str]] = {}
            for metric, value in row.metrics.items():
                if isinstance(value, str):
                    reasons.setdefault(value, []).append(metric)
            for reason, metrics in reasons.items():
                classes.setdefault(f"{', '.join(metrics)} undefined for {{}}: {reason}", []).append(row.name)
            for note in row.notes:
                classes.setdefault(f"{{}}: {note}", []).append(row.name)
        return [remark.replace("{}", ", ".join(names), 1) for remark, names in classes.items()]

    def table(self, title: str = "") -> Table:
        """Lay out for a terminal, in percent with one decimal."""
        table = Table(title=escape(title) or None)  # names are text, also those with brackets
        table.add_column("class")
        for header in ("normal", "anom.", *(metric.replace("_", "\n") for metric in METRICS)):
            table.add_column(header, justify="right")
        for row in self.rows:
            table.add_row(escape(row.name), str(row.n_normal), str(row.n_anomalous), *_percent(row.metrics))
        table.add_section()
        table.add_row("mean", *map(str, self._totals()), *_percent(self.mean))
        return table

    def frame(self, constants: Mapping[str, str] | None = None) -> pd.DataFrame:
        """Return the table as data: fractions in full precision, NaN where undefined, last row ``mean``.

        Args:
            constants (Mapping[str, str] | None): Columns that hold the same text in every row.
        """
        mean = Row("mean", *self._totals(), dict(self.mean))
        return pd.DataFrame([
            {"class": row.name, "n_normal": row.n_normal, "n_anomalous": row.n_anomalous}
            | {name: v if isinstance(v := row.metrics.get(name), float) else float("nan") for name in METRICS}
            | dict(constants or {})
            for row in (*self.rows, mean)
        ])

    def write_csv(self, path: Path, constants: Mapping[str, str] | None = None) -> None:
        """Write :meth:`frame` to ``path``; undefined metrics are empty cells."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.frame(constants).to_csv(path, index=False)

    def _totals(self) -> tuple[int, int]:
        return sum(row.n_normal for row in self.rows), sum(row.n_anomalous for row in self.rows)


def _percent(metrics: Mapping[str, float | str]) -> list[str]:
    return [f"{100 * value:.1f}" if isinstance(value := metrics.get(metric), float) else "-" for metric in METRICS]
