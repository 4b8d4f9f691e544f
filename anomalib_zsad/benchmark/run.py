# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The benchmark as one call."""

from __future__ import annotations

from pathlib import Path

from anomalib_zsad.benchmark.plan import read_plan
from anomalib_zsad.benchmark.report import write_report
from anomalib_zsad.benchmark.runner import Problem, Runner
from anomalib_zsad.benchmark.tables import Tables


def run_benchmark(config: str | Path, output: str | Path | None = None) -> bool:
    """Measure what is missing and write the tables.

    Args:
        config (str | Path): The YAML file, see :class:`anomalib_zsad.benchmark.plan.Plan`.
        output (str | Path | None): Folder of adapters, cells and tables. Defaults to ``None``: the file's ``output``,
            or ``results/benchmark/`` and the name of the file.

    Returns:
        bool: Whether every cell is measured.

    Raises:
        OSError: If the file cannot be read, or the folder cannot be written.
        ValueError: If the file does not describe a benchmark.
    """
    plan = read_plan(config, output)
    runner = Runner(plan)
    problems: dict[str, Problem] = {}
    try:
        problems = runner.run()
    finally:
        for path in write_report(Tables(plan, runner.results), problems, plan.output):
            print(path)
    if problems:
        print("report.md ends with what is missing and why; run the same command again to measure it.")
    return not problems
