# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Every data set of anomalib, as source and as target."""

import json

import anomalib.data
import pandas as pd
import pytest
from anomalib.data import (
    BMAD,
    MPDD,
    VAD,
    AutoVI,
    Avenue,
    BTech,
    Folder,
    Kaputt,
    Kolektor,
    MVTecAD,
    MVTecAD2,
    MVTecLOCO,
    RealIAD,
    Tabular,
    Visa,
)
from omegaconf import OmegaConf
from PIL import Image

from anomalib_zsad.data import ZeroShot
from anomalib_zsad.data.sources import as_datamodules, categories_of, classes_of

PANDAS = int(pd.__version__.partition(".")[0])

NUMBER_OF_CATEGORIES = {
    MVTecAD: 15, Visa: 12, BTech: 3, MPDD: 6, RealIAD: 30, BMAD: 6, VAD: 1, MVTecLOCO: 5, AutoVI: 6, MVTecAD2: 8,
    Kaputt: 10, Kolektor: 0,
}  # fmt: skip


@pytest.mark.parametrize("cls", NUMBER_OF_CATEGORIES)
def test_categories_of_anomalibs_data_sets(cls):
    categories = categories_of(cls())
    assert len(categories) == NUMBER_OF_CATEGORIES[cls]
    if categories:
        assert cls().category in categories


def test_categories_of_other_data_sets():
    class Own(Folder):
        categories = ("a", "b")

    class Child(MVTecAD):
        pass

    assert categories_of(Own("x", normal_dir="y")) == ("a", "b")
    assert categories_of(Child()) == categories_of(MVTecAD())
    assert categories_of(Folder("x", normal_dir="y")) == categories_of(Tabular("x", samples=[])) == ()


# ---- how a user names them -----------------------------------------------------------------------------------------


def test_ways_to_name_a_datamodule():
    instance = BTech()
    config = {"class_path": "Visa", "init_args": {"root": "r"}}
    for value in (config, OmegaConf.create(config), [config], OmegaConf.create([config]), (config,)):
        (datamodule,) = as_datamodules(value, "source")
        assert (type(datamodule), str(datamodule.root)) == (Visa, "r")
    assert [type(one) for one in as_datamodules(["Visa", "anomalib.data.MVTecAD", instance], "source")] == [
        Visa,
        MVTecAD,
        BTech,
    ]
    assert as_datamodules(instance, "source") == [instance]
    assert as_datamodules({"class_path": "Visa"}, "source")[0].category == "capsules"
    assert as_datamodules(None, "source") == []


def test_a_datamodule_of_ones_own():
    class MyParts(Folder):
        pass

    config = {"class_path": "my.package.MyParts", "init_args": {"name": "x", "normal_dir": "y"}}
    assert isinstance(as_datamodules(config, "source")[0], MyParts)


@pytest.mark.parametrize("name", ["Visaa", "Avenue", "", "AnomalibVideoDataModule"])
def test_unknown_name_lists_the_known(name):
    with pytest.raises(
        ValueError, match=rf"Unknown datamodule '{name}' as target\. Known are .*BMAD.*Folder.*MVTecAD.*Visa"
    ):
        as_datamodules(name, "target")


@pytest.mark.parametrize("value", [3, Avenue, object()])
def test_what_is_no_datamodule(value):
    with pytest.raises(TypeError, match="source must be an anomalib image datamodule"):
        as_datamodules(value, "source")
    with pytest.raises(TypeError, match="source must be"):
        as_datamodules(Avenue(), "source")


def test_no_zero_shot_within_zero_shot():
    with pytest.raises(TypeError, match="is a ZeroShot itself"):
        ZeroShot(source=ZeroShot(source="Visa"))


# ---- classes -------------------------------------------------------------------------------------------------------


def test_classes_are_copies():
    original = MVTecAD(category="cable")
    classes = classes_of([original], None, "source")
    assert [one.category for one in classes] == list(categories_of(original))
    assert all(one.datamodule.category == one.category for one in classes)
    assert original.category == "cable"
    assert [one.class_name for one in classes_of([original], ["metal_nut"], "source")] == ["metal nut"]


def test_wanted_classes_over_several_data_sets(tmp_path):
    datamodules = [Visa(), BTech(), Folder("my part", normal_dir="x", root=tmp_path)]
    classes = classes_of(datamodules, ["02", "candle", "my part"], "source")
    assert [str(one) for one in classes] == ["Visa/candle", "BTech/02", "my part"]
    with pytest.raises(ValueError, match=r"Unknown source_categories candel\. The source has candle, .* 03, my part\."):
        classes_of(datamodules, ["candel"], "source")


def test_a_directory_below_the_root_is_a_category(tmp_path):
    (tmp_path / "my_part").mkdir()
    (one,) = classes_of([MVTecAD(root=tmp_path)], ["my_part"], "target")
    assert (one.category, one.class_name, one.datamodule.category) == ("my_part", "my part", "my_part")


# ---- real set-ups, one tiny copy of each layout --------------------------------------------------------------------


def mvtec_like(
    paint, root, category, good="good", bad="crack", mask="_mask", train="train", test="test", truth="ground_truth"
):
    for number in range(2):
        paint(root / category / train / good / f"{number}.png", seed=number)
        paint(root / category / test / good / f"{number}.png", seed=10 + number)
        paint(root / category / test / bad / f"{number}.png", seed=20 + number)
        paint(root / category / truth / bad / f"{number}{mask}.png", mark=True)


def lay_out_mvtec(paint, root):
    mvtec_like(paint, root, "cable")
    mvtec_like(paint, root, "metal_nut")
    return MVTecAD(root=root), ["cable", "metal_nut"], {"crack"}


def lay_out_visa(paint, root):
    for category in ("candle", "pcb1"):
        mvtec_like(paint, root / "visa_pytorch", category, bad="bad", mask="")
    return Visa(root=root), ["candle", "pcb1"], {"anomaly"}


def lay_out_btech(paint, root):
    for category in ("01", "03"):
        mvtec_like(paint, root, category, good="ok", bad="ko", mask="")
    return BTech(root=root), ["01", "03"], {"anomaly"}


def lay_out_mpdd(paint, root):
    mvtec_like(paint, root, "tubes", bad="anomalous")
    mvtec_like(paint, root, "connector", bad="parts_mismatch")
    return MPDD(root=root), ["tubes", "connector"], {"anomaly", "parts mismatch"}


def lay_out_vad(paint, root):
    mvtec_like(paint, root, "vad", bad="bad")
    return VAD(root=root), ["vad"], {"anomaly"}


def lay_out_autovi(paint, root):
    mvtec_like(paint, root, "pipe_clip", bad="unclipped", mask="/0000")
    if PANDAS >= 3:
        pytest.skip("anomalib 2.7's AutoVI finds no images with pandas 3")
    return AutoVI(root=root), ["pipe_clip"], {"unclipped"}


def lay_out_loco(paint, root):
    if PANDAS >= 3:
        pytest.skip("anomalib 2.7's MVTecLOCO fails with pandas 3")
    mvtec_like(paint, root, "juice_bottle", bad="logical_anomalies", mask="/000")
    for number in range(2):  # of two masks for one image
        paint(root / "juice_bottle" / "ground_truth" / "logical_anomalies" / f"{number}" / "001.png", mark=True)
    return MVTecLOCO(root=root), ["juice_bottle"], {"anomaly"}


def lay_out_mvtec2(paint, root):
    for category in ("can", "rice"):
        mvtec_like(paint, root, category, bad="bad", test="test_public", truth="test_public/ground_truth")
        paint(root / category / "validation" / "good" / "0.png")
    return MVTecAD2(root=root), ["can", "rice"], {"anomaly"}


def lay_out_bmad(paint, root):
    for number in range(2):
        paint(root / "Brain" / "train" / "good" / f"{number}.png")
        for split in ("valid", "test"):
            paint(root / "Brain" / split / "good" / "img" / f"{number}.png")
            paint(root / "Brain" / split / "Ungood" / "img" / f"{number}.png")
            paint(root / "Brain" / split / "Ungood" / "label" / f"{number}.png", mark=True)
    return BMAD(root=root), ["Brain"], {"anomaly"}


def lay_out_bmad_without_masks(paint, root):
    """Two of the six have no masks; anomalib then fails when it reads the first anomalous image."""
    for split in ("train", "valid", "test"):
        for kind in ("good", "Ungood")[: 1 if split == "train" else 2]:
            for number in range(2):
                paint(root / "Chest" / split / kind / ("" if split == "train" else "img") / f"{number}.png")
    return BMAD(root=root), ["Chest"], {"anomaly"}


def lay_out_real_iad(paint, root):
    for category in ("bottle_cap", "toy"):
        samples = {"train": [], "test": []}
        for split, kind, number in (
            ("train", "OK", 0),
            ("test", "OK", 1),
            ("test", "OK", 2),
            ("test", "AK", 3),
            ("test", "HS", 4),
        ):
            name = f"{kind}/S000{number}/{category}_{number}.png"
            paint(root / "realiad_256" / category / name)
            entry = {"image_path": name, "mask_path": None, "anomaly_class": kind}
            if kind != "OK":
                entry["mask_path"] = name.replace(".png", "_mask.png")
                paint(root / "realiad_256" / category / entry["mask_path"], mark=True)
            samples[split].append(entry)
        meta = {"meta": {"prefix": f"{category}/", "normal_class": "OK"}, **samples}
        path = root / "realiad_jsons" / "realiad_jsons" / f"{category}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(meta))
    return RealIAD(root=root), ["bottle_cap", "toy"], {"ak", "hs"}


def lay_out_kolektor(paint, root):
    for number in range(12):
        paint(root / f"kos{number:02}" / "Part0.jpg", seed=number)
        paint(root / f"kos{number:02}" / "Part0_label.bmp", mark=True) if number < 2 else paint_black(
            root / f"kos{number:02}" / "Part0_label.bmp"
        )
    return Kolektor(root=root), None, {"anomaly"}


def paint_black(path):
    Image.new("L", (24, 20)).save(path)


def lay_out_tabular(paint, root):
    rows = [
        {"image_path": str(paint(root / f"{i}.png")), "label_index": i // 4, "split": "test" if i > 1 else "train"}
        for i in range(6)
    ]
    return Tabular("gears", samples=rows), None, {"anomaly"}


LAYOUTS = [value for name, value in sorted(globals().items()) if name.startswith("lay_out_")]


@pytest.mark.parametrize("lay_out", LAYOUTS, ids=[lay_out.__name__[8:] for lay_out in LAYOUTS])
def test_every_data_set_is_a_source_and_a_target(lay_out, paint, tmp_path):
    datamodule, categories, defects = lay_out(paint, tmp_path)
    kept = set(categories or [datamodule.name])

    as_target = ZeroShot(target=datamodule, target_categories=categories, num_workers=0, eval_batch_size=3)
    as_target.setup("test")
    samples = as_target.test_data.samples
    assert set(samples.category) == kept
    assert set(samples.defect_type) == {"", *defects}
    assert samples.groupby("category").label_index.sum().to_dict() == dict.fromkeys(kept, 2)
    assert samples.groupby("category").label_index.agg(lambda labels: (labels == 0).sum()).min() >= 2
    masks = "without_masks" not in lay_out.__name__ and not isinstance(datamodule, Tabular)
    for batch in as_target.test_dataloader():
        assert batch.has_mask.all().item() == batch.has_mask.any().item() == masks

    as_source = ZeroShot(source=datamodule, source_categories=categories, num_workers=0, calibration_ratio=0.5)
    as_source.setup("fit")
    assert set(as_source.train_data.samples.category) == set(as_source.val_data.samples.category) == kept
    assert len(as_source.train_data) + len(as_source.val_data) == len(samples)
    assert sum(len(batch) for batch in as_source.train_dataloader()) == len(as_source.train_data)


def test_every_image_data_set_of_anomalib_is_accounted_for():
    names = {name for name in anomalib.data.__all__ if isinstance(getattr(anomalib.data, name), type)}
    image = {name for name in names if "datamodules.image" in getattr(anomalib.data, name).__module__}
    assert image - {"ImageDataFormat"} == {cls.__name__ for cls in NUMBER_OF_CATEGORIES} | {
        "Folder",
        "Tabular",
        "Datumaro",
    }


# ---- folders with masks for only some images -----------------------------------------------------------------------


@pytest.fixture
def half_masked(paint, tmp_path):
    """Two kinds of defect, 11 images of the same names in each; one kind has masks, but for ``1.png``."""
    paint(tmp_path / "good" / "0.png")
    for number in range(11):
        paint(tmp_path / "bad" / "dent" / f"{number}.png")
        paint(tmp_path / "bad" / "scratch" / f"{number}.png")
        if number != 1:
            paint(tmp_path / "masks" / "scratch" / f"{number}.png", mark=True)
    return tmp_path


@pytest.mark.parametrize(
    ("abnormal", "masks", "without", "of"),
    [
        ("bad", "masks", [*[f"dent/{number}" for number in (0, 1, 10, 2, 3)], "7 others"], 22),
        (["bad/dent", "bad/scratch"], ["masks/scratch"], ["dent/0", "7 others"], 22),
        ("bad/scratch", "masks", ["scratch/1"], 11),  # 10.png is no mask of it
    ],
)
@pytest.mark.parametrize("role", ["source", "target"])
def test_images_of_a_folder_without_a_mask_are_named(half_masked, role, abnormal, masks, without, of):
    data = Folder("p", root=half_masked, normal_dir="good", abnormal_dir=abnormal, mask_dir=masks)
    with pytest.raises(RuntimeError, match=r"Cannot set up p: .* leave out mask_dir .* one more Folder") as error:
        ZeroShot(**{role: data}).setup("fit" if role == "source" else "test")
    count = 1 if len(without) == 1 else 12
    assert f"{count} of {of} images in abnormal_dir have no mask in mask_dir: {half_masked}" in str(error.value)
    assert [name for name in without if name not in str(error.value)] == []
    assert ("others" in str(error.value)) == (count > 5)


def test_the_ways_out_of_missing_masks(half_masked, paint):
    options = {"root": half_masked, "normal_dir": "good"}
    with pytest.raises(RuntimeError, match=r"Add masks .*, leave out mask_dir .*, or move .* without mask_dir"):
        ZeroShot(target=Folder("p", **options, abnormal_dir="bad", mask_dir="masks")).setup("test")
    dents = Folder("dents", **options, abnormal_dir="bad/dent")
    unmasked = ZeroShot(target=Folder("p", **options, abnormal_dir="bad"))
    paint(half_masked / "masks" / "scratch" / "1.png", mark=True)
    several = ZeroShot(target=[Folder("p", **options, abnormal_dir="bad/scratch", mask_dir="masks"), dents])
    for data, masks in ((unmasked, 0), (several, 11)):
        data.setup("test")
        samples = data.test_data.samples
        assert samples.label_index.sum() == 22
        assert (samples.mask_path != "").sum() == masks
