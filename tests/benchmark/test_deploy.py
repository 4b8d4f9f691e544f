# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What the cells and adapters of ``benchmark deploy`` are known by, so that no old figure stands for a new plan."""

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from anomalib_zsad import DAPO
from anomalib_zsad.benchmark.deploy import Plan, Runner, Subject
from anomalib_zsad.cli import main
from anomalib_zsad.clip.sources import BUNDLED
from tests.conftest import paint_indexed_parts


@pytest.fixture
def plan(tmp_path) -> Plan:
    """A method to be trained for a moment."""
    paint_indexed_parts(tmp_path / "photos", seed=3)
    return Plan(
        tmp_path / "photos", tmp_path / "out", methods=("DAPO",), backbone="tiny-random", image_size=56, train_images=8
    )


def trainings(plan: Plan) -> int:
    lines: list[str] = []
    _ = Subject(plan, "DAPO", lines.append).model
    return len(lines)


def test_an_adapter_is_used_again_by_the_same_plan_only(plan: Plan) -> None:
    assert trainings(plan) == 1
    assert trainings(replace(plan, images=2, calibration_images=8)) == 0
    assert trainings(replace(plan, image_size=42)) == 1
    for change in ({"backbone": "surfaces-tiny"}, {"train_images": 16}):
        assert replace(plan, **change).adapter("DAPO") != plan.adapter("DAPO")
    given = replace(plan, adapters={"DAPO": Path("mine.safetensors")}, image_size=42)
    assert given.adapter("DAPO") == Path("mine.safetensors")


def test_an_adapter_belongs_to_the_weights_of_its_backbone(plan: Plan, tmp_path, monkeypatch) -> None:
    plan = replace(plan, backbone="surfaces-tiny")
    before = plan.adapter("DAPO")
    assert replace(plan).adapter("DAPO") == before
    key = ("surfaces-tiny", "v4")
    with safe_open(BUNDLED[key], framework="pt") as file:
        tensors, facts = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    save_file(tensors, tmp_path / "other.safetensors", {**facts, "another": "training"})
    monkeypatch.setitem(BUNDLED, key, tmp_path / "other.safetensors")
    assert replace(plan).adapter("DAPO") != before
    monkeypatch.setitem(BUNDLED, key, tmp_path / "lost.safetensors")
    assert replace(plan).adapter("DAPO") != before  # what is missing is named where it is needed


def test_a_cell_belongs_to_its_images(plan: Plan, tmp_path, monkeypatch) -> None:
    def key(plan: Plan) -> dict:
        runner = Runner(plan)
        return runner._key(Subject(plan, "DAPO", print))

    before = key(plan)
    monkeypatch.chdir(tmp_path)
    assert key(replace(plan, data=Path("photos"))) == before
    paint_indexed_parts(tmp_path / "elsewhere" / "photos", seed=3)
    assert key(replace(plan, data=tmp_path / "elsewhere" / "photos")) != before
    index = plan.data / "index.csv"
    index.write_text(index.read_text().replace("good/000.png,0", "good/000.png,1"))
    assert key(plan) != before


def test_two_adapters_of_a_method_are_refused(plan: Plan, tmp_path, capsys) -> None:
    model = DAPO(backbone="tiny-random", image_size=56)
    paths = [str(model.save_adapter(tmp_path / f"{name}.safetensors")) for name in "ab"]
    assert main(["benchmark", "deploy", str(plan.data), "--adapters", *paths, "--output", str(tmp_path / "out")]) == 1
    assert f"--adapters: {paths[0]} and {paths[1]} are both of DAPO; give one of them." in capsys.readouterr().err
