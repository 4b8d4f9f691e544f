# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""The data sets on which zero-shot detectors are compared: layout, published counts, source and terms of each.

Counts are those of the published file lists. Where the field's papers use another selection under the same name (other
crops, other labels, half of the images), the count of the public download stands here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from anomalib_zsad.data.layouts import (
    Entry,
    Layout,
    Split,
    child,
    folders,
    images,
    is_marked,
    key,
    masks_in,
    mvtec,
    pairs,
    read_csv,
    yes_and_no,
)

_SPLITS: tuple[Split, ...] = ("train", "test")

AITEX_DEFECTS = {
    "002": "broken end", "006": "broken yarn", "010": "broken pick", "016": "weft curling", "019": "fuzzyball",
    "022": "cut selvage", "023": "crease", "025": "warp ball", "027": "knots", "029": "contamination", "030": "nep",
    "036": "weft crack",
}  # fmt: skip


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace("\n", " ").split())


def _labelled_by_masks(place: Path, split: Split, category: str) -> Iterator[Entry]:
    """Images beside their masks, which alone tell what is anomalous; marked copies are left out."""
    files = {path: key(path) for path in images(place) if "(copy)" not in path.stem}
    masks = masks_in(place)
    if set(files) == {path for path, name in files.items() if name == path.stem.lower()}:
        return
    for image, name in files.items():
        if name != image.stem.lower():
            continue
        mask = tuple(path for path in masks[name] if path != image)
        if not mask:
            msg = f"{image} has no mask beside it, so that its label is not known. Complete or remove it."
            raise FileNotFoundError(msg)
        yield Entry(image, split, category, "anomaly" if is_marked(mask) else "", mask)


def _ksdd2(root: Path, category: str) -> Iterator[Entry]:
    for split in _SPLITS:
        yield from _labelled_by_masks(child(root, split), split, category)


def _rsdd(root: Path, category: str) -> Iterator[Entry]:
    for kind in ("Type-I RSDDs dataset", "Type-II RSDDs dataset"):
        place = child(root, kind, kind.split()[0])
        masks = masks_in(child(place, "GroundTruth"))
        for image in images(child(place, "Rail surface images")):
            yield Entry(image, "test", category, "anomaly", masks.get(key(image), ()))


def _dagm(root: Path, category: str) -> Iterator[Entry]:
    for split in _SPLITS:
        place = child(child(root, category), split)
        masks = masks_in(child(place, "Label"))
        for image in images(place):
            mask = masks.get(key(image), ())
            yield Entry(image, split, category, "anomaly" if mask else "", mask)


def _aitex(root: Path, category: str) -> Iterator[Entry]:
    """Names are ``number_defect_fabric``; the defect code of one normal image is ``00`` instead of ``000``."""
    fabric = category.rpartition("_")[2]
    normal = child(root, "NODefect_images")
    for image in (*images(normal), *(image for place in folders(normal) for image in images(place))):
        if image.stem.split("_")[-1] == fabric:
            yield Entry(image, "test", category, "")
    masks = masks_in(child(root, "Mask_images"))
    for image in images(child(root, "Defect_images")):
        _, code, of, *_ = *image.stem.split("_"), "", ""
        if of == fabric:
            yield Entry(image, "test", category, AITEX_DEFECTS.get(code, "anomaly"), masks.get(key(image), ()))


def _head_ct(root: Path, category: str) -> Iterator[Entry]:
    """The table's second column is called " hemorrhage", with the blank; numbers stand for names of files."""
    tables = [path for path in (root / "labels.csv", root.parent / "labels.csv") if path.is_file()]
    files = {image.stem.lstrip("0") or "0": image for image in images(child(root, "head_ct")) or images(root)}
    for row in read_csv(tables[0]) if tables and files else ():
        image = files.get(row.get("id", "").lstrip("0") or "0")
        if image is not None and row.get("hemorrhage", "") in {"0", "1"}:
            yield Entry(image, "test", category, "hemorrhage" if row["hemorrhage"] == "1" else "")


def _isic(root: Path, category: str) -> Iterator[Entry]:
    part = "ISBI2016_ISIC_Part1_Test_"
    return pairs((f"{part}Data",), (f"{part}GroundTruth",))(root, category)


def _visa(root: Path, category: str) -> Iterator[Entry]:
    table = root / "split_csv" / "1cls.csv"
    for row in read_csv(table) if table.is_file() else ():
        if row["object"] == category:
            defect = "" if row["label"] == "normal" else "anomaly"
            mask = (root / row["mask"],) if defect and row["mask"] else ()
            yield Entry(root / row["image"], "train" if row["split"] == "train" else "test", category, defect, mask)


def _ksdd(root: Path, category: str) -> Iterator[Entry]:
    for place in folders(root):
        if place.name.lower().startswith("kos"):
            yield from _labelled_by_masks(place, "test", category)


def _real_iad(root: Path, category: str) -> Iterator[Entry]:
    tables = [path for path in root.glob(f"realiad_jsons*/**/{category}.json") if path.is_file()]
    homes = [path for path in folders(root) if path.name.startswith("realiad_") and "json" not in path.name]
    if not tables or not homes:
        return
    index = json.loads(tables[0].read_text(encoding="utf-8"))
    for split in _SPLITS:
        for item in index.get(split, ()):
            good = item["anomaly_class"] == index["meta"].get("normal_class", "OK")
            home = homes[0] / category
            masks = (home / item["mask_path"],) if item.get("mask_path") and not good else ()
            yield Entry(home / item["image_path"], split, category, "" if good else item["anomaly_class"], masks)


def _bmad(root: Path, category: str) -> Iterator[Entry]:
    """Training pictures lie in ``train/good``; masks, of three sets, in ``label`` beside ``img``."""
    place = child(root, category)
    yield from (Entry(image, "train", category, "") for image in images(child(child(place, "train"), "good")))
    for kind, defect in (("good", ""), ("Ungood", "anomaly")):
        tested = child(child(place, "test"), kind)
        masks = masks_in(child(tested, "label")) if defect else {}
        for image in images(child(tested, "img")):
            yield Entry(image, "test", category, defect, masks.get(key(image), ()))


_MVTEC_TREE = """<class>/train/good/*.png
<class>/test/{good,<defect>}/*.png
<class>/ground_truth/<defect>/*_mask.png"""
_PAIRS_TREE = "images/*\nmasks/*  (the names of the images)"
_MAD_TREE = """01Gorilla/train/good/*.png
01Gorilla/test/{good,Burrs,Missing,Stains}/*.png
01Gorilla/ground_truth/{Burrs,Missing,Stains}/*_mask.png"""
_polyps = pairs(("images", "image", "Original"), ("masks", "mask", "Ground Truth"))
_POLYP_HOME = "the polyp sets collected on figshare and linked from github.com/zqhang/AnomalyCLIP"
_CLASSES = tuple(f"Class{number}" for number in range(1, 11))

_polyp_set = partial(
    Layout, categories=("colon",), read=_polyps, tree=_PAIRS_TREE, home=_POLYP_HOME,
    licence="not stated with the collection; research use, cite the makers",
)  # fmt: skip

PUBLIC = (
    Layout(
        "KSDD2", "KolektorSDD2", ("metal_surface",), _ksdd2, {"train": (2085, 246), "test": (894, 110)},
        "train/10000.png\ntrain/10000_GT.png\ntest/20000.png\ntest/20000_GT.png",
        "vicos.si/resources/kolektorsdd2", "CC BY-NC-SA 4.0", nested=("KolektorSDD2",),
    ),
    Layout(
        "RSDD", "RSDDs, rail surface discrete defects", ("rail",), _rsdd, {"test": (0, 195)},
        "Type-I RSDDs dataset/Rail surface images/rail_1.jpg\nType-I RSDDs dataset/GroundTruth/rail_1.jpg\n"
        "Type-II RSDDs dataset/...",
        "doi.org/10.21227/e1qg-6a39 or the index github.com/Charmve/Surface-Defect-Detection",
        "not stated; cite Gan et al. 2017", nested=("RSDDs dataset", "RSDDs"), tiled=True,
    ),
    Layout(
        "DAGM", "DAGM 2007", _CLASSES, _dagm, {"train": (7004, 1046), "test": (6996, 1054)},
        "Class1/Train/0001.PNG\nClass1/Train/Label/0001_label.PNG\nClass1/Test/...\nClass10/...",
        "zenodo.org/records/12750201 or the Kaggle upload DAGM_KaggleUpload", "see the source",
        nested=("DAGM_KaggleUpload", "DAGM2007"),
        groups={"seven": tuple(f"Class{number}" for number in (1, 2, 3, 4, 5, 7, 8))},
    ),
    Layout(
        "DTDSynthetic", "DTD-Synthetic",
        _words("Blotchy_099 Fibrous_183 Marbled_078 Matted_069 Mesh_114 Perforated_037 Stratified_154 Woven_001 "
               "Woven_068 Woven_104 Woven_125 Woven_127"),
        mvtec, {"train": (1200, 0), "test": (357, 947)}, _MVTEC_TREE.replace("<defect>", "bad"),
        "the download linked from github.com/zqhang/AnomalyCLIP (Aota et al. 2023)",
        "not stated; made of the Describable Textures Dataset, which is for research",
        nested=("DTD-Synthetic", "DTD"),
    ),
    Layout(
        "MADSim", "MAD-Sim",
        _words("01Gorilla 02Unicorn 03Mallard 04Turtle 05Whale 06Bird 07Owl 08Sabertooth 09Swan 10Sheep 11Pig 12Zalika "
               "13Pheonix 14Elephant 15Parrot 16Cat 17Scorpion 18Obesobeso 19Bear 20Puppy"),
        mvtec, {"train": (4200, 0), "test": (638, 4951)}, _MAD_TREE, "github.com/EricLee0224/PAD", "CC BY-NC-SA",
        nested=("MAD-Sim",),
    ),
    Layout(
        "MADReal", "MAD-Real", _words("Bear Bird Elephant Parrot Pig Puppy Scorpion Turtle Unicorn Whale"),
        mvtec, {"train": (490, 0), "test": (50, 221)},
        _MAD_TREE.replace("01Gorilla", "Bear").replace("{good,Burrs,Missing,Stains}", "{good,Stains}").replace(
            "{Burrs,Missing,Stains}", "Stains"),
        "github.com/EricLee0224/PAD", "CC BY-NC-SA", nested=("MAD-Real",), hints=("real",),
    ),
    Layout(
        "AITEX", "AITEX fabric images (AFID)", tuple(f"fabric_0{number}" for number in range(7)), _aitex,
        {"test": (140, 104)},
        "NODefect_images/<fabric>/0001_000_00.png\nDefect_images/0001_002_00.png\n"
        "Mask_images/0001_002_00_mask.png",
        "www.aitex.es/afid", "free for research; cite Silvestre-Blanes et al. 2019", tiled=True,
        odd=("0106_010_03",),
    ),
    Layout(
        "HeadCT", "HeadCT", ("head_ct",), _head_ct, {"test": (100, 100)}, "head_ct/000.png\nlabels.csv",
        "kaggle.com/datasets/felipekitamura/head-ct-hemorrhage", "see the source; no licence file comes with it",
        nested=("head_ct",), masks=False,
    ),
    Layout(
        "BrainMRI", "BrainMRI", ("brain_mri",), yes_and_no, {"test": (98, 155)},
        "yes/*  (jpg, JPG, jpeg, png)\nno/*",
        "kaggle.com/datasets/navoneel/brain-mri-images-for-brain-tumor-detection",
        "see the source; no licence file comes with it", nested=("brain_tumor_dataset",),
        hints=("brain_mri", "brainmri", "brain_tumor", "brain-mri"), masks=False,
    ),
    Layout(
        "Br35H", "Br35H", ("brain_mri",), yes_and_no, {"test": (1500, 1500)}, "yes/y0.jpg\nno/no0.jpg",
        "kaggle.com/datasets/ahmedhamada0/brain-tumor-detection", "see the source; no licence file comes with it",
        nested=("Br35H",), hints=("br35h",), masks=False,
    ),
    Layout(
        "ISIC", "ISIC 2016 task 1, test part", ("skin",), _isic, {"test": (0, 379)},
        "ISBI2016_ISIC_Part1_Test_Data/ISIC_0000003.jpg\n"
        "ISBI2016_ISIC_Part1_Test_GroundTruth/ISIC_0000003_Segmentation.png",
        "challenge.isic-archive.com/data/#2016", "CC0", nested=("skin",),
    ),
    _polyp_set("ColonDB", "CVC-ColonDB", counts={"test": (0, 380)}, nested=("CVC-ColonDB",), hints=("colondb",)),
    _polyp_set("ClinicDB", "CVC-ClinicDB", counts={"test": (0, 612)}, nested=("CVC-ClinicDB",), hints=("clinicdb",)),
    _polyp_set("CVC300", "CVC-300", counts={"test": (0, 60)}, nested=("CVC-300",), hints=("cvc-300", "cvc300")),
    _polyp_set(
        "Kvasir", "Kvasir-SEG", counts={"test": (0, 1000)}, nested=("Kvasir-SEG", "Kvasir"), hints=("kvasir",),
        home="datasets.simula.no/kvasir-seg",
        licence="research and education only; cite Jha et al. 2020",
    ),
    _polyp_set(
        "Endo", "EndoTect 2020 test set", counts={"test": (0, 200)}, hints=("endo",),
        nested=("EndoTect_2020_Segmentation_Test_Dataset", "segmentation"), home="endotect.com",
        licence="research and education only; cite Hicks et al. 2020",
    ),
    Layout(
        "TN3K", "TN3K", ("thyroid",), pairs(("test-image",), ("test-mask",)), {"test": (0, 614)},
        "test-image/0000.jpg\ntest-mask/0000.jpg",
        "github.com/haifangong/TRFE-Net-for-thyroid-nodule-segmentation", "see the source; cite Gong et al. 2021",
        nested=("tn3k", "Thyroid Dataset"),
    ),
)  # fmt: skip
"""Sets of which anomalib has none; each has a datamodule of its name here."""

ANOMALIBS = (
    Layout(
        "MVTecAD", "MVTec AD",
        _words("bottle cable capsule carpet grid hazelnut leather metal_nut pill screw tile toothbrush transistor wood "
               "zipper"),
        mvtec, {"train": (3629, 0), "test": (467, 1258)}, _MVTEC_TREE,
        "mvtec.com/company/research/datasets/mvtec-ad", "CC BY-NC-SA 4.0", nested=("MVTecAD", "mvtec"),
    ),
    Layout(
        "Visa", "VisA",
        _words("candle capsules cashew chewinggum fryum macaroni1 macaroni2 pcb1 pcb2 pcb3 pcb4 pipe_fryum"), _visa,
        {"train": (8659, 0), "test": (962, 1200)},
        "<class>/Data/Images/{Normal,Anomaly}/*.JPG\n<class>/Data/Masks/Anomaly/*.png\nsplit_csv/1cls.csv",
        "github.com/amazon-science/spot-diff", "CC BY 4.0", nested=("VisA",),
    ),
    Layout(
        "BTech", "BTAD", ("01", "02", "03"), mvtec, {"train": (1799, 0), "test": (451, 290)},
        "01/train/ok/*\n01/test/{ok,ko}/*\n01/ground_truth/ko/*", "avires.dimi.uniud.it/papers/btad", "CC BY-NC-SA 4.0",
        nested=("BTech_Dataset_transformed",),
    ),
    Layout(
        "MPDD", "MPDD", _words("bracket_black bracket_brown bracket_white connector metal_plate tubes"), mvtec,
        {"train": (888, 0), "test": (176, 282)}, _MVTEC_TREE, "github.com/stepanje/MPDD", "CC BY-NC-SA 4.0",
        nested=("MPDD",),
    ),
    Layout(
        "RealIAD", "Real-IAD",
        _words("audiojack bottle_cap button_battery end_cap eraser fire_hood mint mounts pcb phone_battery plastic_nut "
               "plastic_plug porcelain_doll regulator rolled_strip_base sim_card_set switch tape terminalblock "
               "toothbrush toy toy_brick transistor1 usb usb_adaptor u_block vcpill wooden_beads woodstick zipper"),
        _real_iad, {}, "realiad_{256,512,1024}/<class>/{OK,NG}/...\nrealiad_jsons/realiad_jsons/<class>.json",
        "huggingface.co/datasets/Real-IAD/Real-IAD", "CC BY-NC-SA 4.0",
    ),
    Layout(
        "Kolektor", "KolektorSDD", ("Kolektor",), _ksdd, {"test": (347, 52)},
        "kos01/Part0.jpg\nkos01/Part0_label.bmp", "vicos.si/resources/kolektorsdd", "CC BY-NC-SA 4.0",
        nested=("KolektorSDD",),
    ),
    Layout(
        "BMAD", "BMAD", _words("Brain Chest Histopathology Liver Retina_OCT2017 Retina_RESC"), _bmad, {},
        "Brain/train/good/*.png\nBrain/{valid,test}/{good,Ungood}/img/*.png\n"
        "Brain/{valid,test}/Ungood/label/*.png  (Brain, Liver and Retina_RESC alone)",
        "github.com/DorisBao/BMAD", "CC BY-NC-SA 4.0", nested=("BMAD",),
        unmasked=("Chest", "Histopathology", "Retina_OCT2017"),
    ),
)  # fmt: skip
"""Sets with a datamodule in anomalib, for ``anomalib-zsad doctor`` to know them."""

SETS = {layout.name: layout for layout in (*PUBLIC, *ANOMALIBS)}
"""All of them by name."""


def as_markdown() -> str:
    """The table of ``docs/data_sets.md``: datamodule, classes, published counts, annotation, source, terms."""
    lines = [
        "| `--data` | data set | classes | train, normal / anomalous | test | masks | where to get it | terms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for layout in (*ANOMALIBS, *PUBLIC):
        counts = ["{} / {}".format(*layout.counts[split]) if split in layout.counts else "" for split in _SPLITS]
        whose = "anomalib" if layout in ANOMALIBS else "ours"
        cells = (
            f"`{layout.name}` ({whose})", layout.title, str(len(layout.categories)), *counts,
            "yes" if layout.masks else "no", layout.home, layout.licence,
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def as_summary() -> str:
    """The shorter table of ``README.md``: classes, published counts of both splits together, terms, what it needs."""
    lines = ["| data set, `--data` | classes | normal / anomalous | terms | what it needs |", "|---|---|---|---|---|"]
    for layout in (*ANOMALIBS, *PUBLIC):
        counts = " / ".join(str(sum(one)) for one in zip(*layout.counts.values(), strict=True))
        normal = layout.tiled or any(one for one, _ in layout.counts.values()) or not layout.counts
        level = "" if normal else "; pixel level only"
        need = f"from {layout.home}" + (level if layout.masks else "; image level only")
        cells = (f"{layout.title}, `{layout.name}`", str(len(layout.categories)), counts, layout.licence, need)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
