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


@pytest.fixture
def small_winclip(tmp_path) -> Path:
    """The configuration of a CLIP that is small enough for WinClip to take no seconds a picture."""
    sizes = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 240, "layers": 1, "width": 64, "patch_size": 48},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    path = tmp_path / "winclip-small.json"
    path.write_text(json.dumps(sizes))
    return path
