# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Small generated data and the small random backbone, for everything that runs a whole model."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TINY = {"backbone": "tiny-random", "image_size": 112}
"""Arguments that make any method small enough to train in seconds."""

QUIET = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "enable_model_summary": False}


def paint_parts(root: Path, seed: int, normal: int = 12, anomalous: int = 12, size: int = 96) -> dict:
    """Noisy discs, some with a dark bar across and a mask; returns the arguments of anomalib's ``Folder``."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    for kind, count in (("good", normal), ("cut", anomalous)):
        for index in range(count):
            centre = size / 2 + rng.normal(0, 4, 2)
            disc = np.hypot(rows - centre[0], columns - centre[1]) < size * rng.uniform(0.3, 0.4)
            image = np.where(disc, 170.0, 60.0)[..., None] + rng.normal(0, 12, (size, size, 3))
            if kind == "cut":
                top, left = rng.integers(size // 3, size // 2, 2)
                mask = np.zeros((size, size), np.uint8)
                mask[top : top + 8, left : left + 30] = 255
                image[mask > 0] -= 110
                (root / "mask").mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(root / "mask" / f"{index:03}.png")
            (root / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / kind / f"{index:03}.png")
    return {"name": root.name, "root": str(root), "normal_dir": "good", "abnormal_dir": "cut", "mask_dir": "mask"}


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """Two generated objects, ``washer`` and ``gasket``, as arguments of anomalib's ``Folder``."""
    root = tmp_path_factory.mktemp("parts")
    return {name: paint_parts(root / name, seed) for seed, name in enumerate(("washer", "gasket"))}


@pytest.fixture
def auxiliary(parts: dict[str, dict]):
    """A fresh ZeroShot datamodule: trains on ``washer``, tests on ``gasket``."""
    from anomalib.data import Folder

    from anomalib_zsad.data import ZeroShot

    return ZeroShot(
        source=Folder(**parts["washer"]), target=Folder(**parts["gasket"]), num_workers=0, calibration_ratio=0.2
    )
