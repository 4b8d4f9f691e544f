# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The ``anomalib`` command on real photographs: train, test, predict, export, as a user types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anomalib.deploy import OpenVINOInferencer
from anomalib.engine import Engine
from PIL import Image

from anomalib_zsad import PromptMoE
from tests.conftest import QUIET, TINY

METRICS = ["image_AUROC", "image_AP", "image_F1Max", "pixel_AUROC", "pixel_AP", "pixel_PRO"]
COMMAND = [sys.executable, "-W", "ignore", "-c", "import anomalib_zsad; from anomalib.cli.cli import main; main()"]
MODEL = ["--model", "PromptMoE", *(f"--model.{name}={value}" for name, value in TINY.items())]
CPU = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


def anomalib(*arguments: str, cwd: Path, fails: bool = False) -> str:
    """Run the command; returns what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}  # this checkout, installed or not
    run = subprocess.run([*COMMAND, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert (run.returncode != 0) == fails, run.stdout[-3000:] + run.stderr[-3000:]
    return run.stdout + run.stderr


def nested(role: str, folder: dict[str, str]) -> list[str]:
    """Arguments of a datamodule inside ZeroShot, typed out."""
    return [f"--data.{role}=Folder", *(f"--data.{role}.{name}={value}" for name, value in folder.items())]


@pytest.fixture(scope="module")
def run(magnetic_tile, hazelnut, tmp_path_factory) -> Path:
    """``anomalib train`` with nested datamodules on the command line; the folder it ran in."""
    cwd = tmp_path_factory.mktemp("cli")
    data = ["--data", "ZeroShot", *nested("source", magnetic_tile()), *nested("target", hazelnut)]
    anomalib("train", *MODEL, *data, "--data.num_workers=0", "--trainer.max_epochs=2", *CPU, cwd=cwd)
    return cwd


def result(run: Path, pattern: str) -> Path:
    (path,) = (run / "results" / "PromptMoE" / "ZeroShot" / "magnetic tile-to-hazelnut" / "v0").rglob(pattern)
    return path


def test_training_leaves_table_pictures_checkpoint_and_adapter(run: Path) -> None:
    table = pd.read_csv(result(run, "metrics.csv"))
    assert list(table["class"]) == ["hazelnut", "mean"]
    assert (table.n_normal == 6).all()
    assert (table.n_anomalous == 17).all()
    assert ((table[METRICS] >= 0) & (table[METRICS] <= 1)).all(axis=None)
    assert set(table.backbone) == {"tiny-random/random"}
    pictures = list(result(run, "images").rglob("*.jpg"))
    assert len(pictures) == 23
    assert Image.open(pictures[0]).size == (1024, 256)
    assert Image.open(result(run, "routing.png")).width > 800
    assert result(run, "*.ckpt").stat().st_size < 5e6
    assert result(run, "promptmoe.safetensors").stat().st_size < 2e6


def test_adapter_and_checkpoint_test_as_training_did(run: Path, hazelnut: dict[str, str], tmp_path: Path) -> None:
    config = {
        "class_path": "ZeroShot",
        "init_args": {"target": {"class_path": "Folder", "init_args": hazelnut}, "num_workers": 0},
    }
    (tmp_path / "data.yaml").write_text(json.dumps(config))  # JSON is YAML
    wanted = pd.read_csv(result(run, "metrics.csv"))[METRICS]
    adapter = ["--model", "PromptMoE", f"--model.weights={result(run, 'promptmoe.safetensors')}"]
    checkpoint = [*MODEL, f"--ckpt_path={result(run, '*.ckpt')}"]
    for name, model in (("adapter", adapter), ("checkpoint", checkpoint)):
        root = tmp_path / name
        anomalib("test", *model, "--data", "data.yaml", f"--default_root_dir={root}", *CPU, cwd=tmp_path)
        (found,) = root.rglob("metrics.csv")
        pd.testing.assert_frame_equal(pd.read_csv(found)[METRICS], wanted, rtol=0, atol=1e-6)


def test_openvino_scores_the_files_that_predict_scores(run: Path, real: Path) -> None:
    adapter = result(run, "promptmoe.safetensors")
    photos = sorted((real / "hazelnut_toy" / "test" / "colour").iterdir())[:4]
    photos += sorted((real / "magnetic_tile" / "MT_Crack" / "Imgs").glob("*.jpg"))[:4]  # other sizes, grey
    export = ["--export_type", "openvino", "--export_root", "exported"]
    anomalib("export", "--model", "PromptMoE", f"--model.weights={adapter}", *export, cwd=run)
    inferencer = OpenVINOInferencer(
        run / "exported" / "weights" / "openvino" / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    engine = Engine(default_root_dir=run / "predicted", **QUIET)
    model = PromptMoE(weights=adapter, visualizer=False)
    for photo in photos:
        (batch,) = engine.predict(model, data_path=photo)
        got = inferencer.predict(photo)
        np.testing.assert_allclose(got.pred_score, batch.pred_score, rtol=0, atol=1e-4)
        np.testing.assert_allclose(got.anomaly_map.squeeze(), batch.anomaly_map.squeeze(), rtol=0, atol=1e-4)
        assert got.pred_label.item() == batch.pred_label.item()


def test_predict_draws_every_photo_of_a_folder(run: Path, real: Path, tmp_path: Path) -> None:
    for index, photo in enumerate(sorted((real / "hazelnut_toy" / "test" / "good").iterdir())[:3]):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.open(photo).save(tmp_path / "photos" / f"{index}.png")
    adapter = result(run, "promptmoe.safetensors")
    log = anomalib(
        "predict", "--model", "PromptMoE", f"--model.weights={adapter}", "--data", "photos", *CPU, cwd=tmp_path
    )
    assert sorted(path.name for path in (tmp_path / "results").rglob("*.png")) == ["0.png", "1.png", "2.png"]
    assert "Nothing to validate" in log


def test_a_plain_folder_of_good_parts_trains_on_synthetic_defects(hazelnut: dict[str, str], tmp_path: Path) -> None:
    data = [f"--data.{name}={value}" for name, value in hazelnut.items()]
    log = anomalib(
        "train", *MODEL, "--data", "Folder", *data, "--data.num_workers=0", "--trainer.max_epochs=1", *CPU, cwd=tmp_path
    )
    assert "anomalies synthesised on its 28 normal images" in " ".join(log.split())
    assert len(list((tmp_path / "results").rglob("metrics.csv"))) == 1
    assert len(list((tmp_path / "results").rglob("*.safetensors"))) == 1


def test_wrong_options_are_told_with_the_allowed_values(tmp_path: Path) -> None:
    message = " ".join(
        anomalib("fit", *MODEL, "--model.top_k=9", "--data", "SyntheticSurfaces", cwd=tmp_path, fails=True).split()
    )
    assert "top_k=9 is larger than num_experts=8; use 1..8" in message
    assert not (tmp_path / "results").exists()
