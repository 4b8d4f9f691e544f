# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Which learning rate a short training on generated pictures wants, without a look at what will be tested.

    python benchmarks/learning_rates.py rates.csv --image-size 112 --images 320 --epochs 2

Trains each method at each rate, with several seeds, on seen classes with seen defects, measures it on the validation
pictures of the same classes and defects, and prints the mean over the seeds: one seed is not enough, as a rate that is
too high fails with some only. Classes and defects that are called unseen take no part, nor do the test pictures. Rows
that the table holds already are not measured again.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import pandas as pd
import torch

from anomalib_zsad.pretraining.detectors import ARGUMENTS, trained
from anomalib_zsad.pretraining.evaluate import measure
from anomalib_zsad.pretraining.picture_sets import generated_sets

KEY = ("method", "rate", "seed")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="CSV file of the results")
    parser.add_argument("--methods", nargs="+", default=list(ARGUMENTS))
    parser.add_argument("--rates", nargs="+", type=float, default=[1e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3])
    parser.add_argument("--backbone", default="surfaces-tiny")
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--val-images", type=int, default=240)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    seen = generated_sets(options.val_images, options.image_size, split="val")[0]
    for method, rate, run in itertools.product(options.methods, options.rates, options.seeds):
        done = pd.read_csv(options.table) if options.table.exists() else pd.DataFrame(columns=list(KEY))
        if (method, rate, run) in set(done[list(KEY)].itertuples(index=False, name=None)):
            continue
        detect = trained(
            method, options.backbone, None, run, options.images, options.epochs, options.image_size,
            learning_rate=rate,
        )  # fmt: skip
        row = {"method": method, "rate": rate, "seed": run, **measure(detect, seen)}
        pd.DataFrame([row]).to_csv(options.table, mode="a", header=not options.table.exists(), index=False)
        figures = (f"{metric} {row[metric]:.3f}" for metric in ("image_AUROC", "pixel_AUROC"))
        print(f"{method:10} {rate:.0e} seed {run}", *figures, flush=True)

    figures = pd.read_csv(options.table).groupby(["method", "rate"], sort=False)[["image_AUROC", "pixel_AUROC"]].mean()
    print(figures.assign(mean=figures.mean(axis=1)).round(3).to_string())


if __name__ == "__main__":
    main()
