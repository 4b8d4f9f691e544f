# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The averages over repeated runs, against the same by hand."""

import statistics
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from anomalib_zsad.metrics.report import METRICS, Report, Row

SPEC = spec_from_file_location("average", Path(__file__).parents[3] / "benchmarks" / "average.py")
average = module_from_spec(SPEC)
SPEC.loader.exec_module(average)

FOUND = {("bottle", "0"): 0.9, ("bottle", "1"): 0.7, ("screw", "0"): 0.5, ("screw", "1"): 0.6}


def write(root: Path, name: str, run: str, value: float, version: str = "v0") -> None:
    row = Row(name, 3, 4, dict.fromkeys(METRICS, value))
    Report((row,)).write_csv(
        root / name / run / "PromptAD" / "ZeroShot" / version / "metrics.csv", {"backbone": "x", "image_size": "352"}
    )


def test_mean_and_spread(tmp_path: Path) -> None:
    for (name, run), value in FOUND.items():
        write(tmp_path, name, run, value)
    write(tmp_path, "screw", "1", 0.1, "v0")
    write(tmp_path, "screw", "1", 0.6, "v1")  # the last one counts
    table = average.average(tmp_path)
    assert set(table.columns.get_level_values(0)) == set(METRICS)
    table = table["image_AUROC"]
    assert list(table.index) == ["bottle", "screw", "mean"]
    assert table.loc["bottle"].tolist() == pytest.approx([80, 100 * statistics.stdev([0.9, 0.7]), 2])
    assert table.loc["mean"].tolist() == pytest.approx([67.5, 100 * statistics.stdev([0.7, 0.65]), 2])


def test_missing_runs_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No <class>/<run>"):
        average.average(tmp_path)
    for (name, run), value in list(FOUND.items())[:3]:
        write(tmp_path, name, run, value)
    with pytest.raises(ValueError, match="bottle 2, screw 1"):
        average.average(tmp_path)
