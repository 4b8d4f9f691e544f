# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

import pytest
from anomalib.data import BTech, Folder, Kolektor, MVTecAD

from anomalib_zsad.data.sources import word_of
from anomalib_zsad.data.words import category_word, class_word, defect_word, unnumbered


@pytest.mark.parametrize(
    ("name", "word"),
    [("metal_nut", "metal nut"), ("Retina-RESC", "retina resc"), ("  a__b ", "a b"), ("01", "01"), ("_", "object")],
)
def test_class_word(name, word):
    assert class_word(name) == word
    assert class_word(word) == word


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("01Gorilla", "Gorilla"), ("12_zalika", "zalika"), ("07-Owl", "Owl"), ("03 swan", "swan"), ("01", "01"),
        ("3d_printer", "3d_printer"), ("12V", "12V"), ("Class10", "Class10"), ("Woven_001", "Woven_001"),
    ],
)  # fmt: skip
def test_a_number_that_only_sorts_is_left_out(name, rest):
    assert unnumbered(name) == rest
    assert category_word(name) == class_word(rest)


@pytest.mark.parametrize(
    "label", ["bad", "Bad", "ko", "Ungood", "NG_images", "abnormal", "bad_test_images", "test", "", "_"]
)
def test_labels_that_name_no_defect(label):
    assert defect_word(label) == "anomaly"


def test_labels_that_name_a_defect():
    assert [defect_word(label) for label in ("broken_large", "Scratch", "bent-wire", "defective_painting")] == [
        "broken large",
        "scratch",
        "bent wire",
        "defective painting",
    ]


def test_word_of_a_datamodule():
    assert word_of(MVTecAD(category="metal_nut")) == "metal nut"
    assert word_of(BTech(category="02")) == "02"
    assert word_of(Folder(name="My_Part", normal_dir="x")) == "my part"
    assert word_of(Folder(name="12 volt battery", normal_dir="x")) == "12 volt battery"  # a user's own words
    assert word_of(Kolektor()) == "object"  # neither a category nor a name that a user chose
