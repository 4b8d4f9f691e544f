# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Which figures stand beside published ones: finished cells are written by hand, as a GPU would leave them."""

import json

import pandas as pd
import pytest

from anomalib_zsad import BayesPFL
from anomalib_zsad.benchmark.cells import all_cells
from anomalib_zsad.benchmark.comparison import REASONS
from anomalib_zsad.benchmark.plan import read_plan
from anomalib_zsad.benchmark.report import write_report
from anomalib_zsad.benchmark.results import Result, Results
from anomalib_zsad.benchmark.runner import Problem
from anomalib_zsad.benchmark.tables import Tables
from anomalib_zsad.metrics import METRICS, Report, Row

CLASSES = {"MVTecAD": (15, 467, 1258), "Visa": (12, 962, 1200), "BTech": (3, 451, 290), "HeadCT": (1, 100, 100)}


def measured(class_path, value=0.9, less=0):
    """A report with the images of a published set, or some less."""
    classes, normal, anomalous = CLASSES[class_path]
    rows = [Row(f"c{number}", 0, 0, dict.fromkeys(METRICS, value)) for number in range(classes - 1)]
    return Report((Row("c", normal - less, anomalous, dict.fromkeys(METRICS, value)), *rows))


def finish(
    plan, *, value=0.9, less=0, epochs=None, backbone="ViT-L-14-336/openai", words="bayes_pfl", origin=None, **config
):
    """Write every cell of a plan."""
    results = Results(plan.output / "cells")
    for cell in all_cells(plan):
        model = {"backbone": backbone, "image_size": "518", "class_words": words}
        if cell.training is None:
            model |= {"backbone": "ViT-B-16-plus-240/laion400m_e31", "image_size": "240"}
        else:
            schema = cell.method.config_class
            model["config"] = schema.resolve({**cell.arguments, **config}).model_dump(mode="json")
            model["image_size"] = str(model["config"]["image_size"])
            model["origin"] = {"epochs": model["config"]["epochs"] if epochs is None else epochs, **(origin or {})}
        shift = 0.01 * cell.training.seed if cell.training else 0
        report = measured(plan.data[cell.test].class_path, value + shift, less)
        if cell.training and cell.training.left_out:
            number = plan.data[cell.test].categories.index(cell.training.left_out)
            report = Report(report.rows[number : number + 1])
        results.put(cell.key, Result(report, cell.facts, model))
    return Tables(plan, results)


@pytest.fixture
def make(tmp_path):
    def plan(**fields):
        default = {
            "output": str(tmp_path / "out"),
            "data": {"VisA": "Visa", "MVTec AD": "MVTecAD", "BTAD": "BTech", "HeadCT": "HeadCT"},
            "methods": {"BayesPFL": {"train_batch_size": 32, "rules": ["deployable", "official"]}, "WinClip": None},
            "conventions": {"A": [{"train": "VisA"}, {"train": "MVTec AD", "test": ["VisA"]}]},
        }
        (tmp_path / "plan.yaml").write_text(json.dumps(default | fields))
        return read_plan(tmp_path / "plan.yaml")

    return plan


def rows(tables, **wanted):
    table = tables.summary()
    for name, value in wanted.items():
        table = table[table[name] == value]
    return table.set_index("metric")


def test_published_numbers_stand_beside_the_same_experiment(make):
    tables = finish(make(seeds=[0, 1]), value=0.9)
    official = rows(tables, method="BayesPFL", rules="official", data="VisA")
    assert official.published.to_dict() == {
        "image_AUROC": 87.0, "image_AP": 89.2, "image_F1Max": 84.1, "pixel_AUROC": 95.6, "pixel_AP": 29.8,
        "pixel_PRO": 88.9,
    }  # fmt: skip
    assert official.loc["image_AUROC", "mean"] == pytest.approx(90.5)
    assert official.loc["image_AUROC", "std"] == pytest.approx(0.7071, abs=1e-4)
    assert official.loc["image_AUROC", "difference"] == pytest.approx(3.5)
    assert set(official.codes) == {""}
    assert set(official.runs) == {2}
    deployable = rows(tables, method="BayesPFL", rules="deployable", data="VisA")
    assert set(deployable.codes) == {"one-rule"}
    assert deployable.published.equals(official.published)
    heads = rows(tables, method="BayesPFL", rules="official", data="HeadCT")
    assert heads.published["image_AUROC"] == pytest.approx(96.5)
    assert heads.published[["pixel_AUROC", "pixel_PRO"]].isna().all()  # nobody published these


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("random-backbone", {"backbone": "ViT-L-14-336/random"}),
        ("random-backbone", {"backbone": "tiny-random/random:3"}),
        ("small-backbone", {"backbone": "surfaces-tiny/v4"}),
        ("other-backbone", {"backbone": "ViT-B-16/openai"}),
        ("other-backbone", {"backbone": "ViT-L-14-336/laion2b"}),
        ("other-image-size", {"image_size": 336}),
        ("fewer-epochs", {"epochs": 2}),
        ("more-epochs", {"epochs": 40}),
        ("other-settings", {"num_prompts": 2}),
        ("other-words", {"words": "folder"}),
        ("other-data", {"less": 1}),
    ],
)
def test_what_differs_is_named_and_nothing_stands_beside(make, code, change):
    table = rows(finish(make(), **change), method="BayesPFL", data="BTAD", rules="official")
    assert set(table.codes) == {code}
    assert table.published.isna().all()
    assert table.difference.isna().all()
    assert code in REASONS


def test_other_training_data_and_batch_size_and_convention(make):
    swapped = make(conventions={"A": [{"train": "MVTec AD", "test": ["BTAD"]}]})
    assert set(rows(finish(swapped), method="BayesPFL").codes) == {"other-training-data"}
    batches = make(methods={"BayesPFL": None})
    assert set(rows(finish(batches), data="BTAD").codes) == {"other-settings"}
    few = make(trainer={"limit_train_batches": 2}, methods={"BayesPFL": {"train_batch_size": 32}})
    assert set(rows(finish(few), data="BTAD").codes) == {"other-settings"}
    own = make(conventions={"mine": [{"train": "VisA", "test": ["BTAD"]}]})
    assert "not-published" not in set(rows(finish(own), method="BayesPFL").codes)
    assert set(rows(finish(own), method="WinClip").codes) == {"not-published"}


@pytest.mark.parametrize(
    "auxiliary",
    [
        {"source_categories": ["candle"]},
        {"source_split": "all"},
        {"exclude_classes": ["candle"]},
        {"max_images_per_class": 10},
        {"max_anomalies_per_class": 1},
        {"one_defect_type_per_class": True},
        {"calibration_ratio": 0.5},
    ],
)
def test_a_training_on_a_part_stands_beside_nothing(make, auxiliary):
    direction = {"train": "VisA", "test": ["BTAD"], "auxiliary": auxiliary}
    table = rows(finish(make(conventions={"A": [direction]})), method="BayesPFL", rules="official")
    assert set(table.codes) == {"other-training-data"}
    assert table.published.isna().all()


@pytest.mark.parametrize(
    ("data", "codes"), [("Visa-to-MVTecAD", ""), ("Visa+BTech", ""), ("MVTecAD", "other-training-data")]
)
def test_an_adapter_is_believed_as_to_what_it_was_trained_on(make, data, codes):
    own = {"train_batch_size": 32, "rules": ["official"]}
    plan = make(conventions={"A": [{"train": "VisA", "test": ["BTAD"]}]}, methods={"BayesPFL": own})
    assert set(rows(finish(plan, origin={"data": f"ZeroShot/{data}"})).codes) == {codes}


def test_what_changes_no_training_data_does_not_matter_but_the_batch_size_does(make):
    usual = {"source_split": "test", "max_images_per_class": None, "train_batch_size": 32}
    plan = make(
        conventions={"A": [{"train": "VisA", "test": ["BTAD"], "auxiliary": usual}]}, methods={"BayesPFL": None}
    )
    assert set(rows(finish(plan)).codes) == {"one-rule"}
    direction = {"train": "VisA", "test": ["BTAD"], "auxiliary": {"train_batch_size": 8}}
    plan = make(conventions={"A": [direction]}, methods={"BayesPFL": {"train_batch_size": 32}})
    assert set(rows(finish(plan)).codes) == {"other-settings"}


@pytest.mark.parametrize(
    ("variant", "auxiliary", "codes", "published"),
    [
        ("1 anomaly per class", {"source_split": "all", "max_anomalies_per_class": 1}, "", 90.8),
        (
            "10 anomalies per class",
            {"source_split": "all", "max_anomalies_per_class": 11, "one_defect_type_per_class": True},
            "",
            91.2,
        ),
        ("1 anomaly per class", {"source_split": "all", "max_anomalies_per_class": 11}, "other-training-data", None),
        ("1 anomaly per class", {}, "other-training-data", None),
        ("", {"source_split": "all", "max_anomalies_per_class": 1}, "not-published", None),
        ("2 normal shots", {"source_split": "all", "max_anomalies_per_class": 1}, "not-published", None),
    ],
)
def test_a_variant_that_is_a_part_of_the_data_needs_that_part(make, variant, auxiliary, codes, published):
    direction = {"train": "MVTec AD", "leave_one_out": True, "variant": variant, "auxiliary": auxiliary}
    plan = make(conventions={"leave-one-out": [direction]}, methods={"PromptAD": {"train_batch_size": 16}})
    table = rows(finish(plan, backbone="ViT-B-16/openai"))
    assert set(table.codes) == {codes}
    assert [*table.published.dropna()] == ([published] if published else [])


@pytest.mark.parametrize(
    ("options", "codes"), [({"scales": [2]}, "other-settings"), ({"scales": [2, 3], "k_shot": 0}, ""), ({}, "")]
)
def test_anomalibs_model_is_compared_by_its_options(make, options, codes):
    table = rows(finish(make(methods={"WinClip": {"init_args": options}})), data="BTAD")
    assert set(table.codes) == {codes}
    assert table.published.notna().any() == (not codes)


def test_a_recipe_may_depend_on_the_training_data(make, tmp_path):
    one = {"CoPS": {"trained_on": {"MVTec AD": {"neighbourhood": 3, "reconstruction": True, "epochs": 5}}}}
    tables = finish(make(methods=one))
    assert set(rows(tables, data="VisA").codes) == {"one-rule"}
    assert rows(tables, data="VisA").published["pixel_AP"] == pytest.approx(23.4)
    plain = make(methods={"CoPS": None}, output=str(tmp_path / "plain"))
    assert set(rows(finish(plain), data="VisA").codes) == {"more-epochs other-settings"}


def test_the_report_has_everything_in_words(make, tmp_path):
    plan = make(seeds=[0, 1])
    tables = finish(plan, value=0.8)
    lost = all_cells(plan)[-1]
    tables.results.path(lost.key).unlink()
    problems = {lost.key: Problem("weights-missing", "Fetch them | first.")}
    paths = write_report(tables, problems, plan.output)
    assert [path.name for path in paths] == ["results.csv", "summary.csv", "report.md", "A.png"]
    text = (plan.output / "report.md").read_text()
    assert "| BTAD | 80.5 ± 0.7 / 80.5 ± 0.7 / 80.5 ± 0.7 |" in text
    assert "80.5 (93.2, -12.7)" in text
    assert "* BayesPFL: ViT-L-14-336/openai at 518 px, class words: bayes_pfl" in text
    assert "* `one-rule`: one rule for all data sets" in text
    assert f"* `weights-missing` Fetch them | first.: {lost}" in text
    per_class = pd.read_csv(plan.output / "results.csv", keep_default_na=False)
    assert set(per_class.class_words) == set(pd.read_csv(plan.output / "summary.csv").class_words) == {"bayes_pfl"}
    assert len(per_class[(per_class.method == "BayesPFL") & (per_class.data == "VisA")]) == (2 * 2 - 1) * (
        12 + 1
    )  # one is lost
    assert paths[-1].read_bytes().startswith(b"\x89PNG")
    assert not list(plan.output.glob("*.partial"))


def test_a_data_set_that_two_models_of_a_method_test_has_a_row_for_each(make):
    two = {"mine": [{"train": "VisA"}, {"train": "MVTec AD"}]}
    plan = make(conventions=two, methods={"BayesPFL": None, "WinClip": None})
    tables = finish(plan)
    for cell in all_cells(plan):
        if cell.training and cell.training.direction.train == "VisA":
            model = tables.results.get(cell.key).model
            tables.results.put(cell.key, Result(measured(plan.data[cell.test].class_path, 0.7), cell.facts, model))
    write_report(tables, {}, plan.output)
    text = (plan.output / "report.md").read_text()
    assert "| data | BayesPFL, trained on MVTec AD | BayesPFL, trained on VisA | WinClip |" in text
    assert "| BTAD | 90.0 / 90.0 / 90.0 | 70.0 / 70.0 / 70.0 | 90.0 / 90.0 / 90.0 |" in text
    assert "| VisA | 90.0 / 90.0 / 90.0 |  | 90.0 / 90.0 / 90.0 |" in text
    assert (plan.output / "mine.png").read_bytes().startswith(b"\x89PNG")
    summary = pd.read_csv(plan.output / "summary.csv", keep_default_na=False)
    assert not summary.duplicated(["method", "rules", "trained_on", "data", "metric"]).any()
    assert len(summary[summary.method == "WinClip"]) == 4 * len(METRICS)  # tested once, in whichever direction


def test_rows_that_differ_in_how_much_was_trained_on_say_so(make):
    limits = [{"max_anomalies_per_class": number} for number in (1, 10)]
    directions = [{"train": "VisA", "test": ["BTAD"], "auxiliary": limit} for limit in limits]
    tables = finish(make(conventions={"mine": directions}, methods={"BayesPFL": None}))
    assert [entry.row for entry in tables.entries] == [
        f"BayesPFL, trained on VisA (max_anomalies_per_class: {number})" for number in (1, 10)
    ]


def test_a_mean_is_over_the_same_sets_for_every_method(make):
    """Two sets each, but not the same two: the means would not compare."""
    plan = make(methods={"BayesPFL": None, "CoPS": None}, conventions={"A": [{"train": "VisA"}]})
    tables = finish(plan)
    for cell in all_cells(plan):
        if (cell.label, cell.test) in {("BayesPFL", "BTAD"), ("CoPS", "HeadCT")}:
            tables.results.path(cell.key).unlink()
    write_report(tables, {}, plan.output)
    assert "| mean of all sets | - / - / - | - / - / - |" in (plan.output / "report.md").read_text()


def test_runs_that_are_missing_are_counted(make):
    plan = make(seeds=[0, 1], methods={"BayesPFL": {"train_batch_size": 32}})
    tables = finish(plan)
    cell = next(cell for cell in all_cells(plan) if cell.test == "BTAD" and cell.training.seed == 1)
    tables.results.path(cell.key).unlink()
    folder = plan.output
    write_report(tables, {}, folder)
    text = (folder / "report.md").read_text()
    assert "(1 of 2 runs)" in text
    assert f"`not measured yet` : {cell}" in text


def test_a_leave_one_out_run_counts_when_all_its_categories_are_there(make):
    direction = {"train": "BTAD", "leave_one_out": True, "test": ["BTAD"]}
    plan = make(conventions={"leave-one-out": [direction]}, methods={"BayesPFL": None}, seeds=[0, 1])
    results = Results(plan.output / "cells")
    cells = all_cells(plan)
    for cell in cells[:-1]:
        row = Row(cell.training.left_out, 2, 3, dict.fromkeys(METRICS, 0.1 * int(cell.training.left_out)))
        config = BayesPFL.config_class.resolve({}).model_dump(mode="json")
        model = {"backbone": "ViT-L-14-336/openai", "image_size": "518", "config": config, "origin": {}}
        results.put(cell.key, Result(Report((row,)), cell.facts, model))
    (entry,) = Tables(plan, results).entries
    (seed,) = entry.runs
    assert seed == 0
    assert [row.name for row in entry.runs[0].rows] == ["01", "02", "03"]
    assert entry.metrics["image_AP"].mean == pytest.approx(20)
    assert entry.planned == 2
