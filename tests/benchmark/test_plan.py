# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""From YAML to cells: what is planned, what shares its work, what determines a cell's name."""

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from anomalib_zsad.benchmark.plan import read_plan

CONFIGS = Path(__file__).parents[2] / "configs" / "benchmark"


def plan(tmp_path: Path, **fields):
    default = {
        "data": {"VisA": "Visa", "MVTec AD": "MVTecAD", "BTAD": "BTech"},
        "methods": {"CoPS": None},
        "conventions": {"A": [{"train": "VisA"}]},
    }
    path = tmp_path / "plan.yaml"
    path.write_text(json.dumps(default | fields))
    return read_plan(path)


def names(one):
    return [str(cell) for cell in one.all_cells()]


def test_a_cell_for_each_method_seed_rule_set_and_data_set(tmp_path):
    methods = {"CoPS": {"rules": ["deployable", "official"]}, "PromptMoE": None, "WinClip": None}
    planned = names(plan(tmp_path, methods=methods, seeds=[0, 1]))
    assert len(planned) == 2 * 2 * 2 + 2 * 2 + 2  # WinClip has no training, so no seeds
    assert planned[:4] == [
        "CoPS (deployable) seed 0: VisA -> MVTec AD",
        "CoPS (official) seed 0: VisA -> MVTec AD",
        "CoPS (deployable) seed 0: VisA -> BTAD",
        "CoPS (official) seed 0: VisA -> BTAD",
    ]  # those of one adapter follow each other


def test_conventions_share_what_is_the_same_experiment(tmp_path):
    swap_a, swap_b = {"train": "MVTec AD", "test": ["VisA"]}, {"train": "VisA", "test": ["MVTec AD"]}
    both = {"A": [{"train": "VisA"}, swap_a], "B": [{"train": "MVTec AD"}, swap_b]}
    cells = plan(tmp_path, conventions=both).all_cells()
    assert len(cells) == 4  # two ways between the two, and BTAD twice; not six
    assert len({cell.training.key for cell in cells}) == 2


def test_arguments_by_training_data_and_official_target(tmp_path):
    methods = {"CoPS": {"rules": ["official"], "trained_on": {"MVTec AD": {"neighbourhood": 3}}}}
    swapped = {"A": [{"train": "VisA"}, {"train": "MVTec AD", "test": ["VisA"]}]}
    by_test = {cell.test: cell for cell in plan(tmp_path, methods=methods, conventions=swapped).all_cells()}
    assert by_test["VisA"].arguments == {
        "neighbourhood": 3, "seed": 0, "rules": "official", "official_target": "visa",
    }  # fmt: skip
    assert by_test["BTAD"].arguments == {"seed": 0, "rules": "official", "official_target": "other"}


@pytest.mark.parametrize(
    ("change", "trains_anew", "tests_anew"),
    [
        ({"trainer": {"accelerator": "cpu"}}, False, False),
        ({"loader": {"num_workers": 3, "eval_batch_size": 2}}, False, False),
        ({"output": "elsewhere"}, False, False),
        ({"methods": {"CoPS": {"init_args": {"learning_rate": 0.001}}}}, False, False),  # the default, spelt out
        ({"thresholds": 1024}, False, True),
        ({"trainer": {"precision": "bf16-mixed"}}, True, True),
        ({"seeds": [1]}, True, True),
        ({"methods": {"CoPS": {"train_batch_size": 4}}}, True, True),
        ({"methods": {"CoPS": {"init_args": {"learning_rate": 0.01}}}}, True, True),
        ({"data": {"VisA": {"class_path": "Visa", "init_args": {"root": "v"}}, "MVTec AD": "MVTecAD"}}, True, True),
    ],
)
def test_a_name_changes_with_what_determines_the_figure(tmp_path, change, trains_anew, tests_anew):
    before, after = plan(tmp_path).all_cells()[0], plan(tmp_path, **change).all_cells()[0]
    assert (before.key != after.key) == tests_anew
    assert (before.training.key != after.training.key) == trains_anew


def test_adapters_replace_trainings(tmp_path):
    path = tmp_path / "one.safetensors"
    path.write_bytes(b"first")
    one = {"CoPS": {"adapters": {"VisA": str(path)}}}
    cell, *others = plan(tmp_path, methods=one, seeds=[3, 4]).all_cells()
    assert {other.training.seed for other in others} == {3}  # one file is one run
    assert cell.training.path == path
    path.write_bytes(b"second")
    assert plan(tmp_path, methods=one, seeds=[3, 4]).all_cells()[0].key != cell.key
    several = {"CoPS": {"adapters": {"VisA": "{seed}.safetensors"}}}
    cells = plan(tmp_path, methods=several, seeds=[3, 4]).all_cells()
    assert {str(cell.training.path) for cell in cells} == {"3.safetensors", "4.safetensors"}


def test_leave_one_out_trains_without_each_category(tmp_path):
    direction = {"train": "BTAD", "leave_one_out": True, "auxiliary": {"max_anomalies_per_class": 1}}
    cells = plan(tmp_path, conventions={"leave-one-out": [direction]}).all_cells()
    assert [cell.training.left_out for cell in cells] == ["01", "02", "03"]
    assert cells[1].training.data_arguments == {
        "train_batch_size": 8, "seed": 0, "max_anomalies_per_class": 1, "exclude_classes": ["02"],
    }  # fmt: skip
    assert len({cell.training.key for cell in cells}) == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"conventions": {"A": [{"train": "Visa"}]}}, r"Visa: no such data; data has VisA, MVTec AD, BTAD"),
        ({"methods": {"PromptMoE": {"rules": ["official"]}}}, "PromptMoE has no official rules"),
        ({"methods": {"CoPS": {"epochs": 3}}}, r"methods.CoPS.epochs: Extra inputs are not permitted"),
        ({"seeds": []}, "give one or several different"),
        ({"thresholds": 1}, "thresholds: Input should be greater"),
    ],
)
def test_mistakes_are_named(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        plan(tmp_path, **fields)


def test_a_file_that_is_no_plan_is_named(tmp_path):
    path = tmp_path / "no.yaml"
    for text, message in (("[1", "is not YAML"), ("- a", "holds no benchmark")):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_plan(path)


@pytest.mark.parametrize("name", ["field", "small", "leave_one_out"])
def test_shipped_plans_are_sound(name):
    one = read_plan(CONFIGS / f"{name}.yaml")
    cells = one.all_cells()
    if name == "field":
        assert len(one.data) == 24
        per_method = Counter((cell.label, cell.rules) for cell in cells)
        runs = 2 * 22 + 2  # both conventions; MVTec AD and VisA by each other
        assert per_method == {
            **dict.fromkeys([(label, "deployable") for label in one.methods if label != "WinClip"], 5 * runs),
            ("BayesPFL", "official"): 5 * runs, ("CoPS", "official"): 5 * runs, ("WinClip", "deployable"): 24,
        }  # fmt: skip
        assert len({cell.training.key for cell in cells if cell.training}) == 5 * 2 * 5
    if name == "leave_one_out":
        assert len(cells) == (15 + 7) * 10
    assert one.output == Path("results/benchmark") / name


def test_the_pipeline_config_is_anomalibs():
    content = yaml.safe_load((CONFIGS / "anomalib.yaml").read_text())
    assert set(content["benchmark"]) == {"seed", "model", "data"}
