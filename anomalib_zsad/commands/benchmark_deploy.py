# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-zsad benchmark deploy``: every method in every format that anomalib exports, measured on real images.

For each it prints the largest difference of score and map from Lightning, file size, images per second, peak memory and
the change of AUROC. What cannot be made or measured has its reason in the table. Finished cells are kept: the same
command goes on after an interruption. deploy.md and deploy.csv are written at the end.

Exit status: 0 if every cell is measured, 1 if not.
"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "every method in every export format: parity, size, speed, memory, AUROC"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("data", type=Path, help="folder with images and an index.csv (image,label,mask,split,type)")
    parser.add_argument("--output", type=Path, default=Path("results/deploy"), help="(default: %(default)s)")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="(default: those of the adapters, or all)")
    parser.add_argument("--formats", nargs="+", metavar="FORMAT", help='such as "openvino INT8" (default: all)')
    parser.add_argument("--batches", nargs="+", choices=("any", "fixed"), help="(default: both)")
    parser.add_argument(
        "--adapters",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="adapters to measure; methods without one are trained for a moment on generated surfaces",
    )
    parser.add_argument("--images", type=int, help="measure on so many images at most (default: all)")
    parser.add_argument(
        "--precision", default="f32", help="OpenVINO's arithmetic while the clock runs: f32, bf16, f16 (default: f32)"
    )
    parser.add_argument("--backbone", default="surfaces-tiny", help="of the trained ones (default: %(default)s)")
    parser.add_argument("--image-size", type=int, default=112, help="of the trained ones (default: %(default)s)")
    parser.set_defaults(run=_deploy)


def _deploy(options: argparse.Namespace) -> int:
    import anomalib_zsad
    from anomalib_zsad.adapters import read_header
    from anomalib_zsad.benchmark.deploy import FORMATS, Plan, Runner
    from anomalib_zsad.benchmark.deploy_table import write_tables

    adapters: dict[str, Path] = {}
    for path in options.adapters:
        method = read_header(path)["method"]
        if method in adapters:
            msg = f"--adapters: {adapters[method]} and {path} are both of {method}; give one of them."
            raise ValueError(msg)
        adapters[method] = path
    chosen = {"images": options.images, "precision": options.precision, "backbone": options.backbone}
    for name, allowed in (("methods", anomalib_zsad.MODELS), ("formats", FORMATS), ("batches", ("any", "fixed"))):
        given = getattr(options, name) or list(adapters if name == "methods" and adapters else allowed)
        if unknown := [one for one in given if one not in allowed]:
            msg = f"--{name}: no {', '.join(unknown)}; there are {', '.join(allowed)}."
            raise ValueError(msg)
        chosen[name] = tuple(given)
    plan = Plan(options.data, options.output, adapters, image_size=options.image_size, **chosen)
    runner = Runner(plan, lambda line: print(line, flush=True))
    rows = runner.run()
    paths = write_tables(plan, rows, str(runner.photos))
    print(f"\n{paths[1].read_text(encoding='utf-8')}", *paths, sep="\n")
    return 1 if any(row.reason for row in rows) else 0
