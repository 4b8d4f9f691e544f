# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-zsad schema``: JSON Schemas of the methods' configurations."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write the JSON Schemas that let editors check YAML configurations"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", type=Path, help="where to, one file for each method")
    parser.set_defaults(run=_schema)


def _schema(options: argparse.Namespace) -> None:
    from anomalib_zsad.models.schema import write_schemas

    for path in write_schemas(options.folder):
        print(path)
