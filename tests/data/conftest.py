# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Small data sets: generated ones, and the real images laid out as anomalib's datamodules want them."""

import numpy as np
import pytest
from PIL import Image


def _paint(path, size=(24, 20), mark=False, seed=0):
    """A random image, or a mask with a square in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    if mark:
        pixels = np.zeros((height, width), np.uint8)
        pixels[4:9, 5:11] = 255
    else:
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def paint():
    """Write an image or a mask: ``paint(path, size=(width, height), mark=False, seed=0)``."""
    return _paint


@pytest.fixture
def mvtec(tmp_path):
    """Make a data set in MVTec AD's layout: ``mvtec({"bottle": {"crack": 3}})`` with 4 good images in both splits."""

    def make(categories, name="mvtec", good=4):
        root = tmp_path / name
        number = 0
        for category, defects in categories.items():
            for split, kind, count in (
                ("train", "good", good),
                ("test", "good", good),
                *(("test", *d) for d in defects.items()),
            ):
                for index in range(count):
                    number += 1
                    _paint(root / category / split / kind / f"{index:03}.png", seed=number)
                    if kind != "good":
                        _paint(root / category / "ground_truth" / kind / f"{index:03}_mask.png", mark=True)
        return root

    return make


@pytest.fixture
def folder(tmp_path):
    """Make a folder of images and give the arguments of anomalib's ``Folder``."""

    def make(name="parts", normal=6, abnormal=4, masks=True, normal_test=0):
        root = tmp_path / name
        for index in range(normal):
            _paint(root / "normal" / f"{index}.png", seed=index)
        for index in range(normal_test):
            _paint(root / "fine" / f"{index}.png", seed=200 + index)
        for index in range(abnormal):
            _paint(root / "abnormal" / "scratch" / f"{index}.png", seed=100 + index)
            if masks:
                _paint(root / "masks" / "scratch" / f"{index}.png", mark=True)
        arguments = {"name": name, "root": str(root), "normal_dir": "normal"}
        arguments |= {"abnormal_dir": "abnormal"} if abnormal else {}
        arguments |= {"mask_dir": "masks"} if abnormal and masks else {}
        return arguments | ({"normal_test_dir": "fine"} if normal_test else {})

    return make
