# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Food, medicine and small goods before a background: each function draws one flawless specimen."""

from __future__ import annotations

import math

import numpy as np

from anomalib_zsad.data.surfaces.canvas import (
    Dice,
    View,
    box,
    circle,
    clip01,
    flat,
    inside,
    lettering,
    noise,
    over,
    polygon,
    ramp,
    scaled,
    smooth,
    spread,
    view,
    wave,
)
from anomalib_zsad.data.surfaces.specimen import code, cover, dome, middle_of, put
from anomalib_zsad.data.surfaces.surface import Surface


def hazelnut(dice: Dice, size: int) -> Surface:
    """A brown shell with fine ribs from a pale rough base."""
    place = put(dice, size, 0.55, 0.85)
    u, v = place.u, place.v * dice(0.95, 1.2)
    wobble = 0.03 * noise(dice, size, "soft", 1.2)
    tip = dice(0.0, 0.16)
    radius = np.sqrt((u + tip * u * u * np.sign(u)) ** 2 + v * v) * 1.12 + wobble
    distance = radius - 1.0
    base = dice.color("945c30 a87342 804724 d9b27a", 0.1)
    theta = np.arctan2(v, u + 1.5)
    ribs = np.sin(theta * dice(42, 58) + 1.5 * noise(dice, size, "fractal", 0.6)) + 0.4 * noise(
        dice, size, "grain", 3.0, 30.0, place.angle
    )
    color = flat(size, base) * spread(1.0 + 0.06 * ribs + 0.09 * noise(dice, size, "fractal", 1.0))
    cap = smooth((-u - dice(0.38, 0.75) + 0.06 * noise(dice, size, "soft", 3.0)) * 7.0)
    rough = noise(dice, size, "grain", 35.0)
    color = over(color, 0.8 * cap, flat(size, dice.tint((0.76, 0.64, 0.48), 0.1)) * spread(1.0 + 0.08 * rough))
    height = dome(distance, 0.55, 1.0) * place.scale + 0.003 * ribs
    color *= spread(0.72 + 0.34 * clip01(-distance * 2.2))
    return Surface(
        color,
        height,
        cover(distance, place, size),
        core=(0.86, 0.76, 0.58),
        gloss=dice(0.1, 0.5),
        axis=place.angle,
        middle=middle_of(place, 0.6),
    )


def cookie(dice: Dice, size: int) -> Surface:
    """A round biscuit, plain with docking holes or with chocolate chips."""
    place = put(dice, size)
    theta, radius = np.arctan2(place.v, place.u), np.sqrt(place.u**2 + place.v**2)
    scallop = dice.chance(0.4)
    edge = 0.035 * np.cos(24.0 * theta) if scallop else 0.04 * noise(dice, size, "soft", 1.6)
    distance = radius - 0.9 + edge
    base = dice.color("d9a661 bf8547 664029", 0.1)
    crumb = noise(dice, size, "fractal", 2.0)
    color = flat(size, base) * spread(1.0 + 0.07 * crumb + 0.06 * noise(dice, size, "grain", 35.0))
    brown = smooth((radius - 0.55 + 0.1 * noise(dice, size, "soft", 1.5)) * 2.5)
    color = over(color, 0.5 * brown, (base[0] * 0.7, base[1] * 0.55, base[2] * 0.42))
    height = dome(distance, 0.12, 0.4) + 0.012 * crumb
    if scallop:
        holes = np.zeros_like(radius)
        for k in range(8):
            a, b = 0.5 * math.cos(k * math.pi / 4), 0.5 * math.sin(k * math.pi / 4)
            holes = np.maximum(holes, inside(circle(place.u - a, place.v - b, 0.045), 0.05))
        color *= spread(1.0 - 0.55 * holes)
        height -= 0.03 * holes
    else:
        for _ in range(6 + dice.below(6)):
            r, t = 0.75 * math.sqrt(dice()), dice.angle()
            d = polygon(place.u - r * math.cos(t), place.v - r * math.sin(t), dice(0.07, 0.13), 3 + dice.below(4))
            chip = inside(d - 0.02, 0.05)
            color = over(color, chip, dice.tint((0.22, 0.13, 0.09), 0.2))
            height += 0.03 * chip
    return Surface(
        color,
        height,
        cover(distance, place, size),
        core=(base[0] * 1.05, base[1] * 1.0, base[2] * 0.9),
        gloss=0.05,
        axis=place.angle,
        middle=middle_of(place, 0.65),
        parts=tuple((*place.out(0.85 * math.cos(k), 0.85 * math.sin(k)), 0.3 * place.scale) for k in range(6)),
    )


def pill(dice: Dice, size: int) -> Surface:
    """A pressed tablet, round or long, with a score line or letters."""
    place = put(dice, size, 0.5, 0.85)
    length = dice.pick((0.0, 0.0, 0.35, 0.5))
    wide = 0.85 if length == 0 else 0.52
    distance = box(place.u, place.v, wide + length, wide, wide * 0.999)
    base = dice.color("f0ede6 edbfb8 f0de99 b2d1e6 bf5947", 0.05)
    speckle = noise(dice, size, "grain", 45.0)
    color = flat(size, base) * spread(1.0 + 0.02 * speckle + 0.02 * noise(dice, size, "fractal", 1.0))
    if dice.chance(0.35):  # coloured granules
        dots = smooth((0.2 - noise(dice, size, "bubbles", 15.0)) * 9.0)
        color = over(color, 0.5 * dots, (base[0] * 0.75, base[1] * 0.5, base[2] * 0.45))
    height = dome(distance, 0.22, 0.35) * place.scale
    groove = np.zeros_like(distance)
    if dice.chance(0.5):
        groove = inside(np.abs(place.u) - 0.02, 0.05) * (distance < -0.06)
    ink = np.zeros_like(distance)
    if dice.chance(0.75):
        for side in (-0.5, 0.5) if np.any(groove) else (0.0,):
            spot = View(place.u, place.v, place.angle, place.scale, place.out(side * (wide + length) * 0.9, 0.0))
            ink = np.maximum(
                ink, lettering(dice, size, spot, code(dice, 1 + dice.below(2) + (side == 0)), 0.4 if side else 0.5)
            )
    embossed = dice.chance(0.4)
    height = height - 0.035 * groove - (0.012 * ink if embossed else 0.0)
    ink_color = (base[0] * 0.62, base[1] * 0.6, base[2] * 0.6) if embossed else dice.tint((0.2, 0.25, 0.45), 0.3)
    color *= spread(1.0 - 0.25 * groove)
    core = (min(base[0] * 1.02, 1.0), base[1] * 0.95, base[2] * 0.88)
    return Surface(
        color,
        height,
        cover(distance, place, size),
        ink,
        ink_color,
        core=core,
        gloss=dice(0.05, 0.6),
        axis=place.angle,
        middle=middle_of(place, 0.55),
    )


def capsule(dice: Dice, size: int) -> Surface:
    """A two-part gelatine capsule with a printed code."""
    place = put(dice, size, 0.7, 0.92)
    u, v = place.u, place.v
    half = dice(0.3, 0.38)
    distance = box(u, v, 0.95, half, half * 0.999)
    seam = dice(-0.2, 0.2)
    colors = (
        (0.85, 0.2, 0.15),
        (0.95, 0.85, 0.3),
        (0.93, 0.92, 0.9),
        (0.2, 0.4, 0.7),
        (0.3, 0.6, 0.35),
        (0.45, 0.25, 0.18),
        (0.9, 0.55, 0.2),
    )
    first, second = dice.tint(dice.pick(colors)), dice.tint(dice.pick(colors))
    cap = inside(u - seam, 3.0 / size)
    color = ramp(cap, first, second)
    lip = inside(np.abs(u - seam) - 0.02, 0.04)
    color *= spread(1.0 - 0.18 * lip + 0.02 * noise(dice, size, "fractal", 1.0))
    bulge = dome(distance, half, half) * place.scale * 0.8
    height = bulge + 0.02 * smooth((seam - u) * 25.0)
    # A tube of light runs along the body.
    color *= spread(0.72 + 0.4 * clip01(-distance * 3.2))
    color += spread(
        dice(0.15, 0.4) * np.exp(-(((v - dice.pick((-1, 1)) * 0.4 * half) / 0.035) ** 2)) * (distance < -0.09)
    )
    ink = lettering(
        dice, size, View(u, v, place.angle, place.scale, place.out(dice.pick((-0.5, 0.45)), 0.0)), code(dice, 3), 0.26
    )
    dark = sum(first) + sum(second) < 2.6
    ink_color = (0.95, 0.95, 0.95) if dark else (0.12, 0.12, 0.15)
    return Surface(
        color,
        height,
        cover(distance, place, size),
        0.9 * ink,
        ink_color,
        core=(0.93, 0.9, 0.84),
        gloss=dice(0.6, 1.0),
        axis=place.angle,
        middle=middle_of(place, 0.6),
        parts=((*place.out(0.85, 0.0), 0.22 * place.scale), (*place.out(-0.85, 0.0), 0.22 * place.scale)),
    )


def bottle_cap(dice: Dice, size: int) -> Surface:
    """A crown cap from above: fluted rim, printed disc."""
    place = put(dice, size)
    theta, radius = np.arctan2(place.v, place.u), np.sqrt(place.u**2 + place.v**2)
    flutes = np.cos(21.0 * theta)
    distance = radius - 0.93 - 0.045 * flutes
    base = dice.color("bf2621 d9ad40 265999 337340 cccccc 1f1f21", 0.1)
    color = flat(size, base) * spread(1.0 + 0.03 * noise(dice, size, "fractal", 1.0))
    height = 0.12 * smooth((0.95 - radius) * 4.0) + 0.03 * flutes * smooth((radius - 0.7) * 6.0)
    light = sum(base) < 1.5
    ring = inside(np.abs(radius - dice(0.55, 0.62)) - dice(0.012, 0.03), 0.03)
    middle = lettering(dice, size, place, code(dice, 2 + dice.below(2)), dice(0.4, 0.55), 0.18)
    star = inside(radius - 0.3 - 0.13 * np.cos(dice.pick((5.0, 6.0, 8.0)) * theta), 0.04)
    ink = np.maximum(ring, middle if dice.chance(0.6) else star)
    ticks = (wave(theta * dice.pick((20, 30)) / (2 * math.pi)) > 0.5) * inside(np.abs(radius - 0.67) - 0.035, 0.03)
    ink = np.maximum(ink, ticks if dice.chance(0.6) else 0.0)
    return Surface(
        color,
        height,
        cover(distance, place, size),
        ink,
        (0.95, 0.94, 0.9) if light else dice.tint((0.15, 0.15, 0.3), 0.3),
        core=(0.72, 0.72, 0.74),
        gloss=dice(0.3, 1.0),
        axis=place.angle,
        middle=middle_of(place, 0.65),
        parts=tuple(
            (*place.out(0.88 * math.cos(k * math.pi / 4), 0.88 * math.sin(k * math.pi / 4)), 0.16) for k in range(8)
        ),
    )


def button(dice: Dice, size: int) -> Surface:
    """A sewing button with a raised rim and two or four holes."""
    place = put(dice, size, 0.55, 0.9)
    radius = np.sqrt(place.u**2 + place.v**2)
    distance = radius - 0.93
    base = dice.color("e6e0d1 334066 663d26 b23340 262629 739980", 0.12)
    swirl = noise(dice, size, "fractal", 0.6, 1.5, place.angle)
    color = flat(size, base) * spread(1.0 + dice(0.02, 0.14) * swirl)
    rim = dice(0.55, 0.7)
    height = 0.06 * smooth((radius - rim) * 9.0) + dome(distance, 0.08, 0.12)
    holes = np.full_like(radius, 9.0)
    count, far = dice.pick((2, 4, 4)), dice(0.17, 0.24)
    for k in range(count):
        t = 2 * math.pi * k / count
        holes = np.minimum(holes, circle(place.u - far * math.cos(t), place.v - far * math.sin(t), 0.085))
    height += 0.03 * smooth(holes * 12.0)
    alpha = cover(np.maximum(distance, -holes), place, size)
    core = scaled(base, 0.7, 0.2)
    return Surface(
        color,
        height,
        alpha,
        core=core,
        gloss=dice(0.3, 1.0),
        axis=place.angle,
        middle=middle_of(place, 0.7),
        parts=tuple((*place.out(0.88 * math.cos(k), 0.88 * math.sin(k)), 0.25 * place.scale) for k in range(6)),
    )


def zipper(dice: Dice, size: int) -> Surface:
    """Two woven tapes with interlocking teeth."""
    angle = dice.pick((0.0, math.pi / 2)) + dice.bell(0.3)
    place = view(size, angle, dice(0.85, 1.15), (dice.bell(0.15), dice.bell(0.15)))
    u, v = place.u, place.v
    pitch, reach = dice(6.0, 9.0), dice(0.13, 0.18)
    tape = dice.color("1f1f21 334073 8c806b 8c2626 bfbdb2", 0.12)
    weave = np.sin(u * 48.0) * np.sin(v * 48.0)
    color = flat(size, tape) * spread(1.0 + 0.12 * weave + 0.05 * noise(dice, size, "fractal", 1.2))
    color *= spread(1.0 - 0.3 * inside(np.abs(v) - 0.03, 0.03))
    stitch = inside(np.abs(np.abs(v) - reach - 0.1) - 0.012, 0.03) * (wave(u * 9.0) > 0.4)
    color = over(color, stitch.astype(np.float32), scaled(tape, 0.6, 0.25))
    upper, lower = wave(u * pitch), wave(u * pitch + 0.5)
    tooth_up = np.maximum(upper - 0.5 + 0.9 * (v < 0.03) * np.abs(v), np.abs(v - reach / 2 + 0.035) - reach / 2 - 0.035)
    tooth_down = np.maximum(
        lower - 0.5 + 0.9 * (v > -0.03) * np.abs(v), np.abs(v + reach / 2 - 0.035) - reach / 2 - 0.035
    )
    teeth = np.minimum(np.maximum(tooth_up, -9.0), tooth_down)
    shown = np.maximum(inside(tooth_up, 0.12), inside(tooth_down, 0.12)) * inside(np.abs(v) - reach, 0.03)
    teeth_color = dice.color("bfbfc4 cca64d 9e7a52 4c4c52", 0.1)
    color = over(color, shown, teeth_color)
    height = 0.03 * smooth(-teeth * 3.0) * shown + 0.006 * weave
    distance = np.abs(v) - dice(0.5, 0.9)
    parts = tuple((*place.out((k + 0.5) / pitch, 0.0), 0.11) for k in range(-5, 5))
    return Surface(
        color,
        height,
        cover(distance, place, size),
        core=scaled(tape, 0.7),
        gloss=dice(0.2, 0.7),
        thin=True,
        axis=angle,
        middle=middle_of(place, 0.4),
        parts=parts,
        inlay=True,
    )
