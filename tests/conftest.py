# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Small generated data and the small random backbone, for everything that runs a whole model."""

import csv
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers are the parallelism; read when torch is imported

REAL = Path(os.environ.get("ZSAD_DATA_DIR") or Path(__file__).resolve().parents[2] / "shared" / "data")

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


def paint_indexed_parts(root: Path, seed: int, count: int = 3) -> None:
    """Normal and anomalous parts, ``count`` of each, with an ``index.csv``, whose training split is left out."""
    paint_parts(root, seed, normal=count, anomalous=count)
    with (root / "index.csv").open("w", newline="") as file:
        index = csv.writer(file)
        index.writerow(["image", "label", "mask", "split", "type"])
        index.writerow(["good/not_there.png", 0, "", "train", "good"])
        for number in range(count):
            index.writerow([f"good/{number:03}.png", 0, "", "test", "good"])
            index.writerow([f"cut/{number:03}.png", 1, f"mask/{number:03}.png", "test", "cut"])


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


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real images."""
    if not (REAL / "magnetic_tile" / "index.csv").is_file():
        pytest.skip(f"no real images at {REAL} (set ZSAD_DATA_DIR)")
    return REAL


@pytest.fixture(scope="session")
def magnetic_tile(real: Path, tmp_path_factory: pytest.TempPathFactory):
    """Links to some of the magnetic tiles, as arguments of anomalib's ``Folder``."""

    def make(per_defect: int = 4, good: int = 20) -> dict[str, str]:
        left = defaultdict(lambda: per_defect, good=good)
        root = tmp_path_factory.mktemp("real") / "magnetic_tile"
        with (real / "magnetic_tile" / "index.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                kind = row["type"]
                if left[kind] == 0:
                    continue
                left[kind] -= 1
                image = real / "magnetic_tile" / row["image"]
                links = {root / ("normal" if kind == "good" else f"abnormal/{kind}") / image.name: image}
                if row["mask"]:
                    mask = real / "magnetic_tile" / row["mask"]
                    links[root / "masks" / kind / mask.name] = mask
                for link, file_path in links.items():
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(file_path.resolve())
        names = {"normal_dir": "normal", "abnormal_dir": "abnormal", "mask_dir": "masks"}
        return {"name": "magnetic tile", "root": str(root), **names}

    return make


@pytest.fixture(scope="session")
def hazelnut(real: Path) -> dict[str, str]:
    """The hazelnuts with paint spots, as arguments of anomalib's ``Folder``."""
    return {
        "name": "hazelnut",
        "root": str(real / "hazelnut_toy"),
        "normal_dir": "train/good",
        "normal_test_dir": "test/good",
        "abnormal_dir": "test/colour",
        "mask_dir": "ground_truth/colour",
    }
