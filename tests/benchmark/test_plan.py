# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""From YAML to cells: what is planned, what shares its work, what determines a cell's name."""

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from anomalib_zsad.benchmark.cells import all_cells
from anomalib_zsad.benchmark.plan import read_plan
from anomalib_zsad.data.defect_tables import words_of

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
    return [str(cell) for cell in all_cells(one)]


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
    cells = all_cells(plan(tmp_path, conventions=both))
    assert len(cells) == 4  # two ways between the two, and BTAD twice; not six
    assert len({cell.training.key for cell in cells}) == 2


def test_arguments_by_training_data_and_official_target(tmp_path):
    methods = {"CoPS": {"rules": ["official"], "trained_on": {"MVTec AD": {"neighbourhood": 3}}}}
    swapped = {"A": [{"train": "VisA"}, {"train": "MVTec AD", "test": ["VisA"]}]}
    by_test = {cell.test: cell for cell in all_cells(plan(tmp_path, methods=methods, conventions=swapped))}
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
        ({"class_words": "object"}, True, True),
        ({"methods": {"CoPS": {"class_words": "filo"}}}, True, True),
        ({"trainer": {"devices": [2], "logger": True, "enable_checkpointing": False}}, False, False),
        ({"trainer": {"precision": "bf16-mixed"}}, True, True),
        ({"trainer": {"limit_train_batches": 2}}, True, True),
        ({"trainer": {"max_epochs": 1}}, True, True),
        ({"seeds": [1]}, True, True),
        ({"methods": {"CoPS": {"train_batch_size": 4}}}, True, True),
        ({"methods": {"CoPS": {"init_args": {"learning_rate": 0.01}}}}, True, True),
        ({"data": {"VisA": {"class_path": "Visa", "init_args": {"root": "v"}}, "MVTec AD": "MVTecAD"}}, True, True),
    ],
)
def test_a_name_changes_with_what_determines_the_figure(tmp_path, change, trains_anew, tests_anew):
    before, after = all_cells(plan(tmp_path))[0], all_cells(plan(tmp_path, **change))[0]
    assert (before.key != after.key) == tests_anew
    assert (before.training.key != after.training.key) == trains_anew


def test_adapters_replace_trainings(tmp_path):
    path = tmp_path / "one.safetensors"
    path.write_bytes(b"first")
    one = {"CoPS": {"adapters": {"VisA": str(path)}}}
    cell, *others = all_cells(plan(tmp_path, methods=one, seeds=[3, 4]))
    assert {other.training.seed for other in others} == {3}  # one file is one run
    assert cell.training.path == path
    path.write_bytes(b"second")
    assert all_cells(plan(tmp_path, methods=one, seeds=[3, 4]))[0].key != cell.key
    several = {"CoPS": {"adapters": {"VisA": "{seed}.safetensors"}}}
    cells = all_cells(plan(tmp_path, methods=several, seeds=[3, 4]))
    assert {str(cell.training.path) for cell in cells} == {"3.safetensors", "4.safetensors"}


def test_adapters_of_leave_one_out_are_one_for_each_category(tmp_path):
    """One file would have been trained on what it is tested on."""
    wanted = {"conventions": {"leave-one-out": [{"train": "BTAD", "leave_one_out": True}]}, "seeds": [3, 4]}
    for path in ("btad.safetensors", "{seed}.safetensors"):
        one = {"mine": {"class_path": "CoPS", "adapters": {"VisA": "visa.safetensors", "BTAD": path}}}
        with pytest.raises(ValueError, match=r"methods.mine.adapters: .* which it was trained on.* by {category}"):
            plan(tmp_path, methods=one, **wanted)
    cells = all_cells(plan(tmp_path, methods={"CoPS": {"adapters": {"BTAD": "no_{category}.pth"}}}, **wanted))
    assert [str(cell.training.path) for cell in cells] == ["no_01.pth", "no_02.pth", "no_03.pth"]
    assert [cell.data_arguments["target_categories"] for cell in cells] == [["01"], ["02"], ["03"]]


def test_defect_words_are_those_of_the_test_data(tmp_path):
    meta = {"class_path": "MetaJson", "init_args": {"root": "."}}
    data = {"VisA": "Visa", "MVTec AD": "MVTecAD", "BTAD": "BTech", "Real-IAD": meta, "mine": meta}
    cells = {cell.test: cell for cell in all_cells(plan(tmp_path, data=data, methods={"DAPO": None}))}
    given = {name: cell.arguments.get("defect_types") for name, cell in cells.items()}
    assert given == {"MVTec AD": "MVTecAD", "BTAD": None, "Real-IAD": "Real-IAD", "mine": None}
    assert cells["MVTec AD"].facts["arguments"]["defect_types"] == list(words_of("MVTecAD"))  # and so in its name
    assert "defect_types" not in cells["MVTec AD"].training.arguments  # trained on the words of VisA
    own = {"DAPO": {"init_args": {"defect_types": ["dent"]}}, "PromptAD": None}  # PromptAD's words are for one class
    assert {
        cell.label: cell.arguments.get("defect_types") for cell in all_cells(plan(tmp_path, data=data, methods=own))
    } == {"DAPO": ["dent"], "PromptAD": None}


def test_a_style_of_class_words_is_for_all_methods_but_those_with_their_own(tmp_path):
    methods = {"BayesPFL": {"class_words": "bayes_pfl"}, "PromptAD": None, "WinClip": None}
    cells = {cell.label: cell for cell in all_cells(plan(tmp_path, class_words="object", methods=methods))}
    assert {label: cell.data_arguments for label, cell in cells.items()} == {
        "BayesPFL": {"class_words": "bayes_pfl"},
        "PromptAD": {"class_words": "object"},
        "WinClip": {"class_words": "object"},
    }
    assert cells["PromptAD"].training.data_arguments["class_words"] == "object"
    assert all_cells(plan(tmp_path))[0].data_arguments == {}  # the data sets say


def test_a_data_set_that_is_named_twice_is_tested_once(tmp_path):
    one = plan(tmp_path, conventions={"A": [{"train": "VisA", "test": ["BTAD", "BTAD"]}]})
    assert [one.tests(direction) for direction in one.directions()] == [("BTAD",)]


def test_leave_one_out_trains_without_each_category(tmp_path):
    direction = {"train": "BTAD", "leave_one_out": True, "auxiliary": {"max_anomalies_per_class": 1}}
    cells = all_cells(plan(tmp_path, conventions={"leave-one-out": [direction]}))
    assert [cell.training.left_out for cell in cells] == ["01", "02", "03"]
    assert cells[1].data_arguments == {"target_categories": ["02"]}
    assert cells[1].training.data_arguments == {
        "train_batch_size": 8, "seed": 0, "max_anomalies_per_class": 1, "exclude_classes": ["02"],
    }  # fmt: skip
    assert len({cell.training.key for cell in cells}) == 3


def test_what_a_direction_excludes_is_never_trained_on(tmp_path):
    direction = {"train": "BTAD", "leave_one_out": True, "auxiliary": {"exclude_classes": ["01"]}}
    cells = all_cells(plan(tmp_path, conventions={"leave-one-out": [direction]}))
    excluded = [cell.training.data_arguments["exclude_classes"] for cell in cells]
    assert excluded == [["01"], ["01", "02"], ["01", "03"]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"conventions": {"A": [{"train": "Visa"}]}}, r"Visa: no such data; data has VisA, MVTec AD, BTAD"),
        ({"methods": {"PromptMoE": {"rules": ["official"]}}}, "PromptMoE has no official rules"),
        ({"methods": {"CoPS": {"epochs": 3}}}, r"methods.CoPS.epochs: Extra inputs are not permitted"),
        ({"methods": None}, r"methods: None: give one method or several by name.* such as {CoPS: {train_batch_size"),
        ({"methods": {}}, r"methods: {}: give one method or several"),
        ({"methods": ["CoPS", "DAPO"]}, r"methods: \['CoPS', 'DAPO'\]: give one method or several by name"),
        (
            {"methods": {"CoPS": 5}},
            r"methods: CoPS: 5 is no mapping of settings; leave it empty, or write some, such as",
        ),
        ({"methods": {"mine": "CoPS"}}, r"methods: mine: 'CoPS' is no mapping"),
        (
            {"methods": {"mine": {"class_path": "WinClip", "init_args": {"class_name": "nut"}}}},
            "mine: .*use class_words",
        ),
        ({"trainer": {"devices": 2}}, r"trainer: devices: 2: several would change .* Write 1, or \[1\] for one of"),
        ({"trainer": {"devices": [0, 1]}}, r"trainer: devices: \[0, 1\]: several"),
        ({"trainer": {"devices": "auto"}}, r"trainer: devices: 'auto': several"),
        ({"seeds": []}, "give one or several different"),
        (
            {"conventions": {"A": [{"train": "VisA", "test": ["BTAD", "VisA"]}]}},
            r"conventions.A: VisA is tested by models trained on it.* set leave_one_out: true",
        ),
        (
            {"data": {"KSDD1": "Kolektor"}, "conventions": {"mine": [{"train": "KSDD1", "leave_one_out": True}]}},
            r"conventions.mine: leave_one_out needs a data set with two categories or more; KSDD1 has none",
        ),
        (
            {"data": {"VAD": "VAD"}, "conventions": {"mine": [{"train": "VAD", "leave_one_out": True}]}},
            "VAD has only vad",
        ),
        (
            {
                "data": {"a": {"class_path": "BTech", "init_args": {"rot": "."}}},
                "conventions": {"mine": [{"train": "a", "leave_one_out": True}]},
            },
            r"BTech has no argument 'rot'. It has root, category",
        ),
        ({"thresholds": 1}, "thresholds: Input should be greater"),
        (
            {"class_words": "klingon"},
            r"class_words: There is no style of words 'klingon'; choose from object, folder, ",
        ),
        ({"methods": {"CoPS": {"class_words": "klingon"}}}, r"methods.CoPS.class_words: There is no style"),
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
    cells = all_cells(one)
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
