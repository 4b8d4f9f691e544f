# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-zsad benchmark speed``, as a user calls it; no seconds are asserted."""

import functools

import pandas as pd
import pytest
import torch

from anomalib_zsad.benchmark.ways import RUNS
from anomalib_zsad.cli import main
from anomalib_zsad.commands import benchmark_speed

SMALL = ["--backbone", "tiny-random", "--image-size", "56", "--threads", "1", "--repeat", "1"]


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def adapter(folder, body: str) -> str:
    path = folder / "adapter.py"
    path.write_text(f"def make(backbone, image_size, device):\n    {body}\n")
    return str(path)


def test_the_command_and_the_measurement_know_the_same_runs() -> None:
    assert [run.replace("-", " ") for run in benchmark_speed.RUNS] == list(RUNS)


def run(options: list[str], tmp_path, capsys) -> tuple[pd.DataFrame, str]:
    assert main(["benchmark", "speed", *options, *SMALL, "--csv", str(tmp_path / "speed.csv")]) == 0
    return pd.read_csv(tmp_path / "speed.csv", keep_default_na=True), capsys.readouterr().out


def check_complete(table: pd.DataFrame, method: str) -> None:
    names = list(RUNS)
    assert list(table.subject) == ["bare tower"] * len(names) + [method] * len(names) + ["official code"]
    assert list(table.run) == [*names, *names, "eager f32"]
    for _, row in table.iterrows():
        if row.rounds == 0:  # the one thing that a machine may lack
            assert "bf16" in row.run
            assert "bfloat16" in row.reason
            continue
        assert row.wall > 0
        assert row.floor_wall > 0
        assert row.gain_wall > 0
    official = table.iloc[-1]
    method_rows = table[table.subject == method].set_index("run")
    assert method_rows.official_wall["eager f32"] == pytest.approx(method_rows.wall["eager f32"] / official.wall)


def test_every_way_is_a_row(tmp_path, capsys, monkeypatch) -> None:
    """PyTorch's compiler takes minutes on a slow machine; here it traces and does not generate code."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    official = adapter(tmp_path, "return lambda images: images.mean() + len(backbone) + image_size")
    table, printed = run(["PromptAD", "--official", f"PromptAD={official}:make"], tmp_path, capsys)
    check_complete(table, "PromptAD")
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(table)
    assert lines[0].count("|") == lines[-1].count("|")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["PromptMoE", "BayesPFL", "CoPS", "DAPO", "PromptAD"])
def test_every_method_in_every_way(method: str, tmp_path, capsys) -> None:
    official = adapter(tmp_path, "return lambda images: images.mean()")
    table, _ = run([method, "--official", f"{method}={official}:make"], tmp_path, capsys)
    check_complete(table, method)


@pytest.mark.parametrize("option", ["repeat", "batch", "image-size"])
def test_nothing_is_measured_of_nothing(option: str, capsys) -> None:
    assert main(["benchmark", "speed", "DAPO", f"--{option}", "0"]) == 1
    assert f"{option.replace('-', '_')} must be at least 1, got 0" in capsys.readouterr().err


def test_what_cannot_run_says_why_and_the_rest_goes_on(tmp_path, capsys) -> None:
    official = adapter(tmp_path, "raise FileNotFoundError('no checkout here')")
    options = ["PromptAD", "--runs", "eager-f32", "--devices", "cpu", "--official", f"PromptAD={official}:make"]
    if not torch.cuda.is_available():
        options.insert(-2, "cuda")
    table, printed = run(options, tmp_path, capsys)
    row = table[table.subject == "official code"].iloc[0]
    assert row.rounds == 0
    assert row.reason == "FileNotFoundError: no checkout here"
    assert "no checkout here" in printed
    assert (table[(table.subject == "PromptAD") & (table.device == "cpu")].rounds == 1).all()
    if not torch.cuda.is_available():
        assert list(table[table.device == "cuda"].reason.str.contains("no CUDA device")) == [True, True]


def test_mistakes_end_with_a_message(tmp_path, capsys) -> None:
    for options, said in (
        (["PromptAD", "--official", "PromptAD=nothing"], "METHOD=FILE:FUNCTION"),
        (["PromptAD", "--official", "CoPS=adapter.py:make"], "CoPS: not among the methods"),
        (["PromptAD,width", "--runs", "eager-f32"], "width"),
        (["PromptAD", "promptmoe"], "promptmoe: there is no method 'promptmoe'; choose from BayesPFL, CoPS, DAPO, "),
        (["PromptAD", "Padim"], "Padim: there is no method 'Padim'"),
        (["PromptAD", "PromptMoE,topk=2"], "PromptMoE,topk=2: PromptMoE takes no option topk here; choose from "),
        (["PromptAD", "CoPS,backbone=ViT-B-16"], "CoPS takes no option backbone here"),
        (["PromptAD", "PromptMoE,top_k=many", "--train"], "top_k='many': Input should be a valid integer"),
    ):
        assert main(["benchmark", "speed", *options, *SMALL, "--csv", str(tmp_path / "new" / "speed.csv")]) == 1
        captured = capsys.readouterr()
        assert said in captured.err
        assert "preparing" not in captured.err  # nor was anything measured
        assert "building" not in captured.err
    assert not (tmp_path / "new").exists()


def test_an_optimiser_step(tmp_path, capsys) -> None:
    table, printed = run(["PromptMoE,top_k=2", "--train", "--batch", "2"], tmp_path / "made", capsys)
    row = table.iloc[0]
    assert (row.subject, row.batch) == ("PromptMoE,top_k=2", 2)
    assert row.learned > 0
    assert row.peak >= row.before > 0
    assert row.floor_wall > 0
    assert "| PromptMoE,top_k=2 | 2 |" in printed
