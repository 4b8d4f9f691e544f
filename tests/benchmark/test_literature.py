# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The published numbers: complete, in range, each once, and as printed."""

from collections import Counter
from itertools import product

import pytest

from anomalib_zsad import DATAMODULES, MODELS
from anomalib_zsad.benchmark.literature import CONVENTIONS, GRADES, METRICS, data_sets, find, numbers, recipes

IMAGE_SETS_A = [
    "MVTec AD", "VisA", "BTAD", "KSDD2 (356/356)", "RSDD (387/387)", "DAGM (7 classes)", "DTD-Synthetic", "HeadCT",
    "BrainMRI (85/68)", "Br35H",
]  # fmt: skip
PIXEL_SETS_A = [*IMAGE_SETS_A[:7], "ISIC", "CVC-ColonDB", "CVC-ClinicDB", "Endo", "Kvasir"]
INDUSTRY_B = ["MVTec AD", "VisA", "MPDD", "BTAD", "KSDD1", "DAGM (10 classes)", "DTD-Synthetic", "industrial mean"]
HEADS_B = [*INDUSTRY_B, "HeadCT", "BrainMRI", "Br35H", "medical mean"]
PIXEL_SETS_B = [*INDUSTRY_B, "ISIC", "CVC-ColonDB", "CVC-ClinicDB", "Kvasir", "Endo", "medical mean"]
METHODS_A = ["WinCLIP", "APRIL-GAN", "CLIP-AD", "AnomalyCLIP", "AdaCLIP", "Bayes-PFL"]
METHODS_B = ["WinCLIP", "APRIL-GAN", "AnomalyCLIP", "AdaCLIP", "FAPrompt", "PromptMoE"]


def cells(table):
    return {(number.method, number.data, number.metric) for number in numbers() if number.table == table}


def test_the_two_large_tables_have_every_cell():
    table_a = set(product(METHODS_A, IMAGE_SETS_A, ["image_AUROC", "image_F1Max", "image_AP"]))
    table_a |= set(product(METHODS_A, PIXEL_SETS_A, ["pixel_AUROC", "pixel_PRO", "pixel_AP"]))
    assert cells("1.1") == {cell for cell in table_a if cell[:2] != ("AdaCLIP", "ISIC")}  # not printed
    table_b = set(product(METHODS_B, HEADS_B, ["image_AUROC", "image_AP"]))
    assert cells("1.3") == table_b | set(product(METHODS_B, PIXEL_SETS_B, ["pixel_AUROC", "pixel_PRO"]))


def test_counts_per_source():
    assert Counter(number.table for number in numbers()) == {
        "1.1": 393, "1.2": 340, "1.3": 312, "1.4": 224, "1.5": 10, "1.6": 197, "1.7": 92, "1.8": 30,
    }  # fmt: skip
    per_method = Counter((number.table, number.method) for number in numbers() if not number.variant)
    assert per_method["1.2", "CoPS"] == 5 * 4 + 6 + 10
    assert per_method["1.2", "MoECLIP"] == 20 + 2 + 3 + 8 + 2 + 4
    assert per_method["1.4", "AF-CLIP"] == 5 * 7 + 4 + 6 + 4 + 6
    backbones = Counter(number.variant for number in numbers() if number.method == "AnomalyVFM")
    assert backbones == {"RADIO": 49 + 3 + 10, "CLIP": 49, "SigLIP2": 49, "in its paper": 2, "in anomalib": 5}


def test_every_number_is_well_formed_and_there_once():
    for number in numbers():
        assert 0 < number.value <= 100, number
        assert number.metric in METRICS, number
        assert number.convention in CONVENTIONS, number
        assert number.grade in GRADES, number
        assert number.source, number
        assert number.method == number.method.strip(), number
    keys = [(one.table, one.convention, one.method, one.variant, one.data, one.metric) for one in numbers()]
    assert len(set(keys)) == len(keys)
    assert {number.convention for number in numbers() if number.table in {"1.1", "1.2"}} == {"A"}
    assert {number.convention for number in numbers() if number.table in {"1.3", "1.4"}} == {"B"}


@pytest.mark.parametrize(
    ("table", "method", "variant", "data", "metric", "value"),
    [
        ("1.1", "Bayes-PFL", "", "MVTec AD", "image_AUROC", 92.3),
        ("1.1", "Bayes-PFL", "", "VisA", "pixel_PRO", 88.9),
        ("1.1", "AdaCLIP", "", "DAGM (7 classes)", "pixel_AP", 44.2),
        ("1.1", "WinCLIP", "", "Kvasir", "pixel_AP", 27.5),
        ("1.1", "Bayes-PFL", "", "ISIC", "pixel_AP", 84.6),
        ("1.2", "CoPS", "", "VisA", "pixel_AP", 23.4),
        ("1.2", "AA-CLIP", "re-trained by MoECLIP", "CVC-300", "pixel_AP", 53.9),
        ("1.2", "Bayes-PFL", "run by MoECLIP", "CVC-ClinicDB", "pixel_AP", 49.1),
        ("1.2", "MoECLIP", "", "BMAD Liver", "image_AUROC", 74.0),
        ("1.3", "PromptMoE", "", "MPDD", "image_AP", 84.5),
        ("1.3", "FAPrompt", "", "KSDD1", "pixel_PRO", 93.6),
        ("1.3", "PromptMoE", "", "medical mean", "pixel_PRO", 68.8),
        ("1.4", "Crane+", "CLIP and DINOv2", "BTAD", "pixel_F1Max", 61.1),
        ("1.4", "AF-CLIP", "", "MVTec AD/transistor", "pixel_PRO", 57.0),
        ("1.5", "PromptAD", "10 anomalies per class", "AITEX", "image_AUROC", 93.1),
        ("1.6", "AnomalyVFM", "SigLIP2", "Real-IAD", "pixel_PRO", 85.0),
        ("1.6", "MuSc", "", "VisA", "pixel_AP", 45.1),
        ("1.7", "GlocalCLIP", "", "TN3K", "pixel_PRO", 53.6),
        ("1.8", "CoPS", "target", "MVTec AD", "pixel_AUROC", 93.4),
    ],
)
def test_spot_values(table, method, variant, data, metric, value):
    key = (table, method, variant, data, metric)
    (number,) = (one for one in numbers() if (one.table, one.method, one.variant, one.data, one.metric) == key)
    assert number.value == value


def test_targets_are_the_papers_own_numbers():
    for target in (number for number in numbers() if number.table == "1.8"):
        variant = target.variant.removeprefix("target").removeprefix(", ")
        own = find(target.method, target.convention, target.data, variant)
        assert own[target.metric].value == target.value


def test_own_numbers_are_found_and_others_are_not():
    moe = find("PromptMoE", "B", "BTAD")
    assert {name: number.value for name, number in moe.items()} == {
        "image_AUROC": 93.4, "image_AP": 95.7, "pixel_AUROC": 94.9, "pixel_PRO": 80.6,
    }  # fmt: skip
    assert find("PromptMoE", "A", "BTAD") == {}
    assert find("Bayes-PFL", "A", "RSDD") == {}  # run by others only
    assert find("Bayes-PFL", "A", "MVTec AD")["image_AP"].source == "Bayes-PFL paper, Table 1"


def test_data_sets_and_recipes_name_what_exists():
    import anomalib.data
    from anomalib.models import WinClip

    from anomalib_zsad import BayesPFL

    assert {one.class_path for one in data_sets() if not hasattr(anomalib.data, one.class_path)} <= set(DATAMODULES)
    assert {one.class_path for one in recipes()} <= {*MODELS, WinClip.__name__}
    names = {number.data for number in numbers()}
    for one in data_sets():
        assert one.name in names or one.name.startswith("MAD-"), one.name
    recipe = next(one for one in recipes() if one.class_path == "BayesPFL")
    config = BayesPFL.config_class.resolve({})
    assert (config.backbone, config.image_size, config.epochs) == (recipe.backbone, recipe.image_size, recipe.epochs)
