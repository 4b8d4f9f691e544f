# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Index files of other repositories, each in its own form and with its own traps."""

import importlib.util
import json
from itertools import pairwise
from pathlib import Path

import pytest

from anomalib_zsad.data import MetaJson, ZeroShot
from anomalib_zsad.data.meta_json import find_index, read_index

_spec = importlib.util.spec_from_file_location("field_trees", Path(__file__).with_name("field_trees.py"))
trees = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(trees)


@pytest.fixture
def data(tmp_path):
    """Two classes in MVTec AD's layout below `mvtec`."""
    root = tmp_path / "mvtec"
    for category in ("bottle", "metal_nut"):
        trees.like_mvtec(root, category, ["broken_small"])
    return root


def entries_of(root, prefix="", **words):
    """AnomalyCLIP's entries of this layout; `words` replaces the keys or drops them (None)."""
    names = {"image": "img_path", "mask": "mask_path", "class": "cls_name", "kind": "specie_name", "label": "anomaly"}
    names |= words
    index = {"train": {}, "test": {}}
    for image in sorted(root.rglob("*/t*/*/*.png")):
        category, split, kind, _ = image.relative_to(root).parts
        bad = kind != "good"
        mask = f"{category}/ground_truth/{kind}/{image.stem}_mask.png" if bad else ""
        path = image.relative_to(root).as_posix()
        values = {"image": prefix + path, "mask": mask and prefix + mask, "class": category, "kind": kind}
        values["label"] = int(bad)
        entry = {names[key]: value for key, value in values.items() if names[key]}
        index[split].setdefault(category, []).append(entry)
    return index


def write(path, index):
    path.write_text(json.dumps(index))
    return path


def summary(entries):
    return sorted((e.split, e.category, e.defect, e.image.name, *(m.name for m in e.masks)) for e in entries)


@pytest.fixture
def expected(data):
    return summary(read_index(write(data / "expected.json", entries_of(data)), data))


def test_anomalyclip(data, expected):
    assert len(expected) == 2 * (2 + 1 + 3)
    assert ("test", "metal_nut", "broken_small", "010.png", "010_mask.png") in expected
    write(data / "meta.json", entries_of(data))
    datamodule = MetaJson(data, num_workers=0)
    datamodule.setup()
    assert datamodule.categories == ("bottle", "metal_nut")
    assert (len(datamodule.train_data), len(datamodule.test_data)) == (4, 8)
    (batch,) = datamodule.test_dataloader()
    assert (batch.gt_mask.flatten(1).any(1) == batch.gt_label).all()
    assert set(batch.class_name) == {"bottle", "metal nut"}
    assert set(batch.defect_type) == {"", "broken small"}


@pytest.mark.parametrize("prefix", ["/remote/home/user/data/mvtec/", "D:\\data\\mvtec\\", "mvtec/", "./"])
def test_paths_of_another_computer(data, expected, prefix):
    index = entries_of(data, prefix)
    assert summary(read_index(write(data / "meta.json", index), data)) == expected


def test_absolute_paths(data, expected, tmp_path):
    index = write(tmp_path / "meta.json", entries_of(data, f"{data}/"))
    assert summary(read_index(index, tmp_path / "elsewhere")) == expected


@pytest.mark.parametrize("names", [("Train", "Test"), ("TRAIN", "test")])
def test_capital_names_of_splits(data, expected, names):
    index = entries_of(data)
    index = {names[0]: index["train"], names[1]: index["test"]}
    assert summary(read_index(write(data / "meta.json", index), data)) == expected


@pytest.mark.parametrize("mask", ["", None, "   ", "bottle/ground_truth", "no_gt/mask.png"])
def test_what_says_that_there_is_no_mask(data, mask):
    """An empty path, which other loaders join to the root and then take for a folder."""
    index = entries_of(data)
    for entry in index["test"]["bottle"]:
        entry["mask_path"] = mask
    found = read_index(write(data / "meta.json", index), data)
    assert {e.category for e in found if e.defect and e.masks} == {"metal_nut"}
    datamodule = MetaJson(data, "meta.json", category="bottle", num_workers=0)
    datamodule.setup()
    (batch,) = datamodule.test_dataloader()
    assert (batch.has_mask == ~batch.gt_label).all()


def test_a_mark_of_the_byte_order_is_no_text(data, expected):
    path = data / "marked.json"
    path.write_text(json.dumps(entries_of(data)), encoding="utf-8-sig")
    assert summary(read_index(path, data)) == expected


def test_masks_of_normal_images_are_ignored(data, expected):
    """Bayes-PFL gives them empty ones, which need not exist."""
    index = entries_of(data)
    for entry in (*index["train"]["bottle"], index["test"]["bottle"][-1]):
        entry["mask_path"] = "" if entry["anomaly"] else "bottle/ground_truth/good/nothing.png"
    for entry in index["test"]["bottle"]:
        if not entry["anomaly"]:
            entry["mask_path"] = "bottle/ground_truth/good/nothing.png"
        else:
            entry["mask_path"] = f"bottle/ground_truth/broken_small/{Path(entry['img_path']).stem}_mask.png"
    assert summary(read_index(write(data / "meta.json", index), data)) == expected


def test_bayes_pfl(tmp_path):
    """Beside the data's folder, with its name in the paths, and one dummy normal image to train on."""
    root = tmp_path / "ksdd2"
    index = {"train": {"Metal": []}, "test": {"Metal": []}}
    for number in range(4):
        kind = "anomaly" if number % 2 else "good"
        image = trees.picture(root / "Metal" / "test" / kind / f"ksdd2_{number:06}.bmp")
        mask = trees.mask(root / "Metal" / "ground_truth" / kind / f"ksdd2_{number:06}.png", box=(1, 1, 4, 4))
        entry = {"img_path": image.relative_to(tmp_path).as_posix(), "mask_path": "", "cls_name": "Metal",
                 "specie_name": kind, "dataset_name": image.stem, "anomaly": number % 2}  # fmt: skip
        if number % 2:
            entry["mask_path"] = mask.relative_to(tmp_path).as_posix()
        index["test"]["Metal"].append(entry)
    index["train"]["Metal"].append(index["test"]["Metal"][0])
    write(tmp_path / "meta_ksdd2.json", index)
    for folder in (tmp_path, root):
        datamodule = MetaJson(folder, tmp_path / "meta_ksdd2.json")
        datamodule.setup()
        assert len(datamodule.train_data) == 0
        assert datamodule.test_data.samples.label_index.tolist() == [1, 1, 0, 0]
    assert find_index(tmp_path).name == "meta_ksdd2.json"


def test_aa_clip(data, expected):
    names = {"image": "image_path", "class": "class_name", "kind": None, "label": "label"}
    lines = [json.dumps(e) for entries in entries_of(data, **names)["test"].values() for e in entries]
    (data / "full-shot.jsonl").write_text("\n".join(lines) + "\n\n")
    found = summary(read_index(find_index(data), data))
    assert found == [(s, c, "anomaly" if d else "", *rest) for s, c, d, *rest in expected if s == "test"]


@pytest.mark.parametrize("label", ["anomaly", None])
def test_dapo(data, expected, label):
    """No level of splits; products and defects by names of its own; several defects of one image as a list."""
    names = {"class": "product_cls", "kind": "defect_cls", "label": label}
    index = entries_of(data, **names)["test"]
    assert summary(read_index(write(data / "meta.json", index), data)) == [e for e in expected if e[0] == "test"]
    index["bottle"][0]["defect_cls"] = ["broken_small", "scratch"]
    found = read_index(write(data / "meta.json", index), data)
    assert "broken_small+scratch" in {entry.defect for entry in found}


def test_masks_that_were_paired_by_position(data):
    """One mask is missing, and a loader of sorted lists gave every later image the mask of its neighbour."""
    index = entries_of(data)
    shifted = [e for e in index["test"]["bottle"] if e["anomaly"]]
    for entry, later in pairwise(shifted):
        entry["mask_path"] = later["mask_path"]
    with pytest.raises(ValueError, match=r"gives 2 images the mask of another image: 000\.png has 003_mask\.png"):
        read_index(write(data / "meta.json", index), data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("{}", "names no images"),
        ("3", "is no index: '3' stands where an entry should"),
        ('{"version": "1.0", "images": [1, 2]}', "is no index: '1.0' stands where an entry should"),
        ('{"test": {"a": ["x.png"]}}', "is no index: 'x.png' stands where an entry should"),
        ('{"test": {"a": []}}', "names no images"),
        ('{"test": {"a": [{"mask_path": ""}]}}', "an entry without img_path or image_path"),
        ('{"test": {"a": [{"img_path": "bottle/test/good/000.png"}]}}', "an entry without anomaly or label"),
        (
            '{"test": {"a": [{"img_path": "a.png", "anomaly": "bad"}]}}',
            r"meta.json has an entry labelled 'bad'; expected",
        ),
        ('{"test": {"a": [{"img_path": "a.png", "label": [1]}]}}', r"meta.json has an entry labelled \[1\]; expected"),
    ],
)
def test_files_that_cannot_be_understood(data, text, message):
    (data / "meta.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_index(data / "meta.json", data)


def test_missing_images_are_counted(data):
    write(data / "meta.json", entries_of(data))
    for image in (data / "bottle" / "test" / "broken_small").iterdir():
        image.unlink()
    with pytest.raises(FileNotFoundError, match=r"names 3 files that do not exist, .*broken_small/000\.png for one"):
        MetaJson(data).setup()


def test_which_file(data):
    with pytest.raises(FileNotFoundError, match=r"An index file .* was expected in .*; it has none"):
        MetaJson(data).setup()
    for name in ("meta_a.json", "meta_b.json"):
        write(data / name, entries_of(data))
    with pytest.raises(FileNotFoundError, match=r"it has meta_a\.json, meta_b\.json\. Name it: index"):
        MetaJson(data).setup()
    assert MetaJson(data, "meta_b.json", category="bottle").category == "bottle"
    with pytest.raises(ValueError, match="MetaJson has no category 'nut'; it has all, bottle, metal_nut"):
        MetaJson(data, "meta_b.json", category="nut")


def test_as_source_and_target(data):
    write(data / "meta.json", entries_of(data))
    datamodule = ZeroShot(
        source=MetaJson(data), target=MetaJson(data), exclude_classes=["bottle"], target_categories=["bottle"],
        calibration_ratio=0.3, num_workers=0,
    )  # fmt: skip
    datamodule.setup("fit")
    assert set(datamodule.train_data.samples.category) == {"metal_nut"}
    assert set(datamodule.test_data.samples.category) == {"bottle"}


def test_a_source_need_not_exist_for_testing(data):
    write(data / "meta.json", entries_of(data))
    datamodule = ZeroShot(source=MetaJson(data / "nowhere"), target=MetaJson(data))
    datamodule.setup("test")
    assert len(datamodule.test_data) == 8


def test_two_files_in_one_folder_are_two_data_sets(tmp_path):
    """Bayes-PFL's layout: one folder, and an index for each set, in which a class may have the same name."""
    for name in ("a", "b"):
        trees.like_mvtec(tmp_path / name, "wood", ["broken_small"])
        write(tmp_path / f"meta_{name}.json", entries_of(tmp_path / name, prefix=f"{name}/"))
    first, second = MetaJson(tmp_path, "meta_a.json"), MetaJson(tmp_path, "meta_b.json")
    ZeroShot(source=first, target=second, num_workers=0).setup()
    both = ZeroShot(target=[first, second], num_workers=0)
    both.setup()
    assert set(both.test_data.samples.category) == {"MetaJson/wood 1", "MetaJson/wood 2"}
    with pytest.raises(ValueError, match="share wood"):
        ZeroShot(source=first, target=MetaJson(tmp_path, tmp_path / "meta_a.json"))


def test_one_class_in_two_files_is_one_class(data):
    """Otherwise a detector would be tested on objects that it was trained on."""
    for name in ("a", "b"):
        index = entries_of(data)
        write(
            data / f"meta_{name}.json", {split: {"bottle": index[split]["bottle"][name == "b" :: 2]} for split in index}
        )
    with pytest.raises(ValueError, match="Source and target share bottle"):
        ZeroShot(source=MetaJson(data, "meta_a.json"), target=MetaJson(data, "meta_b.json"))
