# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Golden values of published code.

``ZSAD_GOLDEN_DIR`` names a directory of the format that its README describes; every size, name and number is read from
the files. A file ``test_<name>.py`` gets the values of ``<name>.npz`` from the fixture ``golden`` and ends with

    def test_every_stored_key_is_read(unread_keys):
        assert not unread_keys
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from anomalib_zsad.clip import Clip, ClipConfig, TextConfig, VisionConfig

HEAD_WIDTH = 64  # of every attention head in these files
_RAN: dict[str, set[str]] = defaultdict(set)  # file -> names of the test functions that ran
_DESELECTED: set[str] = set()


class Golden:
    """Values of one npz file that remembers which keys were read."""

    def __init__(self, path: Path) -> None:
        self._values = np.load(path)
        self.read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values.files)

    def __getitem__(self, key: str) -> Tensor | list[str]:
        """Tensor (float16 as float32) or list of strings; the key counts as read."""
        self.read.add(key)
        value = self._values[key]
        if value.dtype.kind == "U":
            return value.tolist()
        tensor = torch.from_numpy(value)
        return tensor.float() if tensor.dtype == torch.float16 else tensor

    def compare(
        self,
        got: object,
        key: str,
        tol: float = 0.0,
        mode: Literal["U", "R", "E", "exact"] = "U",
        *,
        floor: float = 0.0,
    ) -> None:
        """Hold ``got`` against the stored value.

        ``U``: max|got - want| <= tol * max(1, max|want|). ``R``: ... <= tol * max|want|. ``E``: every entry within
        ``tol`` relative, entries with |want| < ``floor`` left out. ``exact``: equal, strings included.
        """
        want = self[key]
        if isinstance(want, list):
            assert mode == "exact", f"{key} holds strings"
            assert list(got) == want, key
            return
        got = torch.as_tensor(got).detach().cpu().double()
        want = want.double()
        assert got.shape == want.shape, f"{key}: shape {tuple(got.shape)}, stored {tuple(want.shape)}"
        assert torch.isfinite(got).all(), f"{key}: not finite"
        gap = (got - want).abs()
        if mode == "E":
            gap = gap[want.abs() >= floor]
            limit = tol * want.abs()[want.abs() >= floor]
        else:
            scale = {"U": max(1.0, float(want.abs().max())), "R": float(want.abs().max()), "exact": 0.0}[mode]
            limit = torch.full_like(gap, tol * scale)
        if gap.numel():
            worst, allowed = (side.flatten()[(gap - limit).argmax()] for side in (gap, limit))
            assert worst <= allowed, f"{key}: off by {worst:.2e}, allowed {allowed:.2e}"

    @property
    def unread(self) -> list[str]:
        """Keys that nobody asked for."""
        return sorted(set(self) - self.read)


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    default = Path(__file__).resolve().parents[3] / "shared" / "golden"
    path = Path(os.environ.get("ZSAD_GOLDEN_DIR", default))
    if not (path / "clip.safetensors").is_file():
        pytest.skip(f"no golden values: {path / 'clip.safetensors'} is missing; set ZSAD_GOLDEN_DIR")
    return path


@pytest.fixture(scope="session")
def golden_files(golden_dir: Path) -> Callable[[str], Golden]:
    opened: dict[str, Golden] = {}

    def get(name: str) -> Golden:
        path = golden_dir / f"{name}.npz"
        if not path.is_file():
            pytest.skip(f"no golden values: {path} is missing")
        return opened.setdefault(name, Golden(path))

    return get


@pytest.fixture(scope="module")
def golden(request: pytest.FixtureRequest, golden_files: Callable[[str], Golden]) -> Golden:
    """The npz file of this test file."""
    return golden_files(request.path.stem.removeprefix("test_"))


@pytest.fixture(scope="session")
def clip_sizes(golden_dir: Path) -> tuple[ClipConfig, int]:
    """Sizes of the stored CLIP and the side of the images."""
    with safe_open(golden_dir / "clip.safetensors", "pt") as file:
        size = json.loads(file.metadata()["config"])
        tokens, width = file.get_slice("visual.positional_embedding").get_shape()
    native = round((tokens - 1) ** 0.5) * size["patch"]
    vision = VisionConfig(native, size["patch"], width, size["vision_layers"], width // HEAD_WIDTH)
    text_width = size["text_width"]
    text = TextConfig(size["context"], size["vocab"], text_width, size["text_layers"], text_width // HEAD_WIDTH)
    return ClipConfig(vision, text, size["embed_dim"]), size["image_size"]


@pytest.fixture(scope="session")
def clip_weights(golden_dir: Path, clip_sizes: tuple[ClipConfig, int]) -> dict[str, Tensor]:
    """Weights of the stored CLIP; token rows that are not stored are zero."""
    with safe_open(golden_dir / "clip.safetensors", "pt") as file:
        weights = {key: file.get_tensor(key) for key in list(file.keys())}
    rows, ids = weights.pop("token_embedding.rows"), weights.pop("token_embedding.ids")
    table = torch.zeros(clip_sizes[0].text.vocab_size, rows.shape[1], dtype=rows.dtype)
    table[ids.long()] = rows
    return {key: weight.float() for key, weight in (weights | {"token_embedding.weight": table}).items()}


@pytest.fixture(scope="session")
def build_clip(clip_sizes: tuple[ClipConfig, int], clip_weights: dict[str, Tensor]) -> Callable[..., Clip]:
    """``build_clip(activation=..., positions=...)`` makes the stored CLIP at the size of the stored images."""

    def build(**options) -> Clip:
        config, image_size = clip_sizes
        return Clip(config, clip_weights, image_size=image_size, **options)

    return build


def pytest_deselected(items: list[pytest.Item]) -> None:
    _DESELECTED.update(item.nodeid.split("::")[0] for item in items)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and not report.skipped:
        file, *_, name = report.nodeid.split("::")
        _RAN[file].add(name.split("[")[0])


@pytest.fixture
def unread_keys(request: pytest.FixtureRequest, golden: Golden) -> list[str]:
    """Stored keys that no test of this file read; skips when only a part of the file runs."""
    file = request.node.nodeid.split("::")[0]
    others = {name for name in vars(request.module) if name.startswith("test_")} - {request.node.originalname}
    if file in _DESELECTED or others - _RAN[file]:
        pytest.skip("only a part of this file runs")
    return golden.unread
