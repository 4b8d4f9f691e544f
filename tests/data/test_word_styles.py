# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

import csv
from pathlib import Path

import anomalib.data
import pytest

from anomalib_zsad.data import ZeroShot, word_styles
from anomalib_zsad.data.known_sets import PUBLIC, SETS
from anomalib_zsad.data.sources import categories_of
from anomalib_zsad.data.word_styles import PAPERS, STYLES, class_word_of, class_words, defect_word_of, describe


def test_the_table_has_every_class_once():
    with Path(word_styles.__file__).with_name("class_words.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    keys = [(row["set"], row["class"]) for row in rows]
    assert len(keys) == len(set(keys))
    assert set(keys) == {(layout.name, category) for layout in SETS.values() for category in layout.categories}
    assert set(rows[0]) == {"set", "class", *PAPERS}
    assert all(word == word.strip() for row in rows for word in row.values())


@pytest.mark.parametrize("name", [name for name in SETS if name not in {layout.name for layout in PUBLIC}])
def test_classes_are_those_of_anomalibs_datamodules(name):
    assert set(class_words(name, "folder")) == set(categories_of(getattr(anomalib.data, name)()) or (name,))


@pytest.mark.parametrize(
    ("data_set", "category", "words"),
    [
        # object, folder, anomalyclip, adaclip, bayes_pfl, filo
        ("MVTecAD", "metal_nut", ("object", "metal nut", "metal_nut", "metal_nut", "metal nut", "metal nut")),
        ("Visa", "pcb3", ("object", "pcb3", "pcb3", "pcb3", "printed circuit board", "pcb3")),
        ("Visa", "macaroni2", ("object", "macaroni2", "macaroni2", "macaroni2", "macaroni", "macaroni2")),
        ("BTech", "03", ("object", "03", "03", "03", "metal2", "03")),
        ("DAGM", "Class8", ("object", "class8", "Class8", "Class8", "Fabric8", "class8")),
        ("DAGM", "Class9", ("object", "class9", "Class9", "Class9", "class9", "class9")),
        ("HeadCT", "head_ct", ("object", "head ct", "brain", "headct", "head ct", "head ct")),
        ("BrainMRI", "brain_mri", ("object", "brain mri", "brain", "brain_mri", "brain ct", "brain mri")),
        ("TN3K", "thyroid", ("object", "thyroid", "thyroid", "tn3k", "thyroid", "thyroid")),
        ("Kolektor", "Kolektor", ("object", "kolektor", "electrical commutators", "SDD", "kolektor", "kolektor")),
        ("KSDD2", "metal_surface", ("object", *["metal surface"] * 3, "Metal", "metal surface")),
        ("MADSim", "01Gorilla", ("object", *["gorilla"] * 5)),
        ("MySet", "left_door", ("object", "left door", "left door", "left door", "left door", "left door")),
    ],
)  # fmt: skip
def test_words(data_set, category, words):
    assert tuple(class_word_of(data_set, category, style) for style in STYLES) == words


def test_zero_shot_takes_a_sets_words():
    datamodule = ZeroShot(target="Visa", class_words=class_words("Visa", "bayes_pfl"))
    assert datamodule._class_words["chewinggum"] == "chewing gum"


def test_unknown_sets_and_styles():
    with pytest.raises(ValueError, match=r"No classes are known of 'MySet'; known are those of AITEX, .*TN3K"):
        class_words("MySet", "folder")
    with pytest.raises(ValueError, match="no style of words 'x'; choose from object, folder, dapo"):
        defect_word_of("Visa", "pcb1", "bad", "x")


@pytest.mark.parametrize(
    ("data_set", "category", "defect", "words"),
    [
        ("MVTecAD", "screw", "manipulated_front", ("anomaly", "manipulated front", "bent")),
        ("MADReal", "Bear", "Stains", ("anomaly", "stains", "stains")),
        ("MADSim", "01Gorilla", "Burrs", ("anomaly", "burrs", "burrs")),
        ("Visa", "capsules", "bubble", ("anomaly", "bubble", "bubble")),
        ("AITEX", "fabric_00", "broken pick", ("anomaly", "broken pick", "broken pick")),
    ],
)
def test_defect_words(data_set, category, defect, words):
    assert tuple(defect_word_of(data_set, category, defect, style) for style in ("object", "folder", "dapo")) == words


def test_description_for_results():
    assert describe("BTech", "bayes_pfl") == "class words of BTech (bayes_pfl): 01 = metal1, 02 = wood, 03 = metal2"
