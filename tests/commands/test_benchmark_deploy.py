# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-zsad benchmark deploy``, on generated parts by default and on real tiles for all methods when slow."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from anomalib.models import get_model
from sklearn.metrics import roc_auc_score

from anomalib_zsad.benchmark.deploy import FORMATS, Plan, Runner, auroc
from anomalib_zsad.cli import main
from anomalib_zsad.data.photographs import Photographs
from tests.conftest import paint_indexed_parts


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Six generated parts with an index."""
    root = tmp_path_factory.mktemp("photos")
    paint_indexed_parts(root, seed=3)
    return root


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    model = get_model("DAPO", backbone="tiny-random", image_size=56, visualizer=False)
    return model.save_adapter(tmp_path_factory.mktemp("adapter") / "dapo.safetensors")


def test_cells_are_measured_once_and_stand_in_tables(photos: Path, adapter: Path, tmp_path: Path, capsys) -> None:
    command = ["benchmark", "deploy", str(photos), "--adapters", str(adapter), "--output", str(tmp_path)]
    command += ["--formats", "openvino f32", "openvino INT8", "--batches", "any"]
    assert main(command) == 0
    lines = capsys.readouterr().out
    assert "[3/3] DAPO openvino INT8, batch any: score " in lines
    table = pd.read_csv(tmp_path / "deploy.csv")
    assert list(table.format) == ["Lightning", "openvino f32", "openvino INT8"]
    lightning, whole, small = table.to_dict("records")
    assert lightning["score_difference"] == lightning["map_difference"] == 0
    assert 0 < whole["map_difference"] < 1e-4
    assert whole["map_difference"] < small["map_difference"] < 0.1
    assert small["size"] < 0.6 * whole["size"]
    assert (table[["images_per_second", "cpu_seconds", "memory"]] > 0).all(axis=None)
    assert whole["memory"] < lightning["memory"]  # neither PyTorch nor anomalib is in it
    assert abs(whole["image_auroc"] - lightning["image_auroc"]) < 1e-6
    assert abs(whole["pixel_auroc"] - lightning["pixel_auroc"]) < 1e-3
    report = (tmp_path / "deploy.md").read_text()
    assert f"Images: {photos.name}, all 6 images" in report
    assert "| DAPO | openvino INT8 | any |" in report
    assert not list((tmp_path / "predictions").rglob("*.npy"))

    assert main(command) == 0
    assert capsys.readouterr().out.count("measured before") == 3

    left = tmp_path / "predictions" / "DAPO" / "Lightning"  # by a run that was killed, before the adapter changed
    left.mkdir(parents=True)
    np.save(left / "scores.npy", np.zeros(6, np.float32))
    np.save(left / "maps.npy", np.zeros((6, 56, 56), np.float32))
    (cell,) = (path for path in tmp_path.rglob("*.json") if '"format": "openvino f32"' in path.read_text())
    cell.unlink()
    assert main(command) == 0
    assert capsys.readouterr().out.count("measured before") == 2
    again = pd.read_csv(tmp_path / "deploy.csv").to_dict("records")[1]
    assert again["map_difference"] == pytest.approx(whole["map_difference"], rel=0.5)


def test_what_cannot_be_measured_has_its_reason_and_is_tried_again(photos: Path, adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(adapter.read_bytes()[:2000])
    plan = Plan(photos, tmp_path / "out", {"DAPO": tmp_path / "cut.safetensors"}, methods=("DAPO",), batches=("any",))
    lines: list[str] = []
    rows = Runner(plan, lines.append).run()
    assert [row.format for row in rows] == list(FORMATS)
    assert all("damaged" in row.reason for row in rows)
    assert len(lines) == len(FORMATS)
    assert all("not measured" in line for line in lines)
    Runner(plan, lines.append).run()
    assert not any("measured before" in line for line in lines)


def test_mistakes_end_with_a_message(photos: Path, tmp_path: Path, capsys) -> None:
    assert main(["benchmark", "deploy", str(tmp_path)]) == 1
    assert "has no index.csv" in capsys.readouterr().err
    assert main(["benchmark", "deploy", str(photos), "--formats", "tflite"]) == 1
    assert "no tflite; there are Lightning, torch, onnx" in capsys.readouterr().err


def test_photographs_are_spread_over_the_index(photos: Path) -> None:
    some = Photographs(photos, most=3)
    assert [path.name for path in some.paths] == ["000.png", "001.png", "002.png"]
    assert str(some) == f"{photos.name}, 3 of 6 images"
    whole = Photographs(photos)
    assert whole.labels.tolist() == [False, True] * 3
    assert whole.masked
    assert [int(whole.mask(index, 96).sum()) for index in range(6)] == [0, 8 * 30] * 3


def test_auroc_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    scores, truth = rng.integers(0, 50, 400).astype(np.float32), rng.random(400) < 0.3
    assert auroc(scores.copy(), truth) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert auroc(scores, np.zeros(400, bool)) is None
    assert auroc(scores, None) is None


PEAK = """
import sys
from anomalib_zsad.benchmark.deploy_cell import peak_memory
print(peak_memory(), *({"torch", "anomalib"} & set(sys.modules)))
"""


def test_peak_memory_is_that_of_the_process_alone() -> None:
    ballast = np.ones(50_000_000)  # 400 MB that a child seems to have had, where one asks for its resource usage
    run = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    (peak,) = run.stdout.split()
    assert 5e6 < int(peak) < 0.9 * ballast.nbytes


@pytest.mark.slow
def test_all_methods_in_all_formats(real: Path, tmp_path: Path) -> None:
    """No cell without figures; float32 agrees to 1e-4 before calibration stretches it."""
    plan = Plan(
        real / "magnetic_tile", tmp_path, images=40, backbone="tiny-random", image_size=56, train_images=16,
        calibration_images=8,
    )  # fmt: skip
    rows = Runner(plan).run()
    assert [row for row in rows if row.reason] == []
    assert len(rows) == 5 * (8 + 6)
    for row in rows:
        if row.format in {"torch", "onnx", "openvino f32"}:
            # trained for a moment, a method's scores lie close together, and calibration stretches their rounding
            assert row.score_difference < 2e-3
            assert row.map_difference < 2e-3
        assert row.facts["method"] == row.method
        assert row.facts["calibrated"]
