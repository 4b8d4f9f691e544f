# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""What a good one of every known class looks like, in one sentence, and what commonly goes wrong with its kind.

The sentences were written for this package, from general knowledge of such things, as a dictionary would define them.
The defect words are those that a material or trade is prone to. Neither was looked up in the labels of a data set: to
describe a target by its own defect names would tell the detector what it is tested on.

Keys are class words (:func:`anomalib_zsad.data.words.category_word`). Data sets that only number their classes are
keyed by these numbers: BTAD has ``01`` to ``03``, DAGM ``class1`` to ``class10``, AITEX ``fabric 00`` to ``fabric 06``.
"""

from __future__ import annotations

from typing import NamedTuple


class Definition(NamedTuple):
    """What is known of a class.

    Attributes:
        text (str): A sentence without a full stop, starting with an article where there is one.
        defects (tuple[str, ...]): Defect words of its kind.
    """

    text: str
    defects: tuple[str, ...]


DEFECTS: dict[str, tuple[str, ...]] = {
    "any": ("scratch", "crack", "hole", "stain", "deformation", "missing part", "contamination"),
    "metal": ("scratch", "dent", "bend", "crack", "rust", "flaw in the coating", "contamination"),
    "plastic": ("scratch", "crack", "dent", "burr", "discoloration", "missing part", "contamination"),
    "glass": ("crack", "chip", "broken edge", "scratch", "bubble", "contamination"),
    "mineral": ("crack", "chip", "stain", "scratch", "rough patch", "glue", "oil"),
    "wood": ("scratch", "crack", "hole", "stain", "knot", "burn"),
    "textile": ("hole", "cut", "stain", "loose thread", "broken yarn", "crease", "foreign fibre"),
    "leather": ("cut", "fold", "scratch", "poke", "stain", "glue"),
    "rubber": ("cut", "crack", "bubble", "missing material", "contamination"),
    "food": ("crack", "break", "hole", "burn", "mould", "stain", "foreign body"),
    "pharmacy": ("crack", "chip", "scratch", "dent", "faulty imprint", "discoloration", "contamination"),
    "electronics": ("missing part", "bent pin", "scratch", "burn", "wrong position", "solder fault", "cut wire"),
    "package": ("tear", "hole", "dent", "crushed corner", "spill", "loose flap", "missing label"),
    "assembly": ("missing part", "wrong part", "extra part", "wrong position", "breakage", "contamination"),
    "toy": ("burr", "stain", "missing part", "hole", "discoloration"),
    "medical": ("tumour", "lesion", "bleeding", "swelling", "abnormal tissue"),
    "bowel": ("polyp", "growth", "bleeding", "ulcer", "swelling"),
    "skin": ("mole", "lesion", "pigmented spot", "ulcer", "irregular border"),
}
"""Defect words by kind; ``any`` is for classes that are not known."""

_FABRIC = "a plain woven cloth of fine warp and weft yarns that cross evenly all over"
_DAGM = "an even grey surface whose fine random texture looks the same everywhere"

_KNOWN: dict[str, tuple[str, str]] = {
    # MVTec AD
    "bottle": ("glass", "the round mouth of a dark glass bottle seen from above, with a smooth unbroken rim"),
    "cable": ("electronics", "the end face of a cable, three insulated cores of copper strands in one round sheath"),
    "capsule": ("pharmacy", "a smooth two-coloured gelatin capsule with rounded ends and a clear imprint"),
    "carpet": ("textile", "a flat carpet of one colour with a dense, regular weave"),
    "grid": ("metal", "a wire grid whose thin bars cross in equal diamonds"),
    "hazelnut": ("food", "a whole ripe hazelnut in a smooth brown shell with a pale rough base"),
    "leather": ("leather", "a sheet of tanned leather with a fine, even grain and one colour"),
    "metal nut": ("metal", "a flat metal nut with four teeth on its rim and a clean threaded hole in the middle"),
    "pill": ("pharmacy", "an oval white tablet with small red speckles, letters pressed in and a smooth surface"),
    "screw": ("metal", "a straight steel screw with a flat head, a plain neck and an even thread down to its tip"),
    "tile": ("mineral", "a flat stone tile with an even pattern of black and white grains"),
    "toothbrush": ("plastic", "the head of a toothbrush with full rows of upright, equally long bristle tufts"),
    "transistor": ("electronics", "a black transistor with three straight legs, each set into a hole of the board"),
    "wood": ("wood", "a planed wooden board with straight, quiet grain of one colour"),
    "zipper": ("textile", "a closed zipper with equal teeth that interlock on two straight fabric bands"),
    # VisA
    "candle": ("any", "round tea candles of smooth white wax, each with one upright wick in the middle"),
    "capsules": ("pharmacy", "loose soft-gel capsules, clear, oval, plump and free of bubbles"),
    "cashew": ("food", "a whole cashew kernel, curved like a kidney, pale and smooth"),
    "chewinggum": ("food", "a whole white cushion of chewing gum with smooth sides and full corners"),
    "fryum": ("food", "an uncooked wheel-shaped snack with a closed rim and unbroken spokes"),
    "macaroni1": ("food", "short curved tubes of yellow pasta, whole, smooth and all of one shade"),
    "macaroni2": ("food", "short curved tubes of yellow pasta lying at all angles, whole and clean"),
    "pcb1": ("electronics", "a small populated circuit board of an ultrasonic sensor with two round metal transducers"),
    "pcb2": ("electronics", "a small populated circuit board of an infrared sensor with straight header pins"),
    "pcb3": ("electronics", "a small populated circuit board with a blue trimmer, a light sensor and header pins"),
    "pcb4": ("electronics", "a square populated circuit board with chips, terminals and clean solder joints"),
    "pipe fryum": ("food", "an uncooked snack in the form of a short ribbed tube, straight and whole"),
    # BTAD, by its numbers
    "01": ("metal", "a round industrial part with a smooth, evenly bright rim and a clean centre"),
    "02": ("wood", "an even panel with a fine vertical grain of one colour"),
    "03": ("metal", "a round industrial part with a plain face, concentric edges and no marks"),
    # MPDD
    "bracket black": ("metal", "a flat metal bracket evenly painted black, with round drilled holes"),
    "bracket brown": ("metal", "a bent metal bracket with an even brown coating and all its parts welded on"),
    "bracket white": ("metal", "a slim metal bracket evenly painted white, without marks"),
    "connector": ("metal", "a machined metal pipe connector with a complete thread and all its parts"),
    "metal plate": ("metal", "a flat rolled metal plate with a uniform, clean surface"),
    "tubes": ("metal", "straight metal tubes with round, undeformed ends that lie side by side"),
    # KolektorSDD and KolektorSDD2, RSDD, magnetic tiles
    "electrical commutators": ("metal", "the embedded plastic surface of an electrical commutator, plain and closed"),
    "ksdd": ("metal", "the embedded plastic surface of an electrical commutator, plain and closed"),
    "metal surface": ("metal", "a dark machined surface of a production item, even and without spots"),
    "ksdd2": ("metal", "a dark machined surface of a production item, even and without spots"),
    "rsdd": ("metal", "the worn head of a steel rail, evenly bright along its running band"),
    "rail": ("metal", "the worn head of a steel rail, evenly bright along its running band"),
    "magnetic tile": ("metal", "the ground grey face of a ferrite motor magnet, even from edge to edge"),
    # DAGM 2007, AITEX
    **{f"class{number}": ("any", _DAGM) for number in range(1, 11)},
    **{f"fabric 0{number}": ("textile", _FABRIC) for number in range(7)},
    # DTD-Synthetic
    "woven 001": ("textile", "a coarse basket weave of flat light bands that cross over and under"),
    "woven 068": ("textile", "a rough weave of thick threads in regular rows"),
    "woven 104": ("textile", "a tight weave of narrow strips in a repeating pattern"),
    "woven 125": ("textile", "a plaited surface of even strands that cross at right angles"),
    "woven 127": ("textile", "a woven mat of parallel fibres bound at equal distances"),
    "blotchy 099": ("any", "a surface covered with soft irregular blotches of similar size"),
    "fibrous 183": ("textile", "a surface of fine fibres that run side by side"),
    "marbled 078": ("mineral", "polished stone with soft veins that flow through it"),
    "matted 069": ("textile", "a felt-like mat of short tangled fibres, evenly dense"),
    "mesh 114": ("metal", "a net of thin strands with equal open cells"),
    "perforated 037": ("metal", "a sheet with equal round holes in straight rows"),
    "stratified 154": ("mineral", "layered stone with parallel bands of changing shade"),
    # MAD-Sim; MAD-Real has ten of these toys
    "gorilla": ("toy", "a gorilla built of plastic toy bricks, complete and in clean colours"),
    "unicorn": ("toy", "a unicorn built of plastic toy bricks, with its horn and clean colours"),
    "mallard": ("toy", "a mallard duck built of plastic toy bricks, complete and in clean colours"),
    "turtle": ("toy", "a turtle built of plastic toy bricks, with a whole shell and four flippers"),
    "whale": ("toy", "a whale built of plastic toy bricks, with a smooth back and both fins"),
    "bird": ("toy", "a bird built of plastic toy bricks, with both wings and a beak"),
    "owl": ("toy", "an owl built of plastic toy bricks, with two round eyes and both wings"),
    "sabertooth": ("toy", "a sabre-toothed cat built of plastic toy bricks, with both long teeth"),
    "swan": ("toy", "a swan built of plastic toy bricks, white and with a curved neck"),
    "sheep": ("toy", "a sheep built of plastic toy bricks, with a round fleece and four legs"),
    "pig": ("toy", "a pig built of plastic toy bricks, with a flat snout and four legs"),
    "zalika": ("toy", "a zebra-like figure built of plastic toy bricks, complete and in clean colours"),
    "pheonix": ("toy", "a phoenix built of plastic toy bricks, with spread wings and clean colours"),
    "elephant": ("toy", "an elephant built of plastic toy bricks, with trunk, ears and four legs"),
    "parrot": ("toy", "a parrot built of plastic toy bricks, in bright clean colours"),
    "cat": ("toy", "a cat built of plastic toy bricks, with two ears and a tail"),
    "scorpion": ("toy", "a scorpion built of plastic toy bricks, with both claws and a raised tail"),
    "obesobeso": ("toy", "a round animal figure built of plastic toy bricks, complete and in clean colours"),
    "bear": ("toy", "a bear built of plastic toy bricks, with two ears and four legs"),
    "puppy": ("toy", "a puppy built of plastic toy bricks, with two ears and a tail"),
    # Real-IAD
    "audiojack": ("electronics", "an audio plug with a straight metal shaft, insulating rings and a plastic body"),
    "bottle cap": ("plastic", "a round screw cap of plastic with a ribbed side and a smooth top"),
    "button battery": ("electronics", "a round flat battery cell with a clean shiny metal face"),
    "end cap": ("plastic", "a moulded end cap of plastic with full edges and a smooth face"),
    "eraser": ("rubber", "a rectangular rubber eraser with straight edges in a clean paper sleeve"),
    "fire hood": ("metal", "a metal burner hood with regular slots and an unmarked surface"),
    "mint": ("food", "a round white mint sweet with a smooth surface and a whole edge"),
    "mounts": ("plastic", "a moulded plastic mount with complete clips and holes"),
    "pcb": ("electronics", "a populated circuit board with all its parts in place and clean solder joints"),
    "phone battery": ("electronics", "a flat phone battery in a smooth labelled pouch with a short connector"),
    "plastic nut": ("plastic", "a six-sided plastic nut with a complete inner thread"),
    "plastic plug": ("plastic", "a moulded plastic plug with smooth faces and full edges"),
    "porcelain doll": ("mineral", "a glazed porcelain figure with cleanly painted features"),
    "regulator": ("electronics", "a voltage regulator with a flat metal tab and three straight legs"),
    "rolled strip base": ("plastic", "the round moulded base of a strip dispenser with a clean rim"),
    "sim card set": ("plastic", "a SIM card in its frame with clean gold contacts and sharp print"),
    "switch": ("electronics", "a small electric switch with a straight lever and clean terminals"),
    "tape": ("plastic", "a full roll of adhesive tape, wound tightly with flush edges"),
    "terminalblock": ("electronics", "a plastic terminal block with a row of equal openings and a screw in each"),
    "toy": ("toy", "a small moulded plastic figure with complete limbs and clean paint"),
    "toy brick": ("toy", "a plastic building brick with all its studs and sharp edges"),
    "transistor1": ("electronics", "a power transistor with a printed body, a metal tab and three straight legs"),
    "usb": ("electronics", "a USB plug with a straight metal shell and clean contacts"),
    "usb adaptor": ("electronics", "a USB power adaptor with a closed white case and straight contacts"),
    "u block": ("metal", "a metal block in the form of a U with straight flanks and clean holes"),
    "vcpill": ("pharmacy", "a round vitamin tablet of one colour with a smooth face and a whole edge"),
    "wooden beads": ("wood", "a round wooden bead with a smooth surface and a clean drilled hole"),
    "woodstick": ("wood", "a flat wooden stick with rounded ends and straight, clean grain"),
    # MVTec AD 2, MVTec LOCO AD
    "can": ("metal", "a drinks can with a smooth wall and a sharp, complete print"),
    "fabric": ("textile", "a flat woven fabric with an even pattern and no creases"),
    "fruit jelly": ("food", "a jar of clear fruit jelly with evenly spread pieces of fruit"),
    "rice": ("food", "a layer of clean white rice grains of one kind"),
    "sheet metal": ("metal", "a plain sheet of metal with straight edges and an even gloss"),
    "vial": ("glass", "a clear glass vial with a closed cap and clear liquid inside"),
    "wallplugs": ("plastic", "plastic wall plugs with whole ribs and open, straight sleeves"),
    "walnuts": ("food", "whole walnuts with closed, clean, wrinkled shells"),
    "breakfast box": ("assembly", "a breakfast tray with two tangerines, a nectarine, cereals and dried fruit"),
    "juice bottle": ("assembly", "a filled juice bottle with a closed cap, a fruit label and a text label below it"),
    "pushpins": ("assembly", "a divided box with exactly one whole pushpin in each compartment"),
    "screw bag": ("assembly", "a clear bag with two bolts, one long and one short, two nuts and two washers"),
    "splicing connectors": ("assembly", "two splicing connectors of one size joined by one cable at the same slots"),
    # AutoVI, VAD
    "engine wiring": ("assembly", "an engine's wiring with every connector plugged in and every cable clipped"),
    "pipe clip": ("assembly", "a vehicle pipe held by a clip that is fully closed around it"),
    "pipe staple": ("assembly", "a vehicle pipe held by a staple that sits in its place"),
    "tank screw": ("assembly", "a fuel tank mounting with its screw fully driven in"),
    "underbody pipes": ("assembly", "pipes under a car body that lie straight in all their holders"),
    "underbody screw": ("assembly", "a car's underbody panel with its screw in place"),
    "vad": ("electronics", "a piezoelectric part with an even coating and two clean solder joints"),
    # Kaputt
    "book other": ("package", "a book with straight covers, square corners and flat pages"),
    "book paper": ("package", "a paperback book with flat covers and square corners"),
    "book plastic tight wrap": ("package", "a book sealed in tight clear film without tears"),
    "cardboard": ("package", "a closed cardboard box with straight edges and full corners"),
    "other": ("package", "a packed retail item, closed, clean and in shape"),
    "paper": ("package", "a closed paper package with smooth sides"),
    "plastic bubble wrap": ("package", "an item fully covered with bubble wrap that is closed all round"),
    "plastic hard": ("package", "an item in a hard plastic pack, clear and unbroken"),
    "plastic loose bag": ("package", "an item in a loose plastic bag that is closed and whole"),
    "plastic tight wrap": ("package", "an item sealed in tight plastic film without tears"),
    # medical pictures
    "head ct": ("medical", "a slice of a head scan with an even, symmetric brain inside a closed skull"),
    "brain": ("medical", "a slice of a brain scan, symmetric and evenly grey on both sides"),
    "brain mri": ("medical", "a magnetic resonance slice of a brain, symmetric and without bright masses"),
    "br35h": ("medical", "a magnetic resonance slice of a brain, symmetric and without bright masses"),
    "liver": ("medical", "a slice of an abdominal scan with a smooth, evenly grey liver"),
    "chest": ("medical", "a chest radiograph with two clear, dark lungs and a sharp outline of the heart"),
    "covid": ("medical", "a chest radiograph with two clear, dark lungs and a sharp outline of the heart"),
    "histopathology": ("medical", "stained tissue under the microscope with regular, evenly spaced cells"),
    "retina oct2017": ("medical", "a cross-section of a retina with smooth, parallel layers"),
    "retina resc": ("medical", "a cross-section of a retina with smooth, parallel layers"),
    "thyroid": ("medical", "an ultrasound picture of a thyroid gland with fine, even echoes"),
    "tn3k": ("medical", "an ultrasound picture of a thyroid gland with fine, even echoes"),
    "isic": ("skin", "clear human skin with an even tone"),
    "colon": ("bowel", "the smooth pink wall of a healthy large bowel with regular folds"),
    "kvasir": ("bowel", "the smooth pink wall of a healthy large bowel with regular folds"),
    "endo": ("bowel", "the smooth pink wall of a healthy large bowel with regular folds"),
    "cvc colondb": ("bowel", "the smooth pink wall of a healthy large bowel with regular folds"),
    "cvc clinicdb": ("bowel", "the smooth pink wall of a healthy large bowel with regular folds"),
    "cvc 300": ("bowel", "the smooth pink wall of a healthy large bowel with regular folds"),
    # SyntheticSurfaces, where the name is not one of the above
    "brushed metal": ("metal", "a metal sheet brushed in one direction, with fine parallel lines"),
    "concrete": ("mineral", "a flat wall of grey concrete, evenly rough"),
    "marble": ("mineral", "a polished slab of marble with soft veins"),
    "brick": ("mineral", "a wall of equal bricks in straight rows with even joints"),
    "mesh": ("metal", "a net of thin strands with equal open cells"),
    "foam": ("rubber", "a soft foam with fine pores spread evenly"),
    "plastic": ("plastic", "a smooth moulded plastic surface of one colour"),
    "rubber": ("rubber", "a dark sheet of rubber with a matt, even surface"),
    "glass": ("glass", "a clear sheet of glass, clean and flat"),
    "skin": ("skin", "clear human skin with an even tone"),
    "scan": ("medical", "a grey scan of a symmetric organ with even tissue"),
    "circuit board": ("electronics", "a circuit board with straight copper tracks and all its parts in place"),
    "gear": ("metal", "a round gear with equal, complete teeth and a centred hole"),
    "coin": ("metal", "a round metal coin with a sharp relief and a whole rim"),
    "cookie": ("food", "a round baked cookie with an even colour and a whole edge"),
    "button": ("plastic", "a round button with a smooth rim and evenly placed holes"),
    "battery": ("electronics", "a cylindrical battery with a smooth wrapper and clean end caps"),
    "microchip": ("electronics", "a square microchip with a printed top and rows of straight pins"),
    "key": ("metal", "a metal key with a round bow and a clean-cut blade"),
    "ball bearing": ("metal", "a ball bearing with two round rings and evenly spaced balls"),
}

DEFINITIONS: dict[str, Definition] = {word: Definition(text, DEFECTS[kind]) for word, (kind, text) in _KNOWN.items()}
"""What is known, by class word."""
