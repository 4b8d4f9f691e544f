# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Which kinds of defect the data sets have: words for prompts, by folder and by product.

The vocabularies are those that DAPO was published with ("partical" included); where its training and test disagree,
the training's choice stands (MVTec AD's ``manipulated_front`` is *bent*).

VisA has no folder for each kind; its kinds are in the annotation file of each product, ``image_anno.csv``. Real-IAD's
are in the JSON file of each product, which anomalib reads without them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomalib_zsad.data.words import ANOMALY, defect_word, unnumbered

if TYPE_CHECKING:
    from anomalib.data import AnomalibDataset
    from pandas import DataFrame


@dataclass(frozen=True)
class DefectTable:
    """Defect words of one data set.

    Attributes:
        words (tuple[str, ...]): All words; the position, counted from 1, is the id.
        products (Mapping[str, tuple[str, ...]]): Words of each product.
        folders (Mapping[str, str]): Word of each defect folder. Empty where the data set has no such folders.
    """

    words: tuple[str, ...]
    products: Mapping[str, tuple[str, ...]]
    folders: Mapping[str, str] = field(default_factory=dict)

    def kinds_of(self, product: str) -> tuple[str, ...]:
        """Words of a product, a number before its name aside (MAD-Sim's ``01Gorilla``); none if it is unknown."""
        return self.products.get(product) or self.products.get(unnumbered(product), ())

    def word(self, defect_type: str, product: str) -> str | None:
        """Word of a defect type as batches carry it (a cleaned folder name or label); ``None`` if it cannot be told.

        A folder that does not name the defect has its word where the product has that kind of defect only. Without
        folders, a label has the word whose last part it contains; a label of several kinds has none.
        """
        if not self.folders:
            words = [word for word in self.words if word.split()[-1] in defect_type]
            return words[0] if len(words) == 1 and "," not in defect_type else None
        words = [word for name, word in self.folders.items() if defect_word(name) == defect_type]
        nameless = defect_type == ANOMALY and list(self.kinds_of(product)) != words
        return words[0] if words and not nameless else None


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _folders(**folders: str) -> dict[str, str]:
    return {name: word.replace("_", " ") for word, names in folders.items() for name in _split(names)}


_MVTEC = DefectTable(
    words=_split(
        "bent, broken, color, combined, contamination, crack, cut, fabric, faulty imprint, glue, hole, missing, poke, "
        "rough, scratch, squeeze, thread, liquid, misplaced, damaged"
    ),
    folders=_folders(
        bent="bent, bent_lead, bent_wire, manipulated_front",
        broken="broken, broken_large, broken_small, broken_teeth",
        color="color",
        combined="combined",
        contamination="contamination, metal_contamination",
        crack="crack",
        cut="cut, cut_inner_insulation, cut_outer_insulation, cut_lead",
        fabric="fabric_border, fabric_interior",
        faulty_imprint="faulty_imprint, print",
        glue="glue, glue_strip",
        hole="hole",
        missing="missing_wire, missing_cable",
        poke="poke, poke_insulation",
        rough="rough",
        scratch="scratch, scratch_head, scratch_neck",
        squeeze="squeeze, squeezed_teeth",
        thread="thread, thread_side, thread_top",
        liquid="liquid, oil",
        misplaced="misplaced, cable_swap, flip, fold, split_teeth",
        damaged="damaged_case, defective, gray_stroke, pill_type",
    ),
    products={
        "bottle": _split("broken, contamination"),
        "cable": _split("bent, misplaced, combined, cut, missing, poke"),
        "capsule": _split("crack, faulty imprint, poke, scratch, squeeze"),
        "carpet": _split("color, cut, hole, contamination, thread"),
        "grid": _split("bent, broken, glue, contamination, thread"),
        "hazelnut": _split("crack, cut, hole, faulty imprint"),
        "leather": _split("color, cut, misplaced, glue, poke"),
        "metal_nut": _split("bent, color, misplaced, scratch"),
        "pill": _split("color, combined, contamination, crack, faulty imprint, damaged, scratch"),
        "screw": _split("bent, scratch, thread"),
        "tile": _split("crack, glue, damaged, liquid, rough"),
        "toothbrush": ("damaged",),
        "transistor": _split("bent, cut, damaged, misplaced"),
        "wood": _split("color, combined, hole, liquid, scratch"),
        "zipper": _split("broken, combined, fabric, rough, misplaced, squeeze"),
    },
)
_FRYUM = _split("scratch, breakage, burnt, stuck, spot")
_PCB = _split("scratch, melt, bent, missing")
_VISA = DefectTable(
    words=_split(
        "damage, scratch, breakage, burnt, weird wick, stuck, crack, wrong place, partical, bubble, melded, hole, "
        "melt, bent, spot, extra, chip, missing"
    ),
    products={
        "candle": _split("damage, weird wick, partical, melded, spot, extra, missing"),
        "capsules": ("bubble",),
        "cashew": _split("scratch, breakage, burnt, stuck, hole, spot"),
        "chewinggum": _split("scratch, spot, missing"),
        "fryum": _FRYUM,
        "pipe_fryum": _FRYUM,
        "macaroni1": _split("scratch, crack, spot, chip"),
        "macaroni2": _split("scratch, breakage, crack, spot, chip"),
        "pcb1": _PCB,
        "pcb2": _PCB,
        "pcb3": _PCB,
        "pcb4": _split("scratch, damage, extra, burnt, missing, wrong place"),
    },
)
_MPDD = DefectTable(
    words=_split("hole, scratch, bent, rust, flattening, mismatch, defective painting"),
    folders=_folders(
        hole="hole",
        scratch="scratches",
        bent="bend_and_parts_mismatch",
        rust="major_rust, total_rust",
        flattening="anomalous",
        mismatch="parts_mismatch",
        defective_painting="defective_painting",
    ),
    products={
        "bracket_black": _split("hole, scratch"),
        "bracket_brown": _split("mismatch, bent"),
        "bracket_white": _split("defective painting, scratch"),
        "connector": ("mismatch",),
        "metal_plate": _split("rust, scratch"),
        "tubes": ("flattening",),
    },
)
_MAD_FOLDERS = _folders(stains="Stains", missing="Missing", burrs="Burrs")
_MAD_REAL = DefectTable(
    words=("stains", "missing"),
    folders={name: word for name, word in _MAD_FOLDERS.items() if word != "burrs"},
    products={
        **dict.fromkeys(_split("Bear, Puppy, Turtle, Whale"), ("stains",)),
        **dict.fromkeys(_split("Bird, Elephant, Parrot, Pig, Scorpion, Unicorn"), ("missing",)),
    },
)
_MAD_SIM = DefectTable(
    words=("missing", "stains", "burrs"),
    folders=_MAD_FOLDERS,
    products=dict.fromkeys(
        _split(
            "Gorilla, Unicorn, Mallard, Turtle, Whale, Bird, Owl, Sabertooth, Swan, Sheep, Pig, Zalika, Phoenix, "
            "Elephant, Parrot, Cat, Scorpion, Obesobeso, Bear, Puppy, Pheonix"  # as the phoenix's folder is spelled
        ),
        ("stains", "missing", "burrs"),
    ),
)
_LETTERS = {
    "C": "contamination", "S": "scratch", "M": "missing", "P": "pit", "D": "deformation", "G": "damage",
    "A": "abrasion", "F": "foreign",
}  # fmt: skip
_REAL_IAD_PRODUCTS = {
    "CSMP": "eraser, woodstick, fire_hood, plastic_nut, wooden_beads, bottle_cap, plastic_plug, toy_brick, toy, vcpill",
    "CDSM": "usb, audiojack",
    "ACSP": "button_battery, usb_adaptor",
    "ACS": "sim_card_set, porcelain_doll",
    "PMC": "rolled_strip_base, terminalblock, mounts",
    "MCS": "switch",
    "CDMG": "zipper",
    "CSMF": "pcb",
    "ACM": "toothbrush",
    "MCD": "transistor1",
    "ACSM": "u_block",
    "CSMG": "end_cap",
    "MS": "regulator",
    "MCF": "mint",
    "CSGP": "phone_battery",
    "MCG": "tape",
}
_REAL_IAD = DefectTable(
    words=_split("pit, deformation, abrasion, scratch, damage, missing, foreign, contamination"),
    folders=_folders(
        pit="AK", deformation="BX", abrasion="CH", scratch="HS", damage="PS", missing="QS", foreign="YW",
        contamination="ZW",
    ),
    products={
        product: tuple(_LETTERS[letter] for letter in letters)
        for letters, products in _REAL_IAD_PRODUCTS.items()
        for product in _split(products)
    },
)  # fmt: skip

TABLES = {
    "MVTecAD": _MVTEC, "Visa": _VISA, "MPDD": _MPDD, "MAD-Real": _MAD_REAL, "MAD-Sim": _MAD_SIM, "RealIAD": _REAL_IAD,
}  # fmt: skip
"""Tables by the data set's name, spelled as anomalib's datamodules where there is one."""

SYNONYMS = {
    "color": "discoloration", "combined": "compound", "glue": "gluing", "poke": "puncture", "squeeze": "compressed",
    "thread": "threading", "misplaced": "misaligned", "damaged": "wear",
}  # fmt: skip
"""Other words for MVTec AD's types, which DAPO's released training script uses; named ``MVTecAD-synonyms``."""


def table_of(data_set: str) -> DefectTable | None:
    """Table of a data set, whatever its spelling (``"Real-IAD"``, ``"mvtecad"``), or ``None``."""
    return {_plain(name): table for name, table in TABLES.items()}.get(_plain(data_set))


def words_of(name: str) -> tuple[str, ...]:
    """Words of a data set (``"Visa"``), of one of its products (``"Visa/candle"``) or ``"MVTecAD-synonyms"``.

    Raises:
        ValueError: Naming what there is.

    Example:
        >>> words_of("MVTecAD/bottle")
        ('broken', 'contamination')
    """
    data_set, _, product = name.partition("/")
    table = table_of(data_set.removesuffix("-synonyms"))
    if table is None:
        msg = f"No defect words are known for {data_set!r}; known are {', '.join(TABLES)}. Or give the words as a list."
        raise ValueError(msg)
    if product and product not in table.products:
        msg = f"{data_set} has no product {product!r}; it has {', '.join(table.products)}."
        raise ValueError(msg)
    words = table.products[product] if product else table.words
    return tuple(SYNONYMS.get(word, word) for word in words) if data_set.endswith("-synonyms") else words


def number_of(word: str | None, words: Sequence[str]) -> int:
    """Place of a word, or its synonym, in a list, counted from 1; 0 if it is not there.

    Example:
        >>> number_of("glue", ["oil", "glue"]), number_of("glue", ["gluing"]), number_of("dent", ["oil"])
        (2, 1, 0)
    """
    return next((1 + words.index(one) for one in (word, SYNONYMS.get(word or "")) if one in words), 0)


def words_in(samples: DataFrame) -> dict[tuple[str, str], str | None]:
    """Defect word for each category and type of anomalous samples: the table's, else the type, ``None`` if unknown.

    Args:
        samples (DataFrame): Of a :class:`~anomalib_zsad.data.ZeroShotDataset`.
    """
    words: dict[tuple[str, str], str | None] = {}
    anomalous = samples[samples.label_index == 1]
    for data_set, category, kind in set(zip(anomalous.dataset, anomalous.category, anomalous.defect_type, strict=True)):
        table = table_of(data_set)
        plain = None if kind == ANOMALY or (table and not table.folders) else kind
        words[category, kind] = (table.word(kind, category.rpartition("/")[2]) if table else None) or plain
    return dict(sorted(words.items()))


def read_kinds(dataset: AnomalibDataset) -> None:
    """Put the kinds of defect of VisA and Real-IAD into the ``label`` column of a data set's samples.

    VisA's are read from ``image_anno.csv``, which lies in the product's folder below VisA's root; nothing is done where
    the file is missing. Real-IAD's are in the JSON file that anomalib has read. Does nothing to other data sets.
    """
    from anomalib.data.datasets.image.realiad import RealIADDataset
    from anomalib.data.datasets.image.visa import VisaDataset

    samples = dataset.samples
    if isinstance(dataset, RealIADDataset):
        kinds = _real_iad_kinds(dataset.root_category, dataset.metadata)
        samples["label"] = samples.image_path.map(kinds)
    elif isinstance(dataset, VisaDataset):
        kinds = _visa_kinds(dataset.root_category)
        anomalous = samples.label_index == 1
        names = [Path(path).name for path in samples.image_path[anomalous]]
        samples.loc[anomalous, "label"] = [kinds.get(name, ANOMALY) for name in names]


def _real_iad_kinds(product: Path, metadata: Mapping[str, Any]) -> dict[str, str]:
    """Folder name of the kind of each image, by its path as anomalib writes it."""
    entries = [entry for split in ("train", "test") for entry in metadata.get(split, ())]
    return {str((product / entry["image_path"]).resolve()): entry["anomaly_class"] for entry in entries}


def _visa_kinds(product: Path) -> dict[str, str]:
    """Label of each anomalous image, by file name, of a product where anomalib puts it (``<root>/visa_pytorch/``)."""
    file = product.parents[1] / product.name / "image_anno.csv"
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["label"] != "normal"]
    return {Path(row["image"]).name: row["label"] for row in rows}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
