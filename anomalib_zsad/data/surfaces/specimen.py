# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What the objects have in common: where they lie, their outline, metal, rounded bodies, codes."""

from __future__ import annotations

import math

import numpy as np

from anomalib_zsad.data.surfaces.canvas import (
    Color,
    Dice,
    Field,
    View,
    box,
    clip01,
    flat,
    inside,
    lettering,
    noise,
    spread,
    view,
)

METALS = "9ea1a6 73757a bf9e61 b87352 4c4c52"
LETTERS = "ABCDEFGHKLMNPRSTXZ0123456789"


def put(dice: Dice, size: int, low: float = 0.6, high: float = 0.88, shift: float = 0.14) -> View:
    """An object turned anyhow, not quite in the middle."""
    return view(size, dice.angle(), dice(low, high), (dice.bell(shift), dice.bell(shift)))


def code(dice: Dice, count: int) -> str:
    """Letters and digits."""
    return "".join(dice.pick(LETTERS) for _ in range(count))


def cover(distance: Field, place: View, size: int) -> Field:
    """Coverage with an edge of about one and a half pixels; distances are in units of the object."""
    return inside(distance, 3.0 / (size * place.scale))


def middle_of(place: View, radius: float = 0.75) -> tuple[float, float, float]:
    """What ``Surface.middle`` wants: the centre, and a radius given in units of the object."""
    return (*place.center, radius * place.scale)


def metal(dice: Dice, size: int, base: Color, place: View, *, round_: bool = False) -> Field:
    """Turned or brushed metal with broad reflections."""
    if round_:
        theta = np.arctan2(place.v, place.u)
        broad = 0.14 * np.cos(2.0 * theta + dice(0, 6)) + 0.06 * np.cos(5.0 * theta + dice(0, 6))
        fine = 0.05 * np.sin(np.sqrt(place.u**2 + place.v**2) * dice(60, 90))
    else:
        broad = 0.10 * noise(dice, size, "soft", 0.6, 2.0, place.angle)
        fine = 0.06 * noise(dice, size, "grain", 3.0, 45.0, place.angle)
    return flat(size, base) * spread(1.0 + broad + fine + 0.04 * noise(dice, size, "fractal", 1.0))


def dome(distance: Field, depth: float, radius: float) -> Field:
    """The height of a rounded body above its outline."""
    t = clip01(-distance / radius)
    return depth * np.sqrt(t * (2.0 - t))


def lying(dice: Dice, spread_: float = 0.12) -> float:
    """A nearly upright or level direction."""
    return dice.pick((0.0, math.pi / 2)) + dice.bell(spread_)


def imprint(dice: Dice, size: int, letters: str = "ABCDEFGHKLMNPRSTXZ0123456789") -> Field:
    """A label printed somewhere: a code of letters, at times in a frame."""
    place = view(
        size, dice.pick((0.0, 0.0, math.pi / 2)) + dice.bell(0.3), dice(0.8, 1.2), (dice.bell(0.4), dice.bell(0.5))
    )
    text = "".join(dice.pick(letters) for _ in range(3 + dice.below(4)))
    ink = lettering(dice, size, place, text, dice(0.22, 0.4))
    if dice.chance(0.4):
        edge = np.abs(box(place.u, place.v, dice(0.45, 0.8), dice(0.25, 0.4), 0.06)) - 0.02
        ink = np.maximum(ink, inside(edge, 3.0 / size))
    return ink
