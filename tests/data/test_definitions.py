# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

import inspect
import sys

import anomalib.data
import pytest

from anomalib_zsad.clip.tokenizer import tokenize, word_ids
from anomalib_zsad.data.definitions import DEFECTS, DEFINITIONS
from anomalib_zsad.data.known_sets import SETS as KNOWN
from anomalib_zsad.data.sources import word_of
from anomalib_zsad.data.surfaces import CLASSES
from anomalib_zsad.data.word_styles import class_word_of
from anomalib_zsad.data.words import category_word, class_word

SETS = {
    "VisA": "candle capsules cashew chewinggum fryum macaroni1 macaroni2 pcb1 pcb2 pcb3 pcb4 pipe_fryum",
    "BTAD": "01 02 03",
    "AITEX": "fabric_00 fabric_01 fabric_02 fabric_03 fabric_04 fabric_05 fabric_06",
    "DAGM": " ".join(f"Class{number}" for number in range(1, 11)),
    "DTD-Synthetic": "Blotchy_099 Fibrous_183 Marbled_078 Matted_069 Mesh_114 Perforated_037 Stratified_154 Woven_001 "
    "Woven_068 Woven_104 Woven_125 Woven_127",
    "MAD": "01Gorilla 02Unicorn 03Mallard 04Turtle 05Whale 06Bird 07Owl 08Sabertooth 09Swan 10Sheep 11Pig 12Zalika "
    "13Pheonix 14Elephant 15Parrot 16Cat 17Scorpion 18Obesobeso 19Bear 20Puppy",
    "others": "ksdd ksdd2 rsdd magnetic_tile head_ct brain_mri br35h isic colon kvasir endo cvc_colondb cvc_clinicdb "
    "cvc_300 tn3k thyroid covid",
}


@pytest.mark.parametrize("names", SETS.values(), ids=SETS)
def test_every_class_of_the_field_is_defined(names: str) -> None:
    assert [name for name in names.split() if category_word(name) not in DEFINITIONS] == []


def test_every_category_of_anomalib_is_defined() -> None:
    missing = []
    for _, cls in inspect.getmembers(anomalib.data, inspect.isclass):
        if not cls.__module__.startswith("anomalib.data.datamodules.image."):  # not videos and depth maps
            continue
        home = sys.modules.get(cls.__module__.replace(".datamodules.", ".datasets."))
        missing += [name for name in getattr(home, "CATEGORIES", ()) if category_word(name) not in DEFINITIONS]
    assert missing == []
    assert word_of(anomalib.data.MVTecAD(category="metal_nut")) in DEFINITIONS


def test_every_class_of_our_own_datamodules_is_defined() -> None:
    missing = [
        (name, category)
        for name, layout in KNOWN.items()
        for category in layout.categories
        if class_word_of(name, category) not in DEFINITIONS and name != "Kolektor"  # it has no class: "object"
    ]
    assert missing == []


def test_every_generated_class_is_defined() -> None:
    assert [name for name in CLASSES if name not in DEFINITIONS] == []


@pytest.mark.parametrize("word", DEFINITIONS)
def test_prompts_are_well_formed_and_fit_the_text_tower(word: str) -> None:
    text, defects = DEFINITIONS[word]
    assert word == class_word(word)
    assert text == text.strip()
    assert not text.endswith(".")
    assert 5 <= len(text.split()) <= 25
    assert text.isascii()
    tokenize([text, f"abnormality of {word} is {', '.join(defects)}"])


def test_a_definition_speaks_of_good_ones_only() -> None:
    faults = {word for words in DEFECTS.values() for word in words} - {
        "hole",
        "bubble",
    }  # which may be meant to be there
    for word, (text, _) in DEFINITIONS.items():
        named = {fault for fault in faults if f" {fault} " in f" {text.replace(',', ' ')} "}
        assert not named, (word, named)


def test_numbered_classes_alone_share_a_sentence_within_a_data_set() -> None:
    for names in list(SETS.values())[:-1]:
        texts = {DEFINITIONS[category_word(name)].text for name in names.split()}
        assert len(texts) == (1 if "lass1 " in names or "fabric" in names else len(names.split()))


def test_defect_words_are_lower_case_words() -> None:
    for kind, words in DEFECTS.items():
        assert len(set(words)) == len(words) >= 4, kind
        assert all(word == class_word(word) and word_ids(word) for word in words)
    assert DEFINITIONS["grid"].defects == DEFECTS["metal"]
