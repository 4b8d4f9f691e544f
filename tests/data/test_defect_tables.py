# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Every defect folder of the published data sets has a word, and every product the words of its folders."""

import json

import pytest
from anomalib.data import RealIAD, Visa

from anomalib_zsad.data import ZeroShot
from anomalib_zsad.data.defect_tables import SYNONYMS, TABLES, read_kinds, table_of, words_in, words_of
from anomalib_zsad.data.known_sets import SETS
from anomalib_zsad.data.words import defect_word

# Folders below <product>/test, as the data sets are published.
MVTEC = {
    "bottle": "broken_large broken_small contamination",
    "cable": "bent_wire cable_swap combined cut_inner_insulation cut_outer_insulation missing_cable missing_wire "
    "poke_insulation",
    "capsule": "crack faulty_imprint poke scratch squeeze",
    "carpet": "color cut hole metal_contamination thread",
    "grid": "bent broken glue metal_contamination thread",
    "hazelnut": "crack cut hole print",
    "leather": "color cut fold glue poke",
    "metal_nut": "bent color flip scratch",
    "pill": "color combined contamination crack faulty_imprint pill_type scratch",
    "screw": "manipulated_front scratch_head scratch_neck thread_side thread_top",
    "tile": "crack glue_strip gray_stroke oil rough",
    "toothbrush": "defective",
    "transistor": "bent_lead cut_lead damaged_case misplaced",
    "wood": "color combined hole liquid scratch",
    "zipper": "broken_teeth combined fabric_border fabric_interior rough split_teeth squeezed_teeth",
}
MPDD = {
    "bracket_black": "hole scratches",
    "bracket_brown": "bend_and_parts_mismatch parts_mismatch",
    "bracket_white": "defective_painting scratches",
    "connector": "parts_mismatch",
    "metal_plate": "major_rust scratches total_rust",
    "tubes": "anomalous",
}


@pytest.mark.parametrize(("name", "listed"), [("MVTecAD", MVTEC), ("MPDD", MPDD)])
def test_every_folder_has_a_word_and_every_product_its_folders_words(name, listed):
    table = TABLES[name]
    assert set(table.products) == set(listed)
    for product, folders in listed.items():
        assert {table.folders[folder] for folder in folders.split()} == set(table.products[product]), product


def test_mvtec_has_the_published_ids():
    assert sum(len(folders.split()) for folders in MVTEC.values()) == 73
    words = words_of("MVTecAD")
    numbers = {"bent": 1, "contamination": 5, "hole": 11, "thread": 17, "damaged": 20}
    assert {word: 1 + words.index(word) for word in numbers} == numbers
    assert len(words) == 20


@pytest.mark.parametrize(
    ("name", "words", "products"),
    [("Visa", 18, 12), ("MPDD", 7, 6), ("MAD-Real", 2, 10), ("MAD-Sim", 3, 21), ("RealIAD", 8, 30)],
)
def test_tables_are_complete_and_consistent(name, words, products):
    table = TABLES[name]
    assert (len(table.words), len(table.products)) == (words, products)
    assert len(set(table.words)) == words
    assert set(table.folders.values()) <= set(table.words)
    used = {word for product in table.products.values() for word in product}
    assert used == set(table.words)
    assert all(len(set(product)) == len(product) for product in table.products.values())


def test_mad_and_real_iad_folders_have_words():
    assert TABLES["MAD-Sim"].folders == {"Stains": "stains", "Missing": "missing", "Burrs": "burrs"}
    assert set(TABLES["RealIAD"].folders) == {"AK", "BX", "CH", "HS", "PS", "QS", "YW", "ZW"}


def test_every_class_of_a_known_data_set_has_kinds():
    tables = {name: table for name in SETS if (table := table_of(name))}
    assert len(tables) == len(TABLES)
    assert [(name, one) for name in tables for one in SETS[name].categories if not tables[name].kinds_of(one)] == []


def test_mad_sims_products_are_found_with_their_number():
    assert (
        TABLES["MAD-Sim"].kinds_of("01Gorilla")
        == TABLES["MAD-Sim"].kinds_of("Gorilla")
        == ("stains", "missing", "burrs")
    )
    assert table_of("MADSim") is TABLES["MAD-Sim"]
    assert TABLES["MAD-Sim"].kinds_of("99Dodo") == ()


def test_types_as_batches_carry_them_find_their_word():
    for name, listed in (("MVTecAD", MVTEC), ("MPDD", MPDD)):
        table = TABLES[name]
        for product, folders in listed.items():
            for folder in folders.split():
                word = table.word(defect_word(folder), product)
                assert word == table.folders[folder], (product, folder)
    assert TABLES["Visa"].word("anomaly", "candle") is None
    assert TABLES["Visa"].word("anomaly", "capsules") is None  # it may as well be a leak, which has no word
    assert TABLES["MVTecAD"].word("dent", "bottle") is None
    assert TABLES["MVTecAD"].word("anomaly", "bottle") is None  # it tells the kind of a toothbrush only
    assert TABLES["MPDD"].word("anomaly", "bracket_black") is None


def test_names_are_found_whatever_their_spelling():
    assert table_of("real-iad") is table_of("RealIAD") is TABLES["RealIAD"]
    assert table_of("MyParts") is None
    assert words_of("mvtec-ad/bottle") == ("broken", "contamination")
    synonyms = words_of("MVTecAD-synonyms")
    assert len(synonyms) == len(set(synonyms)) == 20
    assert set(SYNONYMS.values()) < set(synonyms)
    with pytest.raises(ValueError, match="MVTecAD, Visa, MPDD"):
        words_of("MyParts")
    with pytest.raises(ValueError, match="candle, capsules"):
        words_of("Visa/bottle")


# Labels of VisA's annotation files, and the words of the single ones.
VISA = {
    "candle": {
        "chunk of wax missing": "missing", "foreign particals on candle": "partical", "different colour spot": "spot",
        "damaged corner of packaging": "damage", "weird candle wick": "weird wick", "extra wax in candle": "extra",
        "wax melded out of the candle": "melded", "other": None, "weird candle wick,other": None,
    },
    "capsules": {"bubble": "bubble", "discolor": None, "leak": None, "bubble,discolor,scratch": None},
    "cashew": {
        "burnt": "burnt", "corner or edge breakage": "breakage", "middle breakage": "breakage", "small holes": "hole",
        "same colour spot": "spot", "small scratches": "scratch", "stuck together": "stuck",
    },
    "macaroni2": {
        "breakage down the middle": "breakage", "small chip around edge": "chip", "small cracks": "crack",
        "color spot similar to the object": "spot", "small scratches": "scratch",
    },
    "pcb4": {"wrong place": "wrong place", "extra": "extra", "burnt": "burnt", "dirt": None, "melt, scratch": None},
}  # fmt: skip


@pytest.mark.parametrize("product", VISA)
def test_visas_labels_have_the_words_of_their_product(product):
    table = TABLES["Visa"]
    for label, word in VISA[product].items():
        assert table.word(defect_word(label), product) == word, label
    assert {word for word in VISA[product].values() if word} <= set(table.products[product])


def test_visas_kinds_come_from_its_annotation_file(paint, tmp_path):
    root, lines = tmp_path / "visa", ["image,label,mask"]
    for index, label in enumerate(("normal", "normal", "bubble", '"bubble,discolor"', "leak")):
        kind = "good" if label == "normal" else "bad"
        for split in ("train", "test") if kind == "good" else ("test",):
            paint(root / "visa_pytorch" / "capsules" / split / kind / f"00{index}.JPG", seed=index)
        if kind == "bad":
            paint(root / "visa_pytorch" / "capsules" / "ground_truth" / "bad" / f"00{index}.png", mark=True)
        folder = "Normal" if kind == "good" else "Anomaly"
        lines.append(f"capsules/Data/Images/{folder}/00{index}.JPG,{label},")

    def kinds():
        data = ZeroShot(target=Visa(root), target_categories=["capsules"], num_workers=0)
        data.setup("test")
        return data.test_data.samples

    assert set(kinds().defect_type) == {"", "anomaly"}  # without the file
    (root / "capsules").mkdir()
    (root / "capsules" / "image_anno.csv").write_text("\n".join(lines) + "\n")
    samples = kinds()
    assert dict(samples.defect_type.value_counts()) == {"": 2, "bubble": 1, "bubble,discolor": 1, "leak": 1}
    assert words_in(samples) == {
        ("capsules", "bubble"): "bubble", ("capsules", "bubble,discolor"): None, ("capsules", "leak"): None,
    }  # fmt: skip
    plain = Visa(root, category="capsules")
    plain.setup("test")
    read_kinds(plain.test_data)
    assert set(plain.test_data.samples.label[plain.test_data.samples.label_index == 1]) == {
        "bubble",
        "bubble,discolor",
        "leak",
    }


def test_real_iads_kinds_come_from_its_json_files(paint, tmp_path):
    entries = {"train": [], "test": []}
    for split, kind in (("train", "OK"), ("test", "OK"), ("test", "AK"), ("test", "ZW"), ("test", "ZW")):
        name = f"{'OK' if kind == 'OK' else f'NG/{kind}'}/S{len(entries['test'])}/toy_{split}.png"
        entry = {"image_path": name, "mask_path": None, "anomaly_class": kind}
        paint(tmp_path / "disk" / "realiad_256" / "toy" / name)
        if kind != "OK":
            entry["mask_path"] = name.replace(".png", "_mask.png")
            paint(tmp_path / "disk" / "realiad_256" / "toy" / entry["mask_path"], mark=True)
        entries[split].append(entry)
    path = tmp_path / "disk" / "realiad_jsons" / "realiad_jsons" / "toy.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(entries))
    root = tmp_path / "linked"
    root.symlink_to(tmp_path / "disk")  # anomalib follows links when it writes the paths of images

    data = ZeroShot(target=RealIAD(root), target_categories=["toy"], num_workers=0)
    data.setup("test")
    assert dict(data.test_data.samples.defect_type.value_counts()) == {"": 1, "ak": 1, "zw": 2}
    assert words_in(data.test_data.samples) == {("toy", "ak"): "pit", ("toy", "zw"): "contamination"}
    plain = RealIAD(root, category="toy", test_split_mode="from_dir")
    plain.setup("test")
    read_kinds(plain.test_data)
    assert sorted(plain.test_data.samples.label) == ["AK", "OK", "ZW", "ZW"]
