# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The export matrix as Markdown and CSV."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import pandas as pd

from anomalib_zsad.benchmark.deploy import ACQ_METRIC, LIGHTNING, Plan, Row, versions
from anomalib_zsad.benchmark.results import write_whole

HEADINGS = (
    "method", "format", "batch", "max Δ score", "max Δ map", "MB", "of f32", "images/s", "CPU ms/image", "hint",
    "peak MB", "image AUROC", "Δ", "pixel AUROC", "Δ",
)  # fmt: skip
EXPLANATION = """\
Differences are from Lightning's predictions of the same files, with OpenVINO in f32; AUROC in percent, its Δ in points.
One image at a time, by the median time of an image, with OpenVINO's precision hint as shown; what else the machine does
shows in images/s and less in CPU time. Peak memory is that of a process of its own, interpreter and libraries included.
INT8_PTQ and INT8_ACQ saw {count} generated pictures; INT8_ACQ held {metric} on other such pictures. The size of
Lightning is that of its adapter, without CLIP.
"""


def write_tables(plan: Plan, rows: Sequence[Row], photographs: str) -> list[Path]:
    """Write ``deploy.csv``, with full precision, and ``deploy.md`` into the plan's folder."""
    columns = [one.name for one in fields(Row) if one.name != "facts"]
    paths = [plan.output / "deploy.csv", plan.output / "deploy.md"]
    write_whole(paths[0], pd.DataFrame([asdict(row) for row in rows])[columns].to_csv(index=False))
    write_whole(paths[1], markdown(plan, rows, photographs))
    return paths


def markdown(plan: Plan, rows: Sequence[Row], photographs: str) -> str:
    """A table of all cells with what one must know to read it."""
    clips = sorted({str(row.facts.get("clip", {}).get("name")) for row in rows if row.facts})
    sizes = sorted({str(row.facts.get("image_size")) for row in rows if row.facts})
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    where = f"{', '.join(clips)}, {', '.join(sizes)} px"
    lines = [
        f"Backbone {where}. Images: {photographs}. {os.cpu_count()} CPU cores. {used}.",
        "",
        *EXPLANATION.format(count=plan.calibration_images, metric=ACQ_METRIC).splitlines(),
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|---|---|---" + "|--:" * (len(HEADINGS) - 3) + "|",
    ]
    lines += ["| " + " | ".join(_cells(row, rows)) + " |" for row in rows]
    return "\n".join([*lines, ""])


def _cells(row: Row, rows: Sequence[Row]) -> list[str]:
    if row.reason:
        return [row.method, row.format, row.batch, row.reason.replace("|", "/"), *[""] * (len(HEADINGS) - 4)]
    same = [one for one in rows if one.method == row.method and not one.reason]
    lightning = next((one for one in same if one.format == LIGHTNING), None)
    whole = next((one for one in same if (one.format, one.batch) == ("openvino f32", row.batch)), None)
    compressed = row.format.startswith("openvino") and whole is not None and row is not whole
    assert row.size is not None
    assert row.memory is not None
    assert row.cpu_seconds is not None
    cells = [row.method, row.format, row.batch, f"{row.score_difference:.1e}", f"{row.map_difference:.1e}"]
    cells += [f"{row.size / 1e6:.1f}", f"{row.size / whole.size:.2f}" if compressed and whole and whole.size else ""]
    cells += [f"{row.images_per_second:.1f}", f"{1000 * row.cpu_seconds:.1f}", row.precision, f"{row.memory / 1e6:.0f}"]
    for level in ("image_auroc", "pixel_auroc"):
        value, before = getattr(row, level), getattr(lightning, level, None)
        cells.append("-" if value is None else f"{100 * value:.2f}")
        cells.append("" if value is None or before is None or row is lightning else f"{100 * (value - before):+.2f}")
    return cells
