# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-zsad benchmark``: methods x data sets x seeds, beside the published numbers.

Trains each method once per training data and seed, tests every data set, and writes tables. Whatever is finished is
kept: run the same command again after an interruption.
"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "methods x data sets x seeds from one YAML file, beside the published numbers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("config", type=Path, help="the YAML file; configs/benchmark/ has examples")
    parser.add_argument("--output", type=Path, help="folder of the results (default: as the file says)")
    parser.add_argument(
        "--plan", action="store_true", help="say what there is to do and what is missing; measure nothing"
    )
    parser.set_defaults(run=_benchmark)


def _benchmark(options: argparse.Namespace) -> int:
    if options.plan:
        from anomalib_zsad.benchmark.needs import needs, outline
        from anomalib_zsad.benchmark.plan import read_plan

        plan = read_plan(options.config, options.output)
        print(outline(plan))
        return int(any(need.missing for need in needs(plan)))
    from anomalib_zsad.benchmark.run import run_benchmark

    return 0 if run_benchmark(options.config, options.output) else 1
