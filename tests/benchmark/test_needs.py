# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What a plan lacks is said before anything is measured: which, and where it goes."""

from pathlib import Path

import pytest

from anomalib_zsad.benchmark.cells import all_cells
from anomalib_zsad.benchmark.needs import as_markdown, needs
from anomalib_zsad.benchmark.plan import read_plan
from anomalib_zsad.cli import main
from anomalib_zsad.data.known_sets import SETS
from tests.benchmark.conftest import write_plan

FIELD = Path(__file__).parents[2] / "configs" / "benchmark" / "field.yaml"


def test_the_fields_plan_names_every_data_set_and_clip(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANOMALIB_ZSAD_HOME", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert main(["benchmark", str(FIELD), "--plan"]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("50 trainings, 0 done; 1634 cells, 0 measured; in results/benchmark/field\n")
    for name, spec in read_plan(FIELD).data.items():
        (line,) = [one for one in printed.splitlines() if one.startswith(f"data {name}: ")]
        if layout := SETS.get(spec.class_path):
            assert "datasets/" in line
            assert layout.home in line
            assert layout.tree.splitlines()[0] in printed
    for clip in ("ViT-L-14-336/openai", "ViT-B-16/openai", "ViT-B-16-plus-240/laion400m_e31"):
        assert f"CLIP {clip}: The weights" in printed
        assert f"anomalib-zsad weights fetch {clip.replace('/', ' ')}" in printed
    assert not any(tmp_path.iterdir())


def test_what_is_there_is_not_missing(folders, tmp_path, capsys):
    path = tmp_path / "mine.safetensors"
    plan = write_plan(
        tmp_path,
        data=folders,
        methods={"PromptMoE": {"adapters": {"washer": str(path)}}, "WinClip": {"init_args": {"pretrained": "random"}}},
        conventions={"own": [{"train": "washer"}]},
    )
    assert [(need.kind, need.missing) for need in needs(read_plan(plan))] == [
        ("data", ""), ("data", ""), ("CLIP", ""), ("CLIP", ""), ("adapter", "there is no such file"),
    ]  # fmt: skip
    path.write_bytes(b"0")
    assert main(["benchmark", str(plan), "--plan"]) == 0
    assert "data gasket: there\nCLIP tiny-random: there" in capsys.readouterr().out
    assert len(all_cells(read_plan(plan))) == 2


def test_methods_that_cannot_run_are_named(folders, tmp_path, capsys):
    plan = write_plan(
        tmp_path,
        data=folders,
        methods={"Promptmoe": {}, "PromptMoE": {"trained_on": {"washer": {"epoch": 3}}}},
        conventions={"own": [{"train": "washer"}]},
    )
    assert main(["benchmark", str(plan), "--plan"]) == 1
    printed = capsys.readouterr().out
    assert "method Promptmoe: There is no model 'Promptmoe'" in printed
    assert "method PromptMoE: trained_on washer: epoch=3: Extra inputs are not permitted" in printed


@pytest.mark.parametrize(
    "row",
    [
        "| `BayesPFL` | ViT-L-14-336, openai | 518 px | 20 epochs in batches of 32 | bayes_pfl |",
        "| `CoPS` | ViT-L-14-336, openai | 518 px | 10 epochs in batches of 8 (5 on MVTec AD) | none |",
        "| `WinClip` | ViT-B-16-plus-240, laion400m_e31 | 240 px | none | folder |",
    ],
)
def test_the_table_says_what_a_row_needs(row):
    assert row in as_markdown(read_plan(FIELD)).splitlines()
