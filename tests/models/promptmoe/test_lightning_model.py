# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What is particular to PromptMoE as an anomalib model; what all methods share is tested in ``test_every_model.py``."""

import pytest
from anomalib.data import Folder
from anomalib.engine import Engine
from lightning.pytorch import Callback
from torch.optim import Adam

from anomalib_zsad.data import ZeroShot
from anomalib_zsad.models.promptmoe import PromptMoE
from tests.conftest import QUIET, TINY


@pytest.mark.parametrize("warmup_epochs", [1.5, 0.0])
def test_adam_warms_up_over_the_first_epochs_and_stays(parts, tmp_path, warmup_epochs: float) -> None:
    rates = []

    class Rates(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
            rates.append(optimizer.param_groups[0]["lr"])

    data = ZeroShot(source=Folder(**parts["washer"]), num_workers=0)
    model = PromptMoE(**TINY, visualizer=False, learning_rate=2e-3, warmup_epochs=warmup_epochs)
    limits = {"max_epochs": 2, "limit_val_batches": 0, "num_sanity_val_steps": 0, "logger": False}
    engine = Engine(default_root_dir=tmp_path, callbacks=[Rates()], **limits, **QUIET)
    engine.fit(model, datamodule=data)
    (optimiser,) = engine.trainer.optimizers
    assert isinstance(optimiser, Adam)
    (group,) = optimiser.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (2e-3, (0.5, 0.999), 0)
    assert {id(value) for value in group["params"]} == {id(value) for value in model.model.parameters()}
    assert len(rates) == 2 * model.steps_per_epoch >= 4
    warmup = max(1, round(warmup_epochs * model.steps_per_epoch))
    assert rates == pytest.approx([2e-3 * min(1, (step + 1) / warmup) for step in range(len(rates))])
