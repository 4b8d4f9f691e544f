# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""One test run of PromptMoE over three classes, two of them of one name, with the same file names in each."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from anomalib.data import Folder, MVTecAD
from anomalib.engine import Engine
from PIL import Image

from anomalib_zsad.data import ZeroShot
from anomalib_zsad.models.promptmoe import PromptMoE
from anomalib_zsad.visualization import RoutingPicture, ZeroShotVisualizer

QUIET = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False}
GOOD, BROKEN = 2, 3


class Run(NamedTuple):
    """A finished test run."""

    model: PromptMoE
    data: Path
    results: Path


def paint(root, colour):
    """A class in MVTec AD's layout: plain pictures of one colour, broken ones with a bright bar."""
    for index in range(GOOD + BROKEN):
        kind = "good" if index < GOOD else "broken"
        pixels = np.random.default_rng(index).normal(colour, 15, (40, 40, 3))
        if kind == "broken":
            pixels[10 : 14 + index, 5:30] = 250
            mask = np.zeros((40, 40), np.uint8)
            mask[10 : 14 + index, 5:30] = 255
            path = root / "ground_truth" / kind / f"{index - GOOD:03}_mask.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
        for split in ("train", "test") if kind == "good" else ("test",):
            path = root / split / kind / f"{index if kind == 'good' else index - GOOD:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def make_model(**options):
    """A small random PromptMoE whose routers are far from even."""
    torch.manual_seed(5)
    model = PromptMoE(backbone="tiny-random", image_size=112, **options)
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """``mvtec/bottle``, ``mvtec/cable`` and a folder that is called bottle, too."""
    root = tmp_path_factory.mktemp("photos")
    for name, colour in (("mvtec/bottle", (200, 60, 60)), ("mvtec/cable", (60, 200, 60)), ("other", (60, 60, 200))):
        paint(root / name, colour)
    return root


@pytest.fixture(scope="session")
def target(photos):
    """Make the datamodule with the three classes."""

    def make():
        other = Folder(
            name="bottle", root=photos / "other", normal_dir="train/good", normal_test_dir="test/good",
            abnormal_dir="test/broken", mask_dir="ground_truth/broken",
        )  # fmt: skip
        return ZeroShot(
            target=[MVTecAD(root=photos / "mvtec"), other], target_categories=["bottle", "cable"], num_workers=0,
            eval_batch_size=4,
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def run(photos, target, tmp_path_factory):
    """Test once."""
    engine = Engine(default_root_dir=tmp_path_factory.mktemp("run"), callbacks=[RoutingPicture()], **QUIET)
    model = make_model(visualizer=ZeroShotVisualizer())
    engine.test(model, datamodule=target())
    return Run(model, photos, Path(engine.trainer.default_root_dir))
