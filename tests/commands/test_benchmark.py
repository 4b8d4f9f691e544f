# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-zsad benchmark`` and anomalib's own pipeline, as a user calls them."""

import json
from argparse import Namespace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from anomalib.pipelines import Benchmark

from anomalib_zsad.cli import main

CONFIGS = Path(__file__).parents[2] / "configs" / "benchmark"


def test_mistakes_end_with_a_message(tmp_path, capsys):
    assert main(["benchmark", str(tmp_path / "none.yaml")]) == 1
    assert "none.yaml" in capsys.readouterr().err
    plan = {"data": {"a": "Visa"}, "methods": {"PromptMoE": None}, "conventions": {"A": [{"train": "b"}]}}
    (tmp_path / "plan.yaml").write_text(json.dumps(plan))
    assert main(["benchmark", str(tmp_path / "plan.yaml"), "--output", str(tmp_path / "out")]) == 1
    assert "b: no such data; data has a" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_data_is_named_and_the_report_is_there(tmp_path, capsys):
    lost = {"class_path": "Folder", "init_args": {"name": "lost", "root": str(tmp_path / "no"), "normal_dir": "good"}}
    plan = {
        "common": {"backbone": "tiny-random", "image_size": 56},
        "data": {"one": lost, "two": lost},
        "methods": {"PromptMoE": None},
        "conventions": {"A": [{"train": "one"}]},
    }
    (tmp_path / "plan.yaml").write_text(json.dumps(plan))
    assert main(["benchmark", str(tmp_path / "plan.yaml"), "--output", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().out
    assert "[1/1] PromptMoE seed 0: one -> two: not measured (data-missing" in printed
    assert "data-missing" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.slow
def test_anomalibs_pipeline_runs_the_shipped_config(tmp_path, monkeypatch):
    content = yaml.safe_load((CONFIGS / "anomalib.yaml").read_text())
    job = content["benchmark"]
    job["model"]["class_path"]["grid"] = ["CoPS", "DAPO"]
    job["model"]["init_args"] |= {"image_size": 56, "epochs": 1}
    job["data"]["init_args"] |= {"train_images": 16, "val_images": 16, "test_images": 16}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    Benchmark().run(Namespace(config=tmp_path / "small.yaml"))
    (table,) = (pd.read_csv(path) for path in tmp_path.glob("runs/benchmark/*/results.csv"))
    assert list(table["model.class_path"]) == ["CoPS", "DAPO"]
    assert table[["image_AUROC", "pixel_PRO"]].notna().all(axis=None)
