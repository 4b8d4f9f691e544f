# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What is drawn and what it is called: classes, defect types, groups, captions. Data only, and ``caption``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from anomalib_zsad.data.surfaces import defects, electronics, goods, hard, hardware, soft
from anomalib_zsad.data.surfaces.canvas import Dice
from anomalib_zsad.data.surfaces.surface import Surface

Group = Literal["seen", "unseen"]


class SurfaceClass(NamedTuple):
    """A class of things: how it is drawn, what can happen to it, which group it belongs to."""

    draw: Callable[[Dice, int], Surface]
    kind: Literal["texture", "object"]
    group: Group
    words: tuple[str, ...]  # other names, for captions
    defects: tuple[str, ...]


class DefectType(NamedTuple):
    """A type of defect: how it is drawn, which group it belongs to, what people call it."""

    draw: Callable[[Dice, Surface, float, float], Surface]
    group: Group
    words: tuple[str, ...]  # nouns for "with a ..."; the first is the plain name with its article
    state: str  # adjective


DEFECTS: dict[str, DefectType] = {
    "scratch": DefectType(defects.scratch, "seen", ("a scratch", "scratches", "a scratch mark"), "scratched"),
    "crack": DefectType(defects.crack, "seen", ("a crack", "a fracture", "a fine crack"), "cracked"),
    "hole": DefectType(defects.hole, "seen", ("a hole", "a pit", "a puncture"), "pierced"),
    "stain": DefectType(defects.stain, "seen", ("a stain", "a stained spot", "a spill"), "stained"),
    "dent": DefectType(defects.dent, "seen", ("a dent", "a pressed in area", "a depression"), "dented"),
    "contamination": DefectType(
        defects.contamination, "seen", ("contamination", "dirt on it", "foreign particles"), "contaminated"
    ),
    "missing part": DefectType(
        defects.missing_part, "seen", ("a missing part", "a missing piece", "a piece broken off"), "incomplete"
    ),
    "burn": DefectType(defects.burn, "seen", ("a burn", "a burn mark", "a scorched spot"), "burnt"),
    "print fault": DefectType(
        defects.print_fault, "seen", ("a print fault", "a faulty print", "smeared print"), "misprinted"
    ),
    "cut": DefectType(defects.cut, "unseen", ("a cut", "a slit", "a knife cut"), "cut"),
    "thread": DefectType(defects.thread, "unseen", ("a thread", "a loose thread", "a hair on it"), "thread covered"),
    "bend": DefectType(defects.bend, "unseen", ("a bend", "a bent part", "a deformation"), "bent"),
    "discoloration": DefectType(
        defects.discoloration, "unseen", ("discoloration", "a discolored area", "a faded area"), "discolored"
    ),
    "swelling": DefectType(defects.swelling, "unseen", ("a swelling", "a bump", "a blister"), "swollen"),
}


def _class(
    draw: Callable[[Dice, int], Surface], kind: Literal["texture", "object"], group: Group, words: str, faults: str
) -> SurfaceClass:
    names = tuple(w.strip() for w in words.split(","))
    return SurfaceClass(draw, kind, group, names, tuple(f.strip() for f in faults.split(",")))


CLASSES: dict[str, SurfaceClass] = {
    "wood": _class(
        soft.wood, "texture", "seen", "wooden board, timber",
        "scratch, crack, hole, stain, dent, burn, contamination, cut, discoloration, thread"),
    "leather": _class(
        soft.leather, "texture", "unseen", "hide, leather cover",
        "scratch, hole, stain, dent, burn, contamination, cut, discoloration, thread, swelling"),
    "fabric": _class(
        soft.fabric, "texture", "seen", "woven fabric, cloth, textile",
        "hole, stain, burn, contamination, cut, thread, discoloration"),
    "carpet": _class(
        soft.carpet, "texture", "seen", "rug, carpet floor",
        "hole, stain, burn, contamination, cut, thread, discoloration"),
    "brushed metal": _class(
        hard.brushed_metal, "texture", "seen", "metal plate, steel sheet",
        "scratch, crack, hole, stain, dent, contamination, discoloration, swelling, thread"),
    "tile": _class(
        hard.tile, "texture", "seen", "ceramic tile, tiles",
        "scratch, crack, hole, stain, missing part, contamination, discoloration, thread"),
    "concrete": _class(
        hard.concrete, "texture", "unseen", "concrete wall, cement",
        "crack, hole, stain, missing part, contamination, burn, discoloration, swelling"),
    "paper": _class(
        soft.paper, "texture", "seen", "printed paper, paper sheet",
        "hole, stain, burn, print fault, contamination, cut, discoloration, thread"),
    "marble": _class(
        hard.marble, "texture", "unseen", "marble slab, polished stone",
        "scratch, crack, hole, stain, missing part, contamination, discoloration, thread"),
    "brick": _class(
        hard.brick, "texture", "seen", "brick wall, bricks",
        "crack, hole, stain, missing part, burn, contamination, discoloration"),
    "mesh": _class(
        hard.mesh, "texture", "unseen", "wire mesh, metal grid",
        "missing part, bend, contamination, thread, stain, discoloration"),
    "foam": _class(
        soft.foam, "texture", "unseen", "sponge, foam block",
        "hole, stain, dent, burn, contamination, missing part, cut, thread, discoloration"),
    "plastic": _class(
        hard.plastic, "texture", "seen", "plastic cover, plastic part",
        "scratch, crack, hole, stain, dent, burn, print fault, contamination, cut, discoloration, swelling, thread"),
    "rubber": _class(
        hard.rubber, "texture", "seen", "rubber mat, rubber tread",
        "scratch, crack, hole, stain, contamination, burn, cut, discoloration, swelling, thread"),
    "glass": _class(
        hard.glass, "texture", "seen", "glass pane, window glass",
        "scratch, crack, stain, contamination, missing part, hole, thread, discoloration"),
    "skin": _class(
        soft.skin, "texture", "unseen", "skin tissue, human skin",
        "scratch, stain, burn, hole, contamination, cut, discoloration, swelling, thread"),
    "scan": _class(
        soft.scan, "texture", "seen", "tissue scan, medical scan",
        "hole, stain, crack, swelling, discoloration"),
    "metal nut": _class(
        hardware.metal_nut, "object", "seen", "nut, hexagon nut",
        "scratch, crack, dent, stain, missing part, contamination, bend, discoloration, thread"),
    "hazelnut": _class(
        goods.hazelnut, "object", "unseen", "nut shell, hazel nut",
        "scratch, crack, hole, stain, contamination, burn, cut, discoloration, thread"),
    "pill": _class(
        goods.pill, "object", "seen", "tablet, white pill",
        "scratch, crack, hole, stain, contamination, print fault, missing part, discoloration, swelling"),
    "capsule": _class(
        goods.capsule, "object", "unseen", "medicine capsule, gelatin capsule",
        "scratch, crack, hole, stain, dent, contamination, print fault, bend, cut, discoloration"),
    "screw": _class(
        hardware.screw, "object", "seen", "metal screw, bolt",
        "scratch, crack, dent, stain, missing part, contamination, bend, discoloration, thread"),
    "circuit board": _class(
        electronics.circuit_board, "object", "seen", "pcb, electronic board",
        "scratch, crack, stain, missing part, burn, print fault, contamination, bend, thread, discoloration"),
    "bottle cap": _class(
        goods.bottle_cap, "object", "seen", "bottle top, crown cap",
        "scratch, hole, stain, dent, print fault, contamination, bend, discoloration, thread"),
    "gear": _class(
        hardware.gear, "object", "unseen", "cog wheel, gear wheel",
        "scratch, crack, stain, dent, missing part, contamination, bend, discoloration, thread"),
    "coin": _class(
        hardware.coin, "object", "unseen", "metal coin, money coin",
        "scratch, crack, hole, stain, dent, contamination, missing part, cut, discoloration, thread"),
    "cookie": _class(
        goods.cookie, "object", "seen", "biscuit, round cookie",
        "crack, hole, missing part, burn, contamination, cut, thread, discoloration"),
    "button": _class(
        goods.button, "object", "seen", "sewing button, plastic button",
        "scratch, crack, stain, dent, missing part, burn, contamination, discoloration, swelling, thread"),
    "cable": _class(
        electronics.cable, "object", "seen", "cable cross section, electric cable",
        "scratch, hole, stain, missing part, burn, contamination, cut, bend, thread, discoloration"),
    "battery": _class(
        electronics.battery, "object", "seen", "battery cell, round cell",
        "scratch, dent, stain, print fault, burn, contamination, swelling, cut, discoloration, thread"),
    "zipper": _class(
        goods.zipper, "object", "unseen", "zip fastener, zip",
        "hole, stain, missing part, burn, contamination, bend, cut, thread, discoloration"),
    "microchip": _class(
        electronics.microchip, "object", "seen", "integrated circuit, chip package",
        "scratch, crack, stain, missing part, burn, print fault, contamination, bend, thread, discoloration"),
    "key": _class(
        hardware.key, "object", "unseen", "door key, metal key",
        "scratch, dent, stain, missing part, contamination, bend, discoloration, thread"),
    "ball bearing": _class(
        hardware.ball_bearing, "object", "seen", "bearing, roller bearing",
        "scratch, crack, stain, missing part, contamination, dent, discoloration, thread"),
}  # fmt: skip

NORMAL_CAPTIONS = (
    "a photo of a flawless {name}",
    "a photo of a {name} without defect",
    "a perfect {name}",
    "an image of a normal {name}",
    "a good {name} for visual inspection",
    "an intact {name}",
    "{name}, no defect",
    "a close-up photo of an undamaged {name}",
)
DEFECT_CAPTIONS = (
    "a photo of a {name} with {noun}",
    "a photo of a damaged {name} with {noun}",
    "a {state} {name}",
    "an image of a {name} that shows {noun}",
    "a defective {name} with {noun}",
    "{noun} on a {name}",
    "{name}, {noun}",
    "a close-up photo of a {state} {name}",
)


def caption(dice: Dice, class_name: str, defect_type: str = "") -> str:
    """A sentence about a picture.

    Args:
        dice: Draws template and words.
        class_name: A key of ``CLASSES``.
        defect_type: A key of ``DEFECTS``, or "" for a flawless picture.
    """
    name = class_name if dice.chance(0.6) else dice.pick(CLASSES[class_name].words)
    if not defect_type:
        return dice.pick(NORMAL_CAPTIONS).format(name=name)
    defect = DEFECTS[defect_type]
    noun = defect.words[0] if dice.chance(0.6) else dice.pick(defect.words)
    return dice.pick(DEFECT_CAPTIONS).format(name=name, noun=noun, state=defect.state)


def members(group: str, table: dict) -> tuple[str, ...]:
    """The names in ``table`` of a group, ``all`` for every one."""
    if group not in {"seen", "unseen", "all"}:
        msg = f"Unknown group {group!r}; choose 'seen', 'unseen' or 'all'."
        raise ValueError(msg)
    return tuple(name for name, entry in table.items() if group in {"all", entry.group})
