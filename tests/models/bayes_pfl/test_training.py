# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The two stages and the official evaluation, in the Engine, on real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from lightning.pytorch import Callback
from sklearn.metrics import roc_auc_score

from anomalib_zsad.data import ZeroShot
from anomalib_zsad.models.bayes_pfl import BayesPFL
from tests.conftest import REAL

ROOT = REAL / "hazelnut_toy"
LATE = ("pooling.", "image_map.")
BOTH = ("text_map.",)
OPTIONS = {"backbone": "tiny-random", "image_size": 56, "num_samples": 2, "first_stage_epochs": 2, "epochs": 3}

pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason=f"no images: {ROOT} is missing; set ZSAD_DATA_DIR")


def hazelnuts() -> Folder:
    return Folder(
        name="hazelnut", root=ROOT, normal_dir="train/good", normal_test_dir="test/good", abnormal_dir="test/colour",
        mask_dir="ground_truth/colour",
    )  # fmt: skip


class Watch(Callback):
    """Learned tensors, learning rates and optimiser state at the end of every epoch."""

    def __init__(self) -> None:
        self.tensors: list[dict[str, torch.Tensor]] = []
        self.rates: list[list[float]] = []
        self.text_steps: list[int] = []

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.tensors.append({name: value.clone() for name, value in pl_module.model.state_dict().items()})
        optimizer = trainer.optimizers[0]
        self.text_steps.append(int(optimizer.state[pl_module.model.text_map.weight]["step"]))

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.rates.append([group["lr"] for group in optimizer.param_groups])


def fit(root: Path, epochs: int, ckpt_path: Path | None = None) -> tuple[Engine, Watch]:
    torch.manual_seed(0)
    watch = Watch()
    model = BayesPFL(**OPTIONS)
    data = ZeroShot(source=hazelnuts(), train_batch_size=6, eval_batch_size=6, num_workers=0)
    engine = Engine(
        default_root_dir=root, accelerator="cpu", devices=1, max_epochs=epochs, callbacks=[watch], logger=False,
        enable_progress_bar=False, num_sanity_val_steps=0,
    )  # fmt: skip
    engine.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return engine, watch


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, Watch]:
    return fit(tmp_path_factory.mktemp("trained"), epochs=2)


@pytest.fixture(scope="module")
def resumed(trained: tuple[Engine, Watch], tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, Watch]:
    """The third epoch, stage 2, from the checkpoint behind stage 1."""
    checkpoint = trained[0].trainer.checkpoint_callback.best_model_path
    return fit(tmp_path_factory.mktemp("resumed"), epochs=3, ckpt_path=checkpoint)


def test_stage_1_leaves_the_image_branch_alone(trained: tuple[Engine, Watch]) -> None:
    first, second = trained[1].tensors
    for name, value in first.items():
        alone = name.startswith(LATE) or name == "stage"
        assert torch.equal(value, second[name]) == alone, name


def test_stage_1_warms_up_and_decays(trained: tuple[Engine, Watch]) -> None:
    rates = np.array(trained[1].rates)
    assert rates[0, 3] in {0.0, 1e-4}  # one warm-up step in ten and more, none in fewer
    assert (np.diff(rates[1:], axis=0) < 0).all()
    np.testing.assert_allclose(rates[1], rates[1, 3] * np.array([10, 100, 10, 1]))


def test_stage_2_trains_the_image_branch_only(trained: tuple[Engine, Watch], resumed: tuple[Engine, Watch]) -> None:
    before, (after,) = trained[1].tensors[-1], resumed[1].tensors
    for name, value in before.items():
        trains = name.startswith((*LATE, *BOTH)) or name == "stage"
        assert torch.equal(value, after[name]) != trains, name
    assert after["stage"] == 2
    steps = len(resumed[1].rates)
    assert {rates[3] for rates in resumed[1].rates} == {1e-4}
    assert resumed[1].text_steps == [steps]  # its moments started afresh
    assert trained[1].text_steps[-1] > steps


def test_official_evaluation_scales_over_the_test_set(resumed: tuple[Engine, Watch], tmp_path: Path) -> None:
    (adapter,) = Path(resumed[0].trainer.default_root_dir).rglob("*.safetensors")
    model = BayesPFL(weights=adapter, rules="official")
    assert model.config.num_samples == OPTIONS["num_samples"]
    data = ZeroShot(target=hazelnuts(), eval_batch_size=6, num_workers=0)
    engine = Engine(default_root_dir=tmp_path, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False)
    (metrics,) = engine.test(model, datamodule=data)

    model.eval()
    text, maps, labels = [], [], []
    with torch.no_grad():
        for batch in data.test_dataloader():
            parts = model.model.predict(model.pre_processor(batch.image), batch.class_name)
            text += parts.text_score.tolist()
            maps += parts.anomaly_map.flatten(1).sort(dim=1).values[:, -2000:].mean(dim=1).tolist()
            labels += batch.gt_label.tolist()
    scaled = [(np.array(x) - min(x)) / (max(x) - min(x) + 1e-8) for x in (text, maps)]
    assert metrics["image_AUROC"] == pytest.approx(roc_auc_score(labels, 0.5 * scaled[0] + 0.5 * scaled[1]), abs=1e-6)


def test_official_rules_are_refused_at_export(tmp_path: Path) -> None:
    model = BayesPFL(**OPTIONS, rules="official")
    for export in (model.to_onnx, model.to_torch, model.to_openvino):
        with pytest.raises(ValueError, match="rules='deployable'"):
            export(tmp_path)
    assert not list(tmp_path.rglob("*.*"))
