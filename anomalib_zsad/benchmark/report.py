# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes a benchmark's tables: CSV with full precision, Markdown to read, a picture to show."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from anomalib_zsad.benchmark.cells import all_cells
from anomalib_zsad.benchmark.comparison import REASONS, REMARKS
from anomalib_zsad.benchmark.plan import Direction
from anomalib_zsad.benchmark.results import write_whole
from anomalib_zsad.benchmark.runner import Problem
from anomalib_zsad.benchmark.tables import Entry, Tables, Value
from anomalib_zsad.files import whole
from anomalib_zsad.metrics import METRICS
from anomalib_zsad.metrics.report import IMAGE_METRICS, PIXEL_METRICS

MEAN = "mean of all sets"


def write_report(tables: Tables, problems: Mapping[str, Problem], folder: Path) -> list[Path]:
    """Write everything that the finished cells give.

    Args:
        tables (Tables): What was measured.
        problems (Mapping[str, Problem]): Why cells are missing, by their key.
        folder (Path): Where to.

    Returns:
        list[Path]: ``results.csv`` (every class of every run), ``summary.csv`` (mean, spread and published numbers),
        ``report.md`` and a picture for each convention.
    """
    written = {
        "results.csv": tables.per_class().to_csv(index=False),
        "summary.csv": tables.summary().to_csv(index=False),
        "report.md": markdown(tables, problems),
    }
    for name, text in written.items():
        write_whole(folder / name, text)
    paths = [folder / name for name in written]
    for convention in tables.plan.conventions:
        entries = [entry for entry in tables.entries if entry.convention == convention and entry.metrics]
        if entries:
            paths.append(draw(entries, convention, folder / f"{convention.replace('/', '_')}.png"))
    return paths


def markdown(tables: Tables, problems: Mapping[str, Problem]) -> str:
    """The report as Markdown: per convention one table a level, then every method beside its published numbers."""
    parts = ["# Benchmark", *_facts(tables)]
    for convention, directions in tables.plan.conventions.items():
        entries = [entry for entry in tables.entries if entry.convention == convention]
        parts.append(f"## Convention {convention}")
        parts.append("\n".join(_direction(tables, one) for one in directions))
        for level, metrics, shown in (
            ("Image level", IMAGE_METRICS, "AUROC / AP / F1-max"),
            ("Pixel level", PIXEL_METRICS, "AUROC / AP / PRO (to a false positive rate of 0.3)"),
        ):
            parts += [f"### {level}: {shown}", _grid(entries, metrics, problems)]
        parts += ["### Beside published numbers", *_comparisons(entries)]
    return "\n\n".join([*parts, *_missing(tables, problems)]) + "\n"


def _direction(tables: Tables, direction: Direction) -> str:
    how = "each category by a model trained on the others of" if direction.leave_one_out else "trained on"
    return f"* {how} {direction.train}: {', '.join(tables.plan.tests(direction))}"


def _facts(tables: Tables) -> list[str]:
    towers = sorted({
        f"{entry.cell.label}: {model['backbone']} at {model.get('image_size', '')} px"
        + (f", class words: {model['class_words']}" if model.get("class_words") else "")
        for entry in tables.entries
        if entry.result and (model := entry.result.model).get("backbone")
    })
    seeds = ", ".join(map(str, tables.plan.seeds))
    runs = f"Seeds {seeds}; ± is the sample standard deviation over them." if len(tables.plan.seeds) > 1 else ""
    return [
        " ".join(filter(None, ["Percent. Metrics per class, then their mean.", runs])),
        "\n".join(f"* {tower}" for tower in towers),
    ]


def _grid(entries: list[Entry], metrics: tuple[str, ...], problems: Mapping[str, Problem]) -> str:
    methods = _rows(entries)
    data = list(dict.fromkeys(entry.cell.test for entry in entries))
    by_place = {(entry.cell.test, entry.row): entry for entry in entries}
    lines = [["data", *methods]]
    for name in data:
        found = [by_place.get((name, method)) for method in methods]
        lines.append([name, *(_place(entry, metrics, problems) if entry else "" for entry in found)])
    means = _means(entries)
    if len(data) > 1:
        columns = [" / ".join(_number(means.get((method, one))) for one in metrics) for method in methods]
        lines.append([MEAN, *columns])
    return _table(lines)


def _rows(entries: list[Entry]) -> list[str]:
    """Names of the rows, those of a method together."""
    labels = dict.fromkeys(entry.cell.label for entry in entries)
    return list(dict.fromkeys(entry.row for label in labels for entry in entries if entry.cell.label == label))


def _place(entry: Entry, metrics: tuple[str, ...], problems: Mapping[str, Problem]) -> str:
    """Values of an entry, or why there are none, or how many runs are still missing."""
    if not entry.runs:
        problem = problems.get(entry.cell.key)
        return problem.code if problem else "not measured yet"
    text = " / ".join(_text(entry.metrics.get(one)) for one in metrics)
    return text if len(entry.runs) == entry.planned else f"{text} ({len(entry.runs)} of {entry.planned} runs)"


def _means(entries: list[Entry]) -> dict[tuple[str, str], float]:
    """Mean over data sets by method and metric, where every method has the same sets; others would not compare."""
    values: dict[tuple[str, str], dict[str, float]] = {}
    for entry in entries:
        for metric in METRICS:
            own = values.setdefault((entry.row, metric), {})
            if metric in entry.metrics:
                own[entry.cell.test] = entry.metrics[metric].mean
    means = {}
    for (method, metric), own in values.items():
        everything = set().union(*(other for (_, name), other in values.items() if name == metric))
        if own and own.keys() == everything:
            means[method, metric] = sum(own.values()) / len(own)
    return means


def _comparisons(entries: list[Entry]) -> list[str]:
    parts, used = [], set()
    for method in _rows(entries):
        lines = [["data", *METRICS, "codes"]]
        for entry in (one for one in entries if one.row == method and one.metrics):
            cells = []
            for metric in METRICS:
                value = entry.metrics.get(metric)
                beside = f" ({value.published:.1f}, {value.difference:+.1f})" if value and value.published else ""
                cells.append(_number(value.mean if value else None) + beside)
            lines.append([entry.cell.test, *cells, ", ".join(entry.codes)])
            used |= set(entry.codes)
        if len(lines) > 1:
            parts += [f"**{method}**: ours (published, difference)", _table(lines)]
    legend = [f"* `{code}`: {text}" for code, text in (REASONS | REMARKS).items() if code in used]
    return [*parts, "\n".join(legend)] if legend else parts or ["Nothing is measured yet."]


def _missing(tables: Tables, problems: Mapping[str, Problem]) -> list[str]:
    """Cells without a result, those of one reason together."""
    cells: dict[Problem, list[str]] = {}
    for cell in all_cells(tables.plan):
        if tables.results.get(cell.key) is None:
            cells.setdefault(problems.get(cell.key, Problem("not measured yet", "")), []).append(str(cell))
    if not cells:
        return []
    lines = [f"* `{one.code}` {' '.join(one.text.split())}: {'; '.join(names)}" for one, names in cells.items()]
    return ["## Missing", "\n".join(lines)]


def _text(value: Value | None) -> str:
    if value is None or value.spread is None:
        return _number(value.mean if value else None)
    return f"{value.mean:.1f} ± {value.spread:.1f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _table(lines: list[list[str]]) -> str:
    head, *body = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *body))


def draw(entries: list[Entry], title: str, path: Path) -> Path:
    """Draw a heat table for each metric: data sets down, methods across.

    Args:
        entries (list[Entry]): Entries of one convention.
        title (str): Its name.
        path (Path): The PNG file.
    """
    from matplotlib.figure import Figure

    methods = _rows(entries)
    data = list(dict.fromkeys(entry.cell.test for entry in entries))
    frame = pd.DataFrame([
        {"data": one.cell.test, "method": one.row, **{name: value.mean for name, value in one.metrics.items()}}
        for one in entries
    ]).set_index(["data", "method"])
    width, height = 1.2 + 0.75 * len(methods), 1.3 + 0.28 * len(data)
    figure = Figure(figsize=(3 * width + 1.5, 2 * height + 0.6), layout="constrained")
    for number, (axes, metric) in enumerate(zip(figure.subplots(2, 3).flat, METRICS, strict=True)):
        column = frame[metric] if metric in frame else pd.Series(float("nan"), frame.index)
        grid = column.unstack("method").reindex(index=data, columns=methods)  # noqa: PD010 - pivot needs columns
        axes.imshow(grid, cmap="viridis", vmin=0, vmax=100, aspect="auto")
        axes.set_title(metric.replace("_", " "), fontsize=9)
        axes.set_xticks(range(len(methods)), methods, rotation=45, ha="right", fontsize=7)
        axes.set_yticks(range(len(data)), data if number % 3 == 0 else [""] * len(data), fontsize=7)
        for row, column_number in ((row, column) for row in range(len(data)) for column in range(len(methods))):
            value = grid.iloc[row, column_number]
            text, dark = ("-", True) if pd.isna(value) else (f"{value:.1f}", value < 60)
            colour = "white" if dark and text != "-" else "black"
            axes.text(column_number, row, text, ha="center", va="center", fontsize=7, color=colour)
    figure.suptitle(f"Convention {title}, percent", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        figure.savefig(partial, dpi=150, format="png")
    return path
