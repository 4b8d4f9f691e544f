# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Miniature copies of the public data sets' trees, with the oddities of the originals.

`plant(name, root)` makes one and returns the expected numbers of normal and anomalous images (squares, where strips are
cut) by split, and the kinds of defect.
"""

import itertools
import json
from pathlib import Path

import numpy as np
from PIL import Image

_next = iter(range(1_000_000))


def picture(path: Path, size=(24, 20), mode="RGB") -> Path:
    """A picture like no other, so that none counts as a copy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    pixels = np.random.default_rng(next(_next)).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def mask(path: Path, size=(24, 20), box=(5, 4, 11, 9), value=255, mode="L") -> Path:
    """A mask with a rectangle in it, or an empty one for `box=None`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size[::-1], np.uint8)
    if box:
        pixels[box[1] : box[3], box[0] : box[2]] = value
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def like_mvtec(root, category, defects, good="good", suffix="_mask.png", image=".png"):
    for number in range(2):
        picture(root / category / "train" / good / f"{number:03}{image}")
    picture(root / category / "test" / good / f"000{image}")
    for defect in defects:
        for number in (0, 3, 10):
            picture(root / category / "test" / defect / f"{number:03}{image}")
            mask(root / category / "ground_truth" / defect / f"{number:03}{suffix}")


def ksdd2(root):
    for split, first in (("train", 10000), ("test", 20000)):
        for number in range(4):
            picture(root / split / f"{first + number}.png", (23, 63))
            # the third has a mask of one pixel
            box = (None, (3, 4, 9, 20), (3, 4, 4, 5), None)[number]
            mask(root / split / f"{first + number}_GT.png", (23, 63), box)
    for name in ("10301", "10301_GT"):
        picture(root / "train" / f"{name} (copy).png", (23, 63))
    return {"train": (2, 2), "test": (2, 2)}, {"anomaly"}


def rsdd(root):
    for kind, size, box in (("Type-I", (16, 100), (2, 20, 8, 30)), ("Type-II", (5, 125), (1, 0, 4, 10))):
        home = root / f"{kind} RSDDs dataset"
        picture(home / "Rail surface images" / "rail_1.jpg", size, "L")
        mask(home / "GroundTruth" / "rail_1.jpg", size, box)
        picture(home / "Rail surface images" / "rail_10.jpg", size, "L")
        mask(home / "GroundTruth" / "rail_10.jpg", size, box)
    # Squares of 16 start at 0 14 28 42 56 70 84: rows 20-29 are in the second and third. Squares of 5 start at every
    # fifth row: rows 0-9 are in the first two. (A JPEG mask is soft at its edges, but not above 127 outside.)
    return {"test": (2 * (7 - 2) + 2 * (25 - 2), 2 * 2 + 2 * 2)}, {"anomaly"}


def dagm(root):
    for number in range(1, 11):
        for split in ("Train", "Test"):
            home = root / "DAGM_KaggleUpload" / f"Class{number}" / split
            for image in range(1, 4):
                picture(home / f"{image:04}.PNG", (20, 20), "L")
            mask(home / "Label" / "0002_label.PNG", (20, 20))
            (home / "Label" / "Labels.txt").write_text("1\n0\n")
    return {"train": (20, 10), "test": (20, 10)}, {"anomaly"}


def dtd(root):
    from anomalib_zsad.data.known_sets import SETS

    for category in SETS["DTDSynthetic"].categories:
        like_mvtec(root, category, ["bad"])
    return {"train": (24, 0), "test": (12, 36)}, {"anomaly"}


def mad_sim(root):
    from anomalib_zsad.data.known_sets import SETS

    for category in SETS["MADSim"].categories:
        like_mvtec(root / "MAD-Sim", category, ["Burrs", "Missing", "Stains"])
        (root / "MAD-Sim" / category / "transforms.json").write_text("{}")
    return {"train": (40, 0), "test": (20, 180)}, {"burrs", "missing", "stains"}


def mad_real(root):
    from anomalib_zsad.data.known_sets import SETS

    stained = ("Bear", "Puppy", "Turtle", "Whale")
    for category in SETS["MADReal"].categories:
        like_mvtec(root, category, ["Stains" if category in stained else "Missing"])
        mask(root / category / "ground_truth" / "good" / "000_mask.png", box=None)  # good ones have masks, too
    return {"train": (20, 0), "test": (10, 30)}, {"missing", "stains"}


def aitex(root):
    strip = (128, 8)
    for fabric in range(7):
        folder = root / "NODefect_images" / f"2306881-21002{fabric}u"
        code = "00" if fabric == 1 else "000"
        picture(folder / f"{fabric:04}_{code}_{fabric:02}.png", strip, "L")
    for stem, boxes in {
        "0001_002_00": [(10, 2, 20, 6)],  # squares 1 and 2
        "0044_019_04": [(0, 0, 3, 3), (120, 0, 128, 8)],  # two masks: the first square and the last
        "0106_010_03": [None],  # empty
        "0100_025_08": [],  # no mask, and a fabric of its own
    }.items():
        picture(root / "Defect_images" / f"{stem}.png", strip, "L")
        for number, box in enumerate(boxes, start=1):
            ending = f"_mask{number}" if len(boxes) > 1 else "_mask"
            mask(root / "Mask_images" / f"{stem}{ending}.png", strip, box)
    return {"test": (7 * 16 + 14 + 14, 4)}, {"broken end", "fuzzyball"}


def head_ct(root):
    for number in range(4):
        picture(root / "head_ct" / "head_ct" / f"{number:03}.png", (20 + number, 20))
    (root / "labels.csv").write_text("id, hemorrhage\n0, 1\n1, 1\n2, 0\n3, 0\n")
    return {"test": (2, 2)}, {"hemorrhage"}


def brain_mri(root):
    for path, mode in (
        ("no/1 no.jpeg", "L"), ("no/no 9.png", "RGBA"), ("no/N1.JPG", "RGB"), ("no/N2.jpg", "RGB"),
        ("yes/Y1.jpg", "RGB"), ("yes/Y1.JPG", "L"), ("yes/y2.BMP", "P"),
    ):  # fmt: skip
        picture(root / path, mode=mode)
        picture(root / "brain_tumor_dataset" / path, mode=mode)  # the archive has all of them twice
    (root / "no" / "Thumbs.db").write_text("")
    return {"test": (4, 3)}, {"tumor"}


def br35h(root):
    for number in range(3):
        picture(root / "Br35H" / "no" / f"no{number}.jpg")
        picture(root / "Br35H" / "yes" / f"y{number}.jpg")
    picture(root / "Br35H" / "pred" / "pred0.jpg")
    return {"test": (3, 3)}, {"tumor"}


def isic(root):
    for number in (3, 12, 15):
        picture(root / "ISBI2016_ISIC_Part1_Test_Data" / f"ISIC_{number:07}.jpg")
        mask(root / "ISBI2016_ISIC_Part1_Test_GroundTruth" / f"ISIC_{number:07}_Segmentation.png")
    return {"test": (0, 3)}, {"anomaly"}


def polyps(folder, images="images", masks="masks", suffix=".png"):
    def make(root):
        for number in (1, 2, 10):
            picture(root / folder / images / f"{number}{suffix}")
            mask(root / folder / masks / f"{number}{suffix}")
        return {"test": (0, 3)}, {"anomaly"}

    return make


def tn3k(root):
    for kind in ("test", "trainval"):
        for number in range(2):
            picture(root / f"{kind}-image" / f"{number:04}.jpg")
            mask(root / f"{kind}-mask" / f"{number:04}.jpg", box=(8, 8, 16, 16))
    (root / "tn3k-trainval-fold0.json").write_text(json.dumps({"train": [0], "val": [1]}))
    return {"test": (0, 2)}, {"anomaly"}


PUBLIC = {
    "KSDD2": ksdd2,
    "RSDD": rsdd,
    "DAGM": dagm,
    "DTDSynthetic": dtd,
    "MADSim": mad_sim,
    "MADReal": mad_real,
    "AITEX": aitex,
    "HeadCT": head_ct,
    "BrainMRI": brain_mri,
    "Br35H": br35h,
    "ISIC": isic,
    "ColonDB": polyps("CVC-ColonDB"),
    "ClinicDB": polyps("CVC-ClinicDB", "Original", "Ground Truth", ".tif"),
    "CVC300": polyps("CVC-300"),
    "Kvasir": polyps("Kvasir-SEG", suffix=".jpg"),
    "Endo": polyps("", suffix=".jpg"),
    "TN3K": tn3k,
}


# ---- anomalib's own ------------------------------------------------------------------------------------------------


def mvtec_ad(root):
    from anomalib_zsad.data.known_sets import SETS

    for category in SETS["MVTecAD"].categories:
        like_mvtec(root, category, ["broken", "contamination"])


def visa(root):
    from anomalib_zsad.data.known_sets import SETS

    rows = ["object,split,label,image,mask"]
    for category in SETS["Visa"].categories:
        for number, (split, label) in enumerate((("train", "normal"), ("test", "normal"), ("test", "anomaly"))):
            image = f"{category}/Data/Images/{'Normal' if label == 'normal' else 'Anomaly'}/{number:04}.JPG"
            truth = f"{category}/Data/Masks/Anomaly/{number:04}.png" if label == "anomaly" else ""
            picture(root / image)
            if truth:
                mask(root / truth, value=1)
            rows.append(f"{category},{split},{label},{image},{truth}")
    (root / "split_csv").mkdir()
    (root / "split_csv" / "1cls.csv").write_text("\n".join(rows))


def btech(root):
    for category, suffix in (("01", ".bmp"), ("02", ".png"), ("03", ".bmp")):
        like_mvtec(root / "BTech_Dataset_transformed", category, ["ko"], "ok", ".png", suffix)


def mpdd(root):
    from anomalib_zsad.data.known_sets import SETS

    for category in SETS["MPDD"].categories:
        like_mvtec(root, category, ["scratches"])


def real_iad(root):
    for category in ("audiojack", "toy"):
        index = {"meta": {"prefix": f"{category}/", "normal_class": "OK"}, "train": [], "test": []}
        for split, kind, number in (("train", "OK", 1), ("test", "OK", 2), ("test", "AK", 3)):
            image = f"{kind}/S{number:04}/{number}.jpg"
            truth = image.replace(".jpg", ".png") if kind != "OK" else None
            picture(root / "realiad_256" / category / image)
            if truth:
                mask(root / "realiad_256" / category / truth)
            index[split].append({"image_path": image, "mask_path": truth, "anomaly_class": kind})
        table = root / "realiad_jsons" / "realiad_jsons" / f"{category}.json"
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text(json.dumps(index))


def bmad(root):
    from anomalib_zsad.data.known_sets import SETS

    for category in SETS["BMAD"].categories:
        for number in range(4):
            picture(root / category / "train" / "good" / f"{number}.png")
        for split, kind in itertools.product(("valid", "test"), ("good", "Ungood")):
            for number in range(3):
                picture(root / category / split / kind / "img" / f"{number}.png")
                if kind == "Ungood" and category in {"Brain", "Liver", "Retina_RESC"}:
                    mask(root / category / split / kind / "label" / f"{number}.png")


def kolektor(root):
    for number in range(3):
        picture(root / f"kos{number:02}" / "Part0.jpg", (20, 60))
        mask(root / f"kos{number:02}" / "Part0_label.bmp", (20, 60), (3, 3, 9, 9) if number == 1 else None)


ANOMALIBS = {
    "MVTecAD": mvtec_ad, "Visa": visa, "BTech": btech, "MPDD": mpdd, "RealIAD": real_iad, "Kolektor": kolektor,
    "BMAD": bmad,
}  # fmt: skip


def plant(name: str, root: Path):
    """Make the tree of a data set below `root`."""
    return (PUBLIC | ANOMALIBS)[name](root)
