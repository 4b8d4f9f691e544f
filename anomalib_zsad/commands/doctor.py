# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-zsad doctor``: whether downloaded data is complete and sound."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "whether downloaded data is complete and sound"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    data = verbs.add_parser(
        "data",
        help="find the data sets in a folder and look their files through",
        description="Find the data sets in a folder (and two levels below), compare their counts with the published "
        "ones, and look for missing and unreadable files, masks that are empty or of another size, and images that "
        "occur twice. The exit status is 1 if something is wrong or nothing is found.",
    )
    data.add_argument("root", type=Path, help="the folder")
    data.add_argument("--as", dest="name", metavar="NAME", help="what the folder is, for example Kvasir")
    data.set_defaults(run=_data)


def _data(options: argparse.Namespace) -> int:
    from anomalib_zsad.data.doctor import examine, table
    from anomalib_zsad.data.known_sets import SETS

    reports = examine(options.root, options.name)
    if not reports:
        msg = (
            f"no known data set in {options.root} or two levels below. --as NAME says what a folder is; known are "
            f"{', '.join(SETS)}. A folder of your own needs no doctor: anomalib's `--data Folder` reads it"
        )
        raise ValueError(msg)
    print(table(reports))
    return int(any(report.problems for report in reports))
