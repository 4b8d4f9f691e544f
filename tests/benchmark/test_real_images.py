# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""All methods and WinClip on real images, by the command: what the tables hold. No figure is judged.

The small CLIP has never seen a photograph, and WinClip has random weights in a small tower: its own are 800 MB, which
tests do not download, and take seconds a picture.
"""

import json
from pathlib import Path

import pandas as pd
import pytest

from anomalib_zsad import MODELS
from anomalib_zsad.benchmark.comparison import REASONS
from anomalib_zsad.cli import main
from anomalib_zsad.metrics import METRICS

IMAGE, PIXEL = [name for name in METRICS if "image" in name], [name for name in METRICS if "pixel" in name]
ROWS = [*((name, "deployable") for name in (*MODELS, "WinClip")), ("BayesPFL", "official"), ("CoPS", "official")]


@pytest.fixture
def scans(real: Path, tmp_path: Path) -> dict:
    """Five slices with and five without a tumour."""
    for label in ("yes", "no"):
        (tmp_path / "scans" / label).mkdir(parents=True)
        for path in sorted((real / "brain_mri" / label).iterdir())[:5]:
            (tmp_path / "scans" / label / path.name).symlink_to(path.resolve())
    return {"class_path": "BrainMRI", "init_args": {"root": str(tmp_path / "scans")}}


def test_all_methods_and_winclip(magnetic_tile, hazelnut, scans, small_winclip, tmp_path, capsys):
    tiles = {"class_path": "Folder", "init_args": magnetic_tile(per_defect=2, good=10)}
    plan = {
        "output": str(tmp_path / "out"),
        "common": {"backbone": "surfaces-tiny", "image_size": 112, "epochs": 1},
        "trainer": {"accelerator": "cpu", "devices": 1},
        "loader": {"num_workers": 0},
        "class_words": "bayes_pfl",
        "data": {
            "tiles": tiles,
            "hazelnut": {"class_path": "Folder", "init_args": hazelnut},
            "BrainMRI": scans,
        },
        "methods": {
            "BayesPFL": {
                "init_args": {"first_stage_epochs": 1, "num_samples": 2},
                "rules": ["deployable", "official"],
            },
            "CoPS": {"rules": ["deployable", "official"]},
            "DAPO": {"init_args": {"num_prompts": 1}},
            "PromptAD": {"init_args": {"anomaly_repeats": 1}},
            "PromptMoE": {"init_args": {"warmup_epochs": 0}},
            "WinClip": {"init_args": {"backbone": str(small_winclip), "pretrained": "random"}},
        },
        "conventions": {"A": [{"train": "tiles"}]},
    }
    (tmp_path / "plan.yaml").write_text(json.dumps(plan))
    assert main(["benchmark", str(tmp_path / "plan.yaml")]) == 0
    assert "[16/16] " in capsys.readouterr().out

    table = pd.read_csv(tmp_path / "out" / "results.csv", keep_default_na=False, na_values={n: [""] for n in METRICS})
    means = table[table["class"] == "mean"].set_index(["data", "method", "rules"])
    assert set(means.index) == {(data, *row) for data in ("hazelnut", "BrainMRI") for row in ROWS}
    counts = means[["n_normal", "n_anomalous"]].groupby("data").agg(set)
    assert counts.n_normal.to_dict() == {"hazelnut": {6}, "BrainMRI": {5}}
    assert counts.n_anomalous.to_dict() == {"hazelnut": {17}, "BrainMRI": {5}}
    assert means[IMAGE].notna().all(axis=None)
    assert means.loc["hazelnut", PIXEL].notna().all(axis=None)
    assert means.loc["BrainMRI", PIXEL].isna().all(axis=None)  # it has no masks
    assert means[IMAGE].min(axis=None) >= 0
    assert means[IMAGE].max(axis=None) <= 1
    by_method = table.groupby("method")
    assert by_method.backbone.unique().str.join(" ").to_dict() == {
        **dict.fromkeys(MODELS, "surfaces-tiny/v4"), "WinClip": "winclip-small/random"
    }  # fmt: skip
    assert by_method.class_words.agg(set)["WinClip"] == {"bayes_pfl"}

    summary = pd.read_csv(tmp_path / "out" / "summary.csv", keep_default_na=False)
    assert set(summary.published) == set(summary.difference) == {""}
    for method, codes in summary.groupby("method").codes.agg(set).items():
        (found,) = {tuple(one.split()) for one in codes}
        assert {"other-data", "random-backbone" if method == "WinClip" else "small-backbone"} <= set(found)
        assert set(found) <= set(REASONS)

    text = (tmp_path / "out" / "report.md").read_text()
    assert "| data | BayesPFL (deployable) | BayesPFL (official) | CoPS (deployable)" in text
    assert "* WinClip: winclip-small/random at 240 px, class words: bayes_pfl" in text
    assert "* `random-backbone`: the CLIP has random weights" in text
    assert "## Missing" not in text
    assert (tmp_path / "out" / "A.png").read_bytes().startswith(b"\x89PNG")
