# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What is written is calibrated, by the values it was written with and on auxiliary images alone."""

import logging
from pathlib import Path

import pytest
import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from anomalib.models import get_model

import anomalib_zsad
from anomalib_zsad.adapters import read_header
from anomalib_zsad.calibration import CalibratedPostProcessor
from anomalib_zsad.data import ZeroShot
from tests.conftest import QUIET, paint_parts


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    root = tmp_path_factory.mktemp("parts")
    return {
        "source": paint_parts(root / "washer", 0, normal=12, anomalous=12, size=64),
        "target": paint_parts(root / "gasket", 1, normal=2, anomalous=2, size=64),
    }


def data(parts: dict[str, dict], *sides: str) -> ZeroShot:
    folders = {side: Folder(**parts[side]) for side in sides}
    return ZeroShot(**folders, num_workers=0, train_batch_size=4, calibration_ratio=0.25)


def build(name: str = "DAPO", **options):
    return get_model(name, backbone="tiny-random", image_size=56, seed=3, visualizer=False, evaluator=False, **options)


def statistics(model) -> dict[str, list[float]]:
    return model.post_processor.statistics()


def written(root: Path) -> dict[str, list[float]]:
    (path,) = root.rglob("adapter/*.safetensors")
    return read_header(path)["calibration"]


@pytest.mark.parametrize(
    "limits",
    [
        {"max_steps": 2},  # in the middle of the first epoch
        {"max_steps": 7},  # in the middle of the second
        {"max_epochs": 2, "check_val_every_n_epoch": 3},
        {"max_epochs": 2, "check_val_every_n_epoch": None, "val_check_interval": 3},
    ],
    ids=str,
)
def test_the_calibration_is_that_of_the_last_step(limits: dict, parts, tmp_path: Path) -> None:
    model, engine = build(learning_rate=0.03), Engine(default_root_dir=tmp_path, logger=False, **QUIET, **limits)
    engine.fit(model, datamodule=data(parts, "source"))
    found = statistics(model)
    assert found == written(tmp_path)
    assert found.keys() == {"image_knots", "pixel_knots"}
    assert engine.trainer.global_step == limits.get("max_steps", 10)
    Engine(default_root_dir=tmp_path / "again", logger=False, **QUIET).validate(model, datamodule=data(parts, "source"))
    for name, knots in statistics(model).items():
        assert found[name] == pytest.approx(knots, abs=1e-6)


def test_a_training_without_validation_says_what_its_adapter_lacks(parts, tmp_path: Path, caplog) -> None:
    engine = Engine(default_root_dir=tmp_path, logger=False, max_steps=1, limit_val_batches=0, **QUIET)
    with caplog.at_level(logging.WARNING, "anomalib_zsad"):
        engine.fit(build(), datamodule=data(parts, "source"))
    assert written(tmp_path) == {}
    assert "It has no calibration" in caplog.text


@pytest.fixture
def uncalibrated(tmp_path: Path) -> Path:
    return build().save_adapter(tmp_path / "raw.safetensors")


def test_weights_without_calibration_get_it_from_the_source(uncalibrated, parts, tmp_path: Path) -> None:
    model = build(weights=uncalibrated)
    assert statistics(model) == {}
    Engine(default_root_dir=tmp_path / "v", logger=False, **QUIET).validate(model, datamodule=data(parts, "source"))
    assert written(tmp_path / "v") == statistics(model)

    source = data(parts, "source")
    source.setup()
    by_hand, raw = CalibratedPostProcessor(), build(weights=uncalibrated, post_processor=False).eval()
    for batch in source.val_dataloader():
        with torch.no_grad():
            raw.pre_processor.on_validation_batch_start(None, None, batch, 0)
            by_hand.collect(batch.update(**raw.model(batch.image)._asdict()))
    by_hand.calibrate()
    for name, knots in by_hand.statistics().items():
        assert statistics(model)[name] == pytest.approx(knots, abs=1e-6)

    tested = build(weights=uncalibrated)  # a test calibrates first, and on the source alone
    engine = Engine(default_root_dir=tmp_path / "t", logger=False, **QUIET)
    engine.test(tested, datamodule=data(parts, "source", "target"))
    assert statistics(tested) == statistics(model)


def test_without_a_source_they_stay_as_they_are_and_it_is_said(uncalibrated, parts, tmp_path: Path, caplog) -> None:
    model = build(weights=uncalibrated)
    with caplog.at_level(logging.WARNING, "anomalib_zsad"):
        Engine(default_root_dir=tmp_path, logger=False, **QUIET).test(model, datamodule=data(parts, "target"))
    assert statistics(model) == {}
    assert not list(tmp_path.rglob("adapter/*"))
    assert "verdicts compare raw scores with 0.5" in caplog.text


@pytest.mark.parametrize("name", anomalib_zsad.MODELS)
def test_mixed_precision_trains_and_leaves_scores_alone(name: str, parts, tmp_path: Path) -> None:
    """Scores near 1 have 256 values in bfloat16, and ties move every metric."""
    results: dict[str, list] = {}
    adapter = build(name).save_adapter(tmp_path / "raw.safetensors")
    for precision in ("32-true", "bf16-mixed"):
        model = build(name, weights=adapter, post_processor=False)
        engine = Engine(default_root_dir=tmp_path / precision, logger=False, precision=precision, **QUIET)
        results[precision] = engine.predict(model, datamodule=data(parts, "target"))
    for exact, mixed in zip(*results.values(), strict=True):
        assert mixed.anomaly_map.dtype == mixed.pred_score.dtype == torch.float32
        torch.testing.assert_close(mixed.anomaly_map, exact.anomaly_map, rtol=0, atol=1e-6)
        torch.testing.assert_close(mixed.pred_score, exact.pred_score, rtol=0, atol=1e-6)

    seen, model = set(), build(name)
    model.model.load_clip().visual.register_forward_pre_hook(
        lambda *_: seen.add((model.model.training, torch.is_autocast_enabled("cpu")))
    )
    engine = Engine(default_root_dir=tmp_path / "fit", logger=False, max_steps=1, precision="bf16-mixed", **QUIET)
    engine.fit(model, datamodule=data(parts, "source"))
    assert seen == {(True, True), (False, False)}
