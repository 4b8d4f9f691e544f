# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Mean and spread of repeated runs, in percent.

    python benchmarks/average.py results/leave_one_out_mvtec

Reads ``<class>/<run>/**/metrics.csv`` below the folder, as the loop in ``configs/experiment/leave_one_out_mvtec.yaml``
leaves them; of a run that was repeated in place, the last. The row ``mean`` averages the classes of each run first, so
that its spread is that of whole runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from anomalib_zsad.metrics import METRICS


def average(folder: Path) -> pd.DataFrame:
    """Mean, sample standard deviation and number of runs of every metric, a row per class.

    Raises:
        ValueError: If there is no ``metrics.csv``, or some classes lack a run that others have.
    """
    tables = []
    for path in sorted(folder.glob("*/*/**/metrics.csv")):
        table = pd.read_csv(path).query("`class` != 'mean'")
        tables.append(table.assign(run=path.relative_to(folder).parts[1]))
    if not tables:
        msg = f"No <class>/<run>/.../metrics.csv below {folder}."
        raise ValueError(msg)
    runs = pd.concat(tables).drop_duplicates(["class", "run"], keep="last").set_index(["class", "run"])
    values = 100 * runs[list(METRICS)]
    if len(values) != values.index.levels[0].size * values.index.levels[1].size:
        counts = ", ".join(f"{name} {count}" for name, count in values.groupby("class").size().items())
        msg = f"The mean over classes needs the same runs of each. Runs found: {counts}."
        raise ValueError(msg)
    whole = pd.concat({"mean": values.groupby("run").mean()}, names=["class"])
    return pd.concat([values, whole]).groupby("class", sort=False).agg(["mean", "std", "count"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    print(average(parser.parse_args().folder).round(2).to_string())


if __name__ == "__main__":
    main()
