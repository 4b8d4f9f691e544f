# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""What PRO costs of a test pass: less than 5 %."""

import time
from collections.abc import Callable

import pytest
import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from lightning.pytorch import Callback

from anomalib_zsad import PromptMoE, ZeroShot
from anomalib_zsad.metrics import scores
from anomalib_zsad.metrics.ranking import Ranking
from tests.conftest import QUIET


class Clock(Callback):
    """Processor time of the test pass, reading and metrics included."""

    def on_test_start(self, trainer, pl_module) -> None:
        self.start = time.process_time()

    def on_test_end(self, trainer, pl_module) -> None:
        self.seconds = time.process_time() - self.start


@pytest.fixture
def spent(monkeypatch) -> dict[str, float]:
    """Processor time of what only PRO needs: the regions of the masks, and the area under its curve."""
    seconds = {"pro": 0.0}

    def timed(function: Callable) -> Callable:
        def call(*arguments, **options):
            start = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                seconds["pro"] += time.process_time() - start

        return call

    monkeypatch.setattr(scores, "region_weights", timed(scores.region_weights))
    monkeypatch.setattr(Ranking, "pro", timed(Ranking.pro))
    return seconds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "pretrained", "image_size", "per_defect"),
    [("surfaces-tiny", "v4", 224, 4), ("ViT-B-16", "random", 512, 1)],
)
@pytest.mark.parametrize("thresholds", [None, 2**16])
def test_pro_costs_less_than_a_twentieth_of_a_test_pass(
    backbone, pretrained, image_size, per_defect, thresholds, magnetic_tile, spent, tmp_path
):
    model = PromptMoE(backbone=backbone, pretrained=pretrained, image_size=image_size, visualizer=False)
    model.evaluator.thresholds = thresholds
    tiles = magnetic_tile(per_defect=per_defect, good=2 * per_defect)
    clock, threads = Clock(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        data = ZeroShot(target=Folder(**tiles), num_workers=0)
        Engine(default_root_dir=tmp_path, callbacks=[clock], logger=False, **QUIET).test(model, datamodule=data)
    finally:
        torch.set_num_threads(threads)
    share = spent["pro"] / clock.seconds
    print(f"{backbone} at {image_size} px, thresholds {thresholds}: PRO {share:.2%} of {clock.seconds:.1f} s")
    assert 0 < share < 0.05
