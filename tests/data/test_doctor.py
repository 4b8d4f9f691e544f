# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Recognising data sets and finding what is wrong with them."""

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from anomalib_zsad.data import doctor
from anomalib_zsad.data.doctor import examine, table
from anomalib_zsad.data.known_sets import SETS

_spec = importlib.util.spec_from_file_location("field_trees", Path(__file__).with_name("field_trees.py"))
trees = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(trees)

NAMES = [*trees.PUBLIC, *trees.ANOMALIBS]


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """All data sets side by side, each in a folder of its name."""
    root = tmp_path_factory.mktemp("datasets")
    for name in NAMES:
        (root / name).mkdir()
        trees.plant(name, root / name)
    return root, {report.name: report for report in examine(root)}


@pytest.mark.parametrize("name", NAMES)
def test_every_set_is_recognised(name, everything):
    root, reports = everything
    assert reports.keys() == {*NAMES}
    assert reports[name].place.is_relative_to(root / name)
    # nothing is wrong with the small trees, except that they are small
    problems = [line for line in reports[name].problems if "published are" not in line]
    if name == "RealIAD":
        assert problems.pop().startswith("without 28 of 30 classes: bottle_cap, ")
    assert problems == []


@pytest.fixture
def small(tmp_path, monkeypatch):
    """MPDD, complete: with the counts of a small tree for the published ones."""
    root = tmp_path / "MPDD"
    trees.plant("MPDD", root)
    monkeypatch.setitem(SETS, "MPDD", replace(SETS["MPDD"], counts={"train": (12, 0), "test": (6, 18)}))
    return root


def found(root):
    (report,) = examine(root)
    return report.problems, report.notes


def test_nothing_wrong(small):
    assert found(small) == ([], [])
    assert " ok " in table(examine(small))


def test_a_missing_image_and_a_missing_class(small):
    (small / "tubes" / "test" / "scratches" / "003.png").unlink()
    assert found(small)[0] == ["test has 6/17 images (normal/anomalous), published are 6/18"]
    shutil.rmtree(small / "connector")
    assert found(small)[0] == ["without 1 of 6 classes: connector"]


def test_unreadable_files(small):
    image = small / "tubes" / "test" / "scratches" / "003.png"
    image.write_bytes(image.read_bytes()[:200])
    truth = small / "tubes" / "ground_truth" / "scratches" / "000_mask.png"
    truth.write_bytes(b"")
    assert found(small) == ([f"2 cannot be read: {truth}, {image}"], [])


def test_formats_that_training_refuses(small):
    image = small / "tubes" / "test" / "scratches" / "003.png"
    Image.open(image).resize((24, 20)).save(image, format="ICO", sizes=[(24, 20)])
    assert found(small) == ([f"1 cannot be read: {image}"], [])


def test_images_that_do_not_say_what_white_is(small):
    image = small / "tubes" / "test" / "scratches" / "003.png"
    truth = small / "tubes" / "ground_truth" / "scratches" / "000_mask.png"
    for path in (image, truth):  # a mask has no white
        Image.open(path).convert("F").save(path, format="TIFF")
    wanted = "refused, as 32 bits per channel do not say what white is"
    assert found(small) == ([f"1 {wanted}: {image}"], [])


def test_masks(small):
    truth = small / "tubes" / "ground_truth" / "scratches"
    (truth / "000_mask.png").unlink()
    trees.mask(truth / "003_mask.png", box=None)
    trees.mask(truth / "010_mask.png", (20, 24))
    images = small / "tubes" / "test" / "scratches"
    assert found(small)[0] == [
        f"1 anomalous, but without mask: {images / '000.png'}",
        f"1 anomalous, but with an empty mask: {images / '003.png'}",
        f"1 masks of another size than their images: {truth / '010_mask.png'}",
    ]


def test_masks_in_colour(small):
    """Every pixel above 0 is marked, also where grey would round it to black."""
    truth = small / "tubes" / "ground_truth" / "scratches" / "000_mask.png"
    size = Image.open(truth).size
    Image.new("RGB", size, (1, 0, 0)).save(truth)
    assert found(small) == ([], [])
    Image.new("RGB", size).save(truth)
    assert "with an empty mask" in found(small)[0][0]


def test_copies(small):
    good, bad = small / "tubes" / "test" / "good" / "000.png", small / "tubes" / "test" / "scratches" / "000.png"
    shutil.copy(bad, small / "connector" / "test" / "scratches" / "000.png")
    assert found(small) == ([], [f"1 exact copies of others in their split: {bad}"])
    shutil.copy(good, small / "connector" / "train" / "good" / "001.png")
    shutil.copy(
        small / "metal_plate" / "test" / "good" / "000.png", small / "metal_plate" / "test" / "scratches" / "000.png"
    )
    problems, _ = found(small)
    assert problems[0].startswith("1 in training and test split with the same content: ")
    assert problems[1].startswith("1 normal and anomalous with the same content: ")


def test_images_of_two_sets(small, tmp_path):
    trees.plant("Endo", tmp_path / "EndoTect")
    shutil.copy(small / "tubes" / "test" / "good" / "000.png", tmp_path / "EndoTect" / "images" / "1.jpg")
    endo, mpdd = examine(tmp_path)
    assert mpdd.notes == [f"1 images are also in Endo ({endo.place})"]


def test_more_than_can_be_named(small):
    for image in (small / "tubes" / "train" / "good", small / "tubes" / "test" / "scratches"):
        for path in image.iterdir():
            path.write_bytes(b"")
    assert found(small)[0][0].startswith("5 cannot be read: ")
    assert found(small)[0][0].endswith(" and 2 more")


def test_published_oddities_are_no_problems(tmp_path):
    trees.plant("AITEX", tmp_path)
    (report,) = examine(tmp_path)
    assert any(line.startswith("1 anomalous, but with an empty mask, as published") for line in report.notes)
    assert not any("mask" in line for line in report.problems)


def test_look_alikes(tmp_path):
    """Images and masks are told apart by the folder's name or by the count, or by the user."""
    trees.plant("Endo", tmp_path / "data" / "x")
    (report,) = examine(tmp_path)
    assert (report.name, report.problems) == ("?", [])
    assert "could be any of ColonDB, ClinicDB, CVC300, Kvasir, Endo" in report.notes[0]
    (report,) = examine(tmp_path / "data" / "x", "CVC300")
    assert report.problems == ["test has 0/3 images (normal/anomalous), published are 0/60"]


def test_count_tells_look_alikes(tmp_path, monkeypatch):
    monkeypatch.setitem(SETS, "CVC300", replace(SETS["CVC300"], counts={"test": (0, 3)}))
    trees.plant("Endo", tmp_path / "x")
    (report,) = examine(tmp_path)
    assert (report.name, report.problems) == ("CVC300", [])


def test_index_files(small):
    entry = {"img_path": "tubes/test/good/000.png", "mask_path": "", "cls_name": "tubes", "anomaly": 0}
    (small / "meta.json").write_text(json.dumps({"test": {"tubes": [entry]}}))
    assert [(report.name, report.problems) for report in examine(small)] == [("MPDD", []), ("MetaJson", [])]
    (small / "meta.json").rename(small / "meta_a.json")
    shutil.copy(small / "meta_a.json", small / "meta_b.json")
    assert [(report.name, report.place.name) for report in examine(small)] == [
        ("MPDD", "MPDD"), ("MetaJson", "meta_a.json"), ("MetaJson", "meta_b.json"),
    ]  # fmt: skip
    entry["img_path"] = "tubes/none.png"
    (small / "meta.json").write_text(json.dumps({"test": {"tubes": [entry]}}))
    assert "cannot be listed: " in examine(small)[1].problems[0]


def test_broken_layouts_are_reported(tmp_path):
    trees.plant("KSDD2", tmp_path)
    (tmp_path / "train" / "10000_GT.png").unlink()
    (report,) = examine(tmp_path)
    assert report.name == "KSDD2"
    assert "10000.png has no mask beside it" in report.problems[0]


def test_arguments(tmp_path):
    assert examine(tmp_path) == []
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        examine(tmp_path / "none")
    with pytest.raises(ValueError, match="There is no data set 'Kvasr'; known are KSDD2"):
        examine(tmp_path, "Kvasr")


def test_every_file_is_read_once(small, monkeypatch):
    read = []
    monkeypatch.setattr(doctor, "_read", lambda path, look=doctor._read: read.append(path) or look(path))
    examine(small)
    assert len(read) == len(set(read)) == 12 + 6 + 18 + 18


def test_real_brain_mri(real):
    (report,) = examine(real / "brain_mri")
    assert (report.name, report.counts, report.problems) == ("BrainMRI", {"test": (98, 155)}, [])
    assert [line.partition(":")[0] for line in report.notes] == ["25 exact copies of others in their split"]
