# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""A benchmark of seconds."""

import json
from pathlib import Path

import pytest

SMALL = {
    "common": {"backbone": "tiny-random", "image_size": 56},
    "trainer": {"accelerator": "cpu", "devices": 1},
    "loader": {"num_workers": 0},
}


def write_plan(folder: Path, **fields) -> Path:
    """A YAML file (JSON is YAML) of a benchmark that writes into ``folder``."""
    path = folder / "benchmark.yaml"
    path.write_text(json.dumps({**SMALL, "output": str(folder / "out"), **fields}))
    return path


@pytest.fixture(scope="session")
def folders(parts) -> dict[str, dict]:
    """The two generated objects as data sets of a plan."""
    return {name: {"class_path": "Folder", "init_args": arguments} for name, arguments in parts.items()}
