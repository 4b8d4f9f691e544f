# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-zsad backbone`` and ``anomalib-zsad schema``, each in the shortest run that does all of it."""

import json
from pathlib import Path

import anomalib_zsad
from anomalib_zsad.cli import main
from anomalib_zsad.clip.weights import load_clip
from anomalib_zsad.models.schema import json_schema


def test_train_and_evaluate(tmp_path: Path, capsys) -> None:
    folder, table = tmp_path / "trained", tmp_path / "table.csv"
    train = ["backbone", "train", str(folder), "--steps", "3", "--seed", "5", "--workers", "0"]
    assert main([*train, "--until", "1"]) == 0
    assert main(train) == 0  # goes on where it stopped
    weights = folder / "clip.safetensors"
    assert str(weights) in capsys.readouterr().out
    steps = [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert steps == [0, 1, 2]
    load_clip("surfaces-tiny", str(weights))

    evaluate = ["backbone", "evaluate", str(table), "--pretrained", str(weights), "--methods", "--seeds", "0"]
    evaluate += ["--images", "8", "--epochs", "1", "--image-size", "56", "--test-images", "8"]
    assert main(evaluate) == 0
    printed = capsys.readouterr().out
    rows = table.read_text().splitlines()
    assert printed.count(", seed 0, ") == len(rows) - 1
    assert "| text alone, surfaces-tiny |" in printed
    assert main(evaluate) == 0
    assert ", seed 0, " not in capsys.readouterr().out  # rows that are there are not measured again
    assert table.read_text().splitlines() == rows


def test_schemas_of_all_methods(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "new" / "schema"
    assert main(["schema", str(folder)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert {*printed} == {*map(str, folder.iterdir())}
    found = [json.loads(Path(path).read_text()) for path in printed]
    assert found == [json_schema(name) for name in anomalib_zsad.MODELS]
