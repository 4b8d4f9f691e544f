# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-zsad benchmark speed``: what each method costs, as a multiple of the bare CLIP image tower.

Everything is measured in turn in one process: the bare tower and the method, in eager float32 and bfloat16, compiled,
and on OpenVINO in float32, bfloat16 and with INT8 weights. Weights are random; they cost the same as published ones.
Prints a Markdown table; rows that cannot be measured here say why. docs/speed.md explains the columns.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from anomalib_zsad.files import whole

HELP = "what the methods cost, as a multiple of the bare image tower"
RUNS = ("eager-f32", "eager-bf16", "compiled-f32", "openvino-f32", "openvino-bf16", "openvino-int8")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("methods", nargs="+", help="models; options follow after commas: BayesPFL,num_samples=1")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=RUNS, help="(default: all)")
    parser.add_argument("--backbone", default="ViT-L-14-336", help="(default: %(default)s)")
    parser.add_argument("--image-size", type=int, default=518, help="side in pixels (default: %(default)s)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="batch sizes (default: 1)")
    parser.add_argument(
        "--devices", nargs="+", choices=("cpu", "cuda"), help="(default: cpu, and cuda where there is one)"
    )
    parser.add_argument("--repeat", type=int, default=3, help="rounds behind the warm-up (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="of the CPU (default: torch's choice)")
    parser.add_argument(
        "--official",
        action="append",
        default=[],
        metavar="METHOD=FILE:FUNCTION",
        help="official code of a method: FUNCTION(backbone, image_size, device) of a Python file of yours returns a "
        "callable that takes a batch of normalised images; may be repeated",
    )
    parser.add_argument("--train", action="store_true", help="seconds and peak memory of an optimiser step instead")
    parser.add_argument("--csv", type=Path, help="file to write the figures to, too; rewritten as they come in")
    parser.set_defaults(run=_speed)


def _speed(options: argparse.Namespace) -> None:
    import torch

    from anomalib_zsad.benchmark import speed

    if options.threads:
        torch.set_num_threads(options.threads)
    plan = speed.Plan(
        methods=tuple(options.methods),
        runs=tuple(run.replace("-", " ") for run in options.runs),
        backbone=options.backbone,
        image_size=options.image_size,
        batches=tuple(options.batch),
        devices=tuple(options.devices or (["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])),
        repeat=options.repeat,
        official=dict(_pair(text) for text in options.official),
    )
    if unknown := set(plan.official) - {method.partition(",")[0] for method in plan.methods}:
        msg = f"--official {', '.join(sorted(unknown))}: not among the methods to measure, {', '.join(plan.methods)}."
        raise ValueError(msg)
    if options.csv is not None:
        options.csv.parent.mkdir(parents=True, exist_ok=True)
    records: list = []
    for record in (speed.train_steps if options.train else speed.measure)(plan, _say):
        records.append(record)
        if options.csv is not None:
            _write(options.csv, speed.to_rows(records))
    threads = torch.get_num_threads()
    print(f"{plan.backbone}, {plan.image_size} px, {threads} threads, torch {torch.__version__}, random weights\n")
    print((speed.steps_markdown if options.train else speed.cells_markdown)(records))


def _pair(text: str) -> tuple[str, str]:
    method, sign, where = text.partition("=")
    if not sign or ":" not in where:
        msg = f"--official {text}: expected METHOD=FILE:FUNCTION."
        raise ValueError(msg)
    return method, where


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _write(path: Path, rows: list[list[object]]) -> None:
    """Replace the file as a whole, so that an interruption leaves the rows so far."""
    with whole(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
