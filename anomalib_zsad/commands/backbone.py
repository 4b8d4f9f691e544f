# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-zsad backbone``: train the small CLIP of this package yourself, and measure what it is worth."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "train a small CLIP on generated surfaces, and measure what it is worth"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    train = verbs.add_parser("train", help="train; goes on where an earlier run stopped")
    train.add_argument("folder", type=Path, help="gets log.jsonl, state.pt and, in the end, clip.safetensors")
    train.add_argument(
        "--steps", type=int, help="optimiser steps that the schedule is stretched to (default: the recipe's)"
    )
    train.add_argument("--seed", type=int, help="of weights, pictures and sentences (default: the recipe's)")
    train.add_argument("--until", type=int, help="stop before this step; the schedule stays the same")
    train.add_argument("--workers", type=int, default=1, help="processes that draw pictures (default: %(default)s)")
    train.add_argument(
        "--threads", type=int, default=1, help="parts of a step seen side by side (default: %(default)s)"
    )
    train.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    train.set_defaults(run=_train)

    evaluate = verbs.add_parser(
        "evaluate", help="text prompts, a linear adapter and the methods, beside three controls"
    )
    evaluate.add_argument("table", type=Path, help="CSV file to write; rows that it has are not measured again")
    evaluate.add_argument("--backbone", default="surfaces-tiny", help="(default: %(default)s)")
    evaluate.add_argument("--pretrained", help="tag or file (default: the backbone's own)")
    evaluate.add_argument("--methods", nargs="*", help="methods to train (default: all)")
    evaluate.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="(default: 0 1 2)")
    evaluate.add_argument("--images", type=int, default=640, help="pictures to train on (default: %(default)s)")
    evaluate.add_argument("--epochs", type=int, default=2, help="how often they are seen (default: %(default)s)")
    evaluate.add_argument("--image-size", type=int, help="side of all pictures (default: the backbone's native size)")
    evaluate.add_argument("--test-images", type=int, default=480, help="in each generated set (default: %(default)s)")
    evaluate.add_argument("--real", type=Path, help="folder of sets with an index.csv each")
    evaluate.set_defaults(run=_evaluate)


def _train(options: argparse.Namespace) -> None:
    from anomalib_zsad.pretraining.recipe import Recipe, train, write_backbone

    recipe = Recipe() if options.seed is None else Recipe(seed=options.seed)
    recipe = recipe if options.steps is None else recipe.lasting(options.steps)
    pupil = train(
        recipe,
        options.folder,
        until=options.until,
        workers=options.workers,
        threads=options.threads,
        device=options.device,
    )
    print(write_backbone(pupil, recipe, options.folder / "clip.safetensors"))


def _evaluate(options: argparse.Namespace) -> None:
    import pandas as pd

    from anomalib_zsad.pretraining.detectors import ARGUMENTS
    from anomalib_zsad.pretraining.evaluate import Plan, markdown, run

    plan = Plan(
        backbone=options.backbone,
        pretrained=options.pretrained,
        methods=tuple(ARGUMENTS if options.methods is None else options.methods),
        seeds=tuple(options.seeds),
        images=options.images,
        epochs=options.epochs,
        test_images=options.test_images,
        real=options.real,
        image_size=options.image_size,
    )
    for name, seed, test_set, values in run(plan, options.table):
        figures = ", ".join(f"{metric} {100 * value:.1f}" for metric, value in values.items())
        print(f"{name}, seed {seed}, {test_set}: {figures}", flush=True)
    print(
        f"\nAUROC in percent, image / pixel, at {plan.size} px; spread over seeds {', '.join(map(str, plan.seeds))}\n"
    )
    print(markdown(pd.read_csv(options.table)))
