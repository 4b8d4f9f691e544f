# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""BayesPFL in the Engine on generated data: the words of the official evaluation, its extra map, resumed stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.data import MPDD, BTech, Folder
from anomalib.engine import Engine
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from sklearn.metrics import roc_auc_score

from anomalib_zsad.data import Br35H, BrainMRI, HeadCT, ZeroShot
from anomalib_zsad.functional import topk_mean
from anomalib_zsad.models.bayes_pfl import BayesPFL
from tests.conftest import QUIET
from tests.data.field_trees import plant

OPTIONS = {"backbone": "tiny-random", "image_size": 56, "num_samples": 2, "visualizer": False}
LATE = ("pooling.", "image_map.", "text_map.")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return BayesPFL(**OPTIONS, seed=1).save_adapter(tmp_path_factory.mktemp("untrained") / "bayespfl.safetensors")


# ---- official rules --------------------------------------------------------------------------------------------------


class Collect(Callback):
    """The words that were in the prompts, and labels and parts of the scores, by category."""

    def __init__(self) -> None:
        self.words: dict[str, set[str]] = {}
        self.found: dict[str, list[tuple[bool, float, float]]] = {}

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        (words,) = pl_module.prompt_words(batch).values()
        for name, word, label, parts in zip(batch.category, words, batch.gt_label, pl_module.score_parts, strict=True):
            self.words.setdefault(name, set()).add(word)
            self.found.setdefault(name, []).append((bool(label), *parts.tolist()))


@pytest.fixture(scope="module")
def hospital_and_factory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    for name in ("HeadCT", "BrainMRI", "Br35H", "BTech", "MPDD"):
        plant(name, root / name)
    return root


def test_official_rules_speak_the_published_words(adapter: Path, hospital_and_factory: Path, tmp_path: Path) -> None:
    root = hospital_and_factory
    sets = [HeadCT(root / "HeadCT"), BrainMRI(root / "BrainMRI"), Br35H(root / "Br35H"), MPDD(root / "MPDD")]
    data = ZeroShot(
        target=[*sets, BTech(root / "BTech" / "BTech_Dataset_transformed")], class_words={"02": "plank"}, num_workers=0,
        target_categories=["head_ct", "brain_mri", "metal_plate", "01", "02"],
    )  # fmt: skip
    seen, model = Collect(), BayesPFL(weights=adapter, rules="official", visualizer=False)
    Engine(default_root_dir=tmp_path, callbacks=[seen], logger=False, **QUIET).test(model, datamodule=data)
    assert seen.words == {
        "head_ct": {"head ct"},
        "BrainMRI/brain_mri": {"brain ct"},
        "Br35H/brain_mri": {"brain"},
        "metal_plate": {"metal_plate"},  # the released code renames nine classes, and this is none of them
        "01": {"metal1"},
        "02": {"plank"},
    }
    assert model.describe()["class_words"] == "bayes_pfl, some replaced"
    for row in model.evaluator.report.rows:
        labels, text, maps = map(np.array, zip(*seen.found[row.name], strict=True))
        if row.name in {"head_ct", "BrainMRI/brain_mri", "Br35H/brain_mri"}:  # scored by the text alone
            maps = text
        scaled = [(part - part.min()) / (part.max() - part.min() + 1e-8) for part in (text, maps)]
        assert row.metrics["image_AUROC"] == pytest.approx(roc_auc_score(labels, sum(scaled))), row.name


def test_official_rules_know_the_set_of_a_plain_datamodule(adapter, hospital_and_factory: Path, tmp_path: Path) -> None:
    seen, model = Collect(), BayesPFL(weights=adapter, rules="official", visualizer=False)
    data = HeadCT(hospital_and_factory / "HeadCT", num_workers=0)
    Engine(default_root_dir=tmp_path, callbacks=[seen], logger=False, **QUIET).test(model, datamodule=data)
    assert seen.words == {"head_ct": {"head ct"}}
    assert model.describe()["class_words"] == "bayes_pfl"
    data = HeadCT(hospital_and_factory / "HeadCT", class_words="object", num_workers=0)
    seen = Collect()
    Engine(default_root_dir=tmp_path, callbacks=[seen], logger=False, **QUIET).test(model, datamodule=data)
    assert seen.words == {"head_ct": {"object"}}
    assert model.describe()["class_words"] == "object"


class Parts(Callback):
    """The parts of the scores beside those that the rules could have taken, by category."""

    def __init__(self) -> None:
        self.found: dict[str, list[dict[str, float]]] = {}

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        plain = pl_module.model.predict(batch.image, **pl_module.prompt_words(batch))
        could = {"text": plain.text_score, 20: topk_mean(plain.anomaly_map, 20), 2000: plain.map_score}
        for row, (name, taken) in enumerate(zip(batch.category, pl_module.score_parts[:, 1], strict=True)):
            values = {rule: values[row].item() for rule, values in could.items()}
            self.found.setdefault(name, []).append({**values, "taken": taken.item()})


@pytest.mark.parametrize("options", [{}, {"class_name": "thing"}], ids=str)
def test_official_rules_go_by_data_set_and_class_and_not_by_words(
    options: dict, adapter: Path, parts: dict[str, dict], hospital_and_factory: Path, tmp_path: Path
) -> None:
    folders = [Folder(**{**parts[one], "name": name}) for one, name in (("washer", "Brain"), ("gasket", "capsules"))]
    words = {"head_ct": "object", "capsules": "pill"}
    data = ZeroShot(target=[HeadCT(hospital_and_factory / "HeadCT"), *folders], class_words=words, num_workers=0)
    seen, model = Parts(), BayesPFL(weights=adapter, rules="official", visualizer=False, **options)
    Engine(default_root_dir=tmp_path, callbacks=[seen], logger=False, **QUIET).test(model, datamodule=data)
    for name, rule in {"head_ct": "text", "Brain": 2000, "capsules": 20}.items():
        for values in seen.found[name]:
            taken = [one for one in ("text", 20, 2000) if values[one] == pytest.approx(values["taken"], abs=1e-6)]
            assert taken == [rule], name


def test_an_extra_map_under_official_rules(adapter: Path, parts: dict[str, dict], tmp_path: Path) -> None:
    model = BayesPFL(weights=adapter, rules="official", uncertainty_map=True)
    engine = Engine(default_root_dir=tmp_path, logger=False, **QUIET)
    engine.predict(model, data_path=Path(parts["gasket"]["root"]) / "cut" / "000.png")
    (picture,) = Path(engine.trainer.default_root_dir).rglob("000.png")
    assert Image.open(picture).width == 256 * 4


# ---- stages ----------------------------------------------------------------------------------------------------------


def fit(data: ZeroShot, root: Path, callbacks: list[Callback], ckpt_path: Path | None = None) -> BayesPFL:
    model = BayesPFL(**OPTIONS, first_stage_epochs=1, epochs=2, seed=3)
    limits = {"max_epochs": 2, "limit_train_batches": 3, "limit_val_batches": 0, "num_sanity_val_steps": 0}
    engine = Engine(default_root_dir=root, callbacks=callbacks, logger=False, **QUIET, **limits)
    engine.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return model


def test_a_training_resumed_within_stage_2_trains_the_image_branch_only(parts: dict[str, dict], tmp_path: Path) -> None:
    def data() -> ZeroShot:
        return ZeroShot(source=Folder(**parts["washer"]), num_workers=0, train_batch_size=4, calibration_ratio=0.2)

    every = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    fit(data(), tmp_path / "whole", [every])
    path = tmp_path / "step=5.ckpt"  # the second of three steps of the second epoch
    before = torch.load(path, weights_only=True)["state_dict"]
    model = fit(data(), tmp_path / "resumed", [], path)
    for name, value in model.model.state_dict().items():
        assert torch.equal(value, before[f"model.{name}"]) != name.startswith(LATE), name
    assert {name for name, value in model.model.named_parameters() if value.requires_grad} == {
        name for name, _ in model.model.named_parameters() if name.startswith(LATE)
    }


@pytest.mark.parametrize(
    ("stages", "limit", "told"),
    [
        ({"first_stage_epochs": 1, "epochs": 2}, {"max_epochs": 1}, True),
        ({"first_stage_epochs": 1, "epochs": 2}, {"max_steps": 1}, True),
        ({"first_stage_epochs": 1, "epochs": 2}, {"max_epochs": 2}, False),
        ({"first_stage_epochs": 1, "epochs": 1}, {}, False),  # asked for
    ],
)
def test_a_training_that_ends_before_stage_2_says_so(
    stages: dict, limit: dict, told: bool, parts: dict[str, dict], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = ZeroShot(source=Folder(**parts["washer"]), num_workers=0, train_batch_size=4, calibration_ratio=0.2)
    limits = {"limit_train_batches": 2, "limit_val_batches": 0, "num_sanity_val_steps": 0, "logger": False}
    model = BayesPFL(**OPTIONS, **stages)
    Engine(default_root_dir=tmp_path, **QUIET, **limits, **limit).fit(model, datamodule=data)
    assert ("ends within the first of two stages" in caplog.text) == told
    assert model.model.stage.item() == (2 if limit == {"max_epochs": 2} else 1)
