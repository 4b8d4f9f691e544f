# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Real runs at small size: figures, what is shared, what is skipped, what fails alone."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import anomalib.data
import pandas as pd
import pytest
import torch
from anomalib.engine import Engine
from anomalib.models.image.winclip import torch_model as winclip

from anomalib_zsad import BayesPFL, PromptMoE, ZeroShot
from anomalib_zsad.benchmark.cells import all_cells
from anomalib_zsad.benchmark.clips import SharedClips
from anomalib_zsad.benchmark.others import load_other
from anomalib_zsad.benchmark.plan import read_plan
from anomalib_zsad.benchmark.results import Results
from anomalib_zsad.benchmark.run import run_benchmark
from anomalib_zsad.benchmark.runner import Runner
from anomalib_zsad.cli import main
from anomalib_zsad.metrics import METRICS
from tests.benchmark.conftest import write_plan
from tests.conftest import QUIET

METHODS = {
    "BayesPFL": {
        "init_args": {"epochs": 1, "first_stage_epochs": 1, "num_samples": 2},
        "rules": ["deployable", "official"],
    },
    "WinClip": None,
}


@pytest.fixture(scope="module")
def bench(folders, tmp_path_factory):
    """A finished benchmark: its YAML file."""
    missing = {"class_path": "Folder", "init_args": {"name": "lost", "root": "nowhere", "normal_dir": "good"}}
    path = write_plan(
        tmp_path_factory.mktemp("bench"),
        data={**folders, "lost": missing},
        methods=METHODS,
        conventions={"own": [{"train": "washer", "test": ["gasket", "lost"]}]},
    )
    before = os.environ.get("ANOMALIB_ZSAD_HOME"), os.environ.get("HF_HUB_OFFLINE")
    os.environ |= {"ANOMALIB_ZSAD_HOME": str(path.parent / "none"), "HF_HUB_OFFLINE": "1"}
    try:
        assert not run_benchmark(path)
    finally:
        for name, value in zip(("ANOMALIB_ZSAD_HOME", "HF_HUB_OFFLINE"), before, strict=True):
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return path


def test_figures_are_those_of_the_engine(bench, folders, parts):
    table = pd.read_csv(bench.parent / "out" / "results.csv").query("`class` == 'mean'").set_index("rules")
    (adapter,) = (bench.parent / "out" / "adapters").iterdir()
    for rules in ("deployable", "official"):
        model = BayesPFL(weights=adapter, rules=rules, num_samples=2, visualizer=False)
        data = ZeroShot(target=folders["gasket"], num_workers=0)
        Engine(default_root_dir=bench.parent / rules, logger=False, **QUIET).test(model, datamodule=data)
        assert table.loc[rules, list(METRICS)].to_dict() == pytest.approx(model.evaluator.report.mean, abs=1e-12)


def test_what_cannot_be_measured_is_named_and_stops_nothing_else(bench):
    text = (bench.parent / "out" / "report.md").read_text()
    assert "`weights-missing` WinClip needs the CLIP ViT-B-16-plus-240 with the weights laion400m_e31" in text
    assert "anomalib-zsad weights fetch ViT-B-16-plus-240 laion400m_e31" in text
    assert "`data-missing` Cannot set up lost" in text
    assert "| gasket | " in text
    assert "random-backbone" in text
    assert pd.read_csv(bench.parent / "out" / "summary.csv").published.isna().all()


def test_one_mistake_ends_no_other_cell(folders, tmp_path, capsys):
    """A misspelt argument of a data set, a model, anomalib's model: each is named, what is right is measured."""
    wrong = {**folders["gasket"], "init_args": {**folders["gasket"]["init_args"], "normaldir": "good"}}
    promptmoe = {"class_path": "PromptMoE", "init_args": {"epochs": 1, "warmup_epochs": 0}}
    path = write_plan(
        tmp_path,
        data={**folders, "wrong": wrong},
        methods={
            "right": promptmoe,
            "misspelt": {"class_path": "PromptMoE", "init_args": {"epoch": 1}},
            "WinClip": {"init_args": {"pretrained": "random", "shots": 1}},
        },
        conventions={"own": [{"train": "washer", "test": ["gasket", "wrong"]}]},
    )
    assert not run_benchmark(path)
    printed = capsys.readouterr().out
    assert "right seed 0: washer -> gasket: image AUROC" in printed
    assert "washer -> wrong: not measured (test-failed, Folder has no argument 'normaldir'. It has name, no" in printed
    assert "gasket: not measured (training-failed, PromptMoE has no argument 'epoch'. It has " in printed
    assert "WinClip: gasket: not measured (test-failed, WinClip has no argument 'shots'. It has " in printed
    assert main(["benchmark", str(path), "--plan"]) == 1
    printed = capsys.readouterr().out
    assert "data wrong: Folder has no argument 'normaldir'" in printed
    assert "method misspelt: epoch=1: Extra inputs are not permitted" in printed


def test_a_training_that_diverges_ends_no_other_cell(folders, tmp_path, capsys):
    wild = {"class_path": "CoPS", "init_args": {"learning_rate": 1e20, "epochs": 2}}
    path = write_plan(
        tmp_path,
        data=folders,
        methods={"wild": wild, "WinClip": {"init_args": {"pretrained": "random"}}},
        conventions={"own": [{"train": "washer"}]},
    )
    assert not run_benchmark(path)
    printed = capsys.readouterr().out
    assert "wild seed 0: washer -> gasket: not measured (training-failed, Loss not finite" in printed
    assert "WinClip: gasket: image AUROC" in printed


@pytest.mark.parametrize(
    ("trainer", "text"),
    [
        ({"max_epoch": 1}, "Trainer has no argument 'max_epoch'. It has accelerator, "),
        ({"limit_train_batches": 1.5}, "invalid value 1.5 for limit_train_batches"),
    ],
)
def test_what_the_trainer_refuses_is_named(folders, tmp_path, capsys, trainer, text):
    path = write_plan(
        tmp_path,
        data=folders,
        methods={"PromptMoE": None},
        conventions={"own": [{"train": "washer"}]},
        trainer={"accelerator": "cpu", **trainer},
    )
    assert not run_benchmark(path)
    printed = capsys.readouterr().out
    assert "washer -> gasket: not measured (training-failed, " in printed
    assert text in printed


def test_what_was_trained_on_is_not_tested_under_another_name(folders, parts, tmp_path, capsys):
    """By class and category, or by file; with an adapter that lies there already, too, and then without the source."""
    (tmp_path / "link").symlink_to(parts["washer"]["root"])
    linked = {"class_path": "Folder", "init_args": {**parts["washer"], "name": "same", "root": str(tmp_path / "link")}}
    surfaces = {"class_path": "SyntheticSurfaces", "init_args": {"image_size": 56, "test_images": 34}}
    adapter = PromptMoE(backbone="tiny-random", image_size=56).save_adapter(tmp_path / "given.safetensors")
    lost = {"class_path": "Folder", "init_args": {"name": "lost", "root": "nowhere", "normal_dir": "good"}}
    method = {"class_path": "PromptMoE", "init_args": {"epochs": 1, "warmup_epochs": 0}}
    names = ("washer", "surfaces", "lost")
    path = write_plan(
        tmp_path,
        data={**folders, "linked": linked, "surfaces": surfaces, "again": surfaces, "lost": lost},
        methods={
            "trained": {**method, "adapters": {"lost": str(adapter)}},
            "given": {**method, "adapters": dict.fromkeys(names, str(adapter))},
        },
        conventions={
            "own": [
                {"train": "washer", "test": ["linked", "gasket"]},
                {"train": "surfaces", "test": ["again"]},
                {"train": "lost", "test": ["gasket"]},
            ]
        },
    )
    assert not run_benchmark(path)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    refused = {line.partition(": ")[2].partition(":")[0] for line in lines if "(not-zero-shot, " in line}
    measured = {line.partition(": ")[2].partition(":")[0] for line in lines if "image AUROC" in line}
    assert refused == {"washer -> linked", "surfaces -> again"}
    assert measured == {"washer -> gasket", "lost -> gasket"}
    assert sum("24 images are in source and target" in line for line in lines) == 2
    assert sum("Source and target share" in line for line in lines) == 2
    (trained,) = (tmp_path / "out" / "adapters").iterdir()
    assert trained.name.startswith("trained-washer")


INTERRUPTED = """
import os, signal, sys
from anomalib_zsad import CoPS, cli

step = CoPS.training_step

def interrupted(self, *args):
    os.kill(os.getpid(), signal.SIGINT)
    return step(self, *args)

CoPS.training_step = interrupted
sys.exit(cli.main(["benchmark", sys.argv[1]]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
def test_ctrl_c_in_a_training_ends_it_all(folders, tmp_path):
    """Lightning would end the program as if it had failed."""
    conventions = {"own": [{"train": "washer"}]}
    path = write_plan(tmp_path, data=folders, methods={"CoPS": None, "DAPO": None}, conventions=conventions)
    run = subprocess.run([sys.executable, "-c", INTERRUPTED, path], capture_output=True, text=True, check=False)
    assert run.returncode in {130, -signal.SIGINT}, run.stdout + run.stderr
    assert run.stderr.endswith("\nInterrupted.\n")
    assert "Traceback" not in run.stderr
    assert "seed 0" not in run.stdout


@pytest.mark.parametrize("calibrated", [False, True])
def test_an_adapter_is_believed_as_to_what_it_was_trained_on(calibrated, folders, tmp_path, capsys):
    model = PromptMoE(backbone="tiny-random", image_size=56)
    model.origin = {"calibrated_on" if calibrated else "data": "ZeroShot/gasket-to-washer"}
    adapter = model.save_adapter(tmp_path / "swapped.safetensors")
    path = write_plan(
        tmp_path,
        data=folders,
        methods={"PromptMoE": {"adapters": {"washer": str(adapter)}}},
        conventions={"own": [{"train": "washer", "test": ["gasket"]}]},
    )
    assert not run_benchmark(path)
    printed = capsys.readouterr().out
    assert "washer -> gasket: not measured (not-zero-shot, " in printed
    assert "swapped.safetensors, which the plan names for washer, says that it was trained or calib" in printed


@pytest.mark.parametrize("name", ["MVTecAD", "Visa", "BTech", "Kolektor", "BMAD"])
def test_nothing_is_downloaded(name, folders, tmp_path, capsys, monkeypatch):
    def download(*_):
        pytest.fail("a download began")

    monkeypatch.setattr(sys.modules[getattr(anomalib.data, name).__module__], "download_and_extract", download)
    path = write_plan(
        tmp_path,
        data={**folders, "absent": {"class_path": name, "init_args": {"root": str(tmp_path / "absent")}}},
        methods={"PromptMoE": None},
        conventions={"A": [{"train": "washer", "test": ["absent"]}], "B": [{"train": "absent", "test": ["gasket"]}]},
    )
    assert not run_benchmark(path)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert len(lines) == 2
    assert all(f"not measured (data-missing, Cannot set up {name}" in line for line in lines)
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(("trainer", "devices"), [({}, 1), ({"devices": [0]}, [0])])
def test_one_device_is_used_wherever_there_are_several(folders, tmp_path, trainer, devices):
    fields = {"data": folders, "methods": {"CoPS": None}, "conventions": {"own": [{"train": "washer"}]}}
    with Runner(read_plan(write_plan(tmp_path, trainer=trainer, **fields)))._engine() as engine:
        assert engine._cache.args["devices"] == devices


def test_dapo_is_tested_with_the_defect_words_of_the_test_data(folders, parts, tmp_path):
    """Which a table has for MPDD and not for one's own images; the tables say which words they were."""
    root = Path(parts["gasket"]["root"])
    entries = [
        {
            "img_path": f"{kind}/{path.name}",
            "mask_path": f"mask/{path.name}" if kind == "cut" else "",
            "specie_name": kind,
        }
        for kind in ("good", "cut")
        for path in (root / kind).iterdir()
    ]
    (tmp_path / "meta.json").write_text(json.dumps({"test": {"gasket": entries}}))
    meta = {"class_path": "MetaJson", "init_args": {"root": str(root), "index": str(tmp_path / "meta.json")}}
    path = write_plan(
        tmp_path,
        data={**folders, "MPDD": meta},
        methods={"DAPO": {"init_args": {"epochs": 1, "num_prompts": 1}}},
        conventions={"own": [{"train": "washer", "test": ["gasket", "MPDD"]}]},
    )
    assert run_benchmark(path)
    for name in ("results.csv", "summary.csv"):
        table = pd.read_csv(tmp_path / "out" / name)
        assert dict(zip(table.data, table.defect_types, strict=True)) == {
            "gasket": "cut", "MPDD": "hole, scratch, bent, rust, flattening, mismatch, defective painting",
        }  # fmt: skip
    assert table.groupby("metric")["mean"].nunique()["image_AUROC"] == 2  # of the same images


def test_a_second_run_measures_nothing_again(bench, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("ANOMALIB_ZSAD_HOME", str(bench.parent / "none"))  # named in the report
    out = bench.parent / "out"
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*")}
    report = (out / "report.md").read_bytes()
    assert not run_benchmark(bench)
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/*")} == before
    assert (out / "report.md").read_bytes() == report
    assert "2 of 6 cells were measured before." in capsys.readouterr().out


def test_a_damaged_cell_is_named(bench, tmp_path):
    plan = read_plan(bench, tmp_path)
    key = all_cells(plan)[0].key
    results = Results(tmp_path / "cells")
    (tmp_path / "cells").mkdir()
    results.path(key).write_text('{"rows": [')
    with pytest.raises(ValueError, match="Delete it to measure"):
        results.get(key)


def test_clip_is_read_once_and_its_tensors_are_shared():
    clips = SharedClips()
    arguments = {"backbone": "tiny-random", "image_size": 56}
    models = [PromptMoE(**arguments), BayesPFL(**arguments), PromptMoE(**{**arguments, "image_size": 112})]
    for model in models:
        clips.share_with(model)
    towers = [model.model.load_clip() for model in models]
    assert len({clip.text.token_embedding.weight.data_ptr() for clip in towers}) == 1
    assert [clip.activation for clip in towers] == ["gelu"] * 3
    assert [clip.image_size for clip in towers] == [56, 56, 112]
    for model, clip in zip(models, towers, strict=True):
        alone = type(model)(**{name: getattr(model.config, name) for name in ("backbone", "image_size")})
        assert alone.model.load_clip().sha256() == clip.sha256()


def test_winclip_takes_another_clip_by_its_file_and_names_it(tmp_path, small_winclip):
    """A file is found like any other weights, and what anomalib has set is as before."""
    file = tmp_path / "mine.pt"
    before = winclip.BACKBONE, winclip.PRETRAINED
    model = load_other("WinClip", {"backbone": str(small_winclip), "pretrained": "random", "class_name": "nut"})
    torch.save(model.model.clip.state_dict(), file)
    again = load_other("WinClip", {"backbone": str(small_winclip), "pretrained": str(file)})
    assert (model.model.backbone, model.model.pretrained, again.model.pretrained) == ("winclip-small", "random", "mine")
    for one, other in zip(model.model.clip.parameters(), again.model.clip.parameters(), strict=True):
        assert torch.equal(one, other)
    assert model.class_name == "nut"
    assert before == (winclip.BACKBONE, winclip.PRETRAINED)


def test_only_zero_shot_models_run_without_training():
    with pytest.raises(ValueError, match="neither in anomalib_zsad nor in anomalib"):
        load_other("WinClop", {})
