# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Soft and grown surfaces: each function draws one flawless sample of its material.

Everything that a normal sample may show is drawn here: joints, seams, knots, freckles, print, borders.
"""

from __future__ import annotations

import numpy as np

from anomalib_zsad.data.surfaces.canvas import (
    Dice,
    box,
    clip01,
    flat,
    inside,
    noise,
    over,
    ramp,
    smooth,
    spread,
    view,
    wave,
)
from anomalib_zsad.data.surfaces.specimen import imprint, lying
from anomalib_zsad.data.surfaces.surface import Surface, sheet


def wood(dice: Dice, size: int) -> Surface:
    """Planed boards with year rings, fibres, now and then a knot or a joint."""
    angle = lying(dice)
    place = view(size, angle, dice(0.8, 1.3), (dice.bell(0.5), dice.bell(0.5)))
    phase = place.v * dice(2.5, 5.0) + 0.35 * noise(dice, size, "fractal", 0.5, 1.0, angle)
    shade, joint = np.zeros_like(phase), np.zeros_like(phase)
    if dice.chance(0.35):
        du, dv = place.u - dice.bell(0.8), place.v - dice.bell(0.8)
        near = np.exp(-(du * du * 3.0 + dv * dv * 14.0) / dice(0.3, 0.6))
        phase += 1.6 * near
        shade += 0.55 * smooth(near * 4.0 - 2.9)
    if dice.chance(0.4):
        line = place.v - dice.bell(0.6)
        right = inside(line, 2.0 / size)
        phase += right * dice(0.3, 3.0)
        joint = inside(np.abs(line) - 0.012, 3.0 / size)
        shade += 0.12 * dice.bell(1.0) * right
    rings = phase - np.floor(phase)
    fibre = noise(dice, size, "grain", 3.0, 55.0, angle)
    pores = np.maximum(noise(dice, size, "soft", 4.0, 42.0, angle) - 1.1, 0.0)
    t = 0.6 * rings * rings * rings + 0.09 * fibre + 0.22 * pores + shade
    light = dice.color("dbab70 b8804c 8c5c38 ccb894")
    dark = (light[0] * 0.62, light[1] * 0.52, light[2] * 0.45)
    color = over(ramp(t, light, dark), 0.85 * joint, (0.12, 0.08, 0.05))
    alpha, middle = sheet(dice, size)
    height = -0.012 * t - 0.03 * joint
    core = (light[0] * 0.95, light[1] * 0.85, light[2] * 0.7)
    return Surface(color, height, alpha, core=core, gloss=dice(0.0, 0.35), axis=angle, middle=middle)


def leather(dice: Dice, size: int) -> Surface:
    """Grained hide with creases of two sizes, at times a stitched seam."""
    cells = dice(14.0, 24.0)
    crease = noise(dice, size, "creases", cells, cells * dice(0.8, 1.25), dice.angle())
    folds = noise(dice, size, "creases", dice(3.0, 6.0), None, dice.angle())
    t = 0.35 * smooth(crease * 2.2) + 0.15 * smooth(folds * 4.0) + 0.10 * noise(dice, size, "fractal", 0.7)
    base = dice.color("6b381f 33241c 801f1a ad8054 292e3d")
    color = ramp(t, (base[0] * 0.55, base[1] * 0.5, base[2] * 0.5), (base[0] * 1.25, base[1] * 1.22, base[2] * 1.2))
    height = 0.022 * smooth(crease * 2.0) + 0.02 * smooth(folds * 3.0)
    angle = lying(dice)
    if dice.chance(0.4):
        place = view(size, angle, 1.0, (dice.bell(0.7), dice.bell(0.7)))
        thread = inside(box(wave(place.u * 4.5) - 0.5, place.v, 0.28, 0.016), 0.05)
        groove = np.exp(-((place.v / 0.06) ** 2))
        color = over(color, thread, dice.tint((0.8, 0.74, 0.6), 0.2))
        height = height - 0.03 * groove + 0.02 * thread
    alpha, middle = sheet(dice, size)
    core = (base[0] * 0.9 + 0.25, base[1] * 0.9 + 0.2, base[2] * 0.9 + 0.15)
    return Surface(color, height, alpha, core=core, gloss=dice(0.1, 0.6), thin=True, axis=angle, middle=middle)


def fabric(dice: Dice, size: int) -> Surface:
    """Plain or twill weave, at times with coloured stripes."""
    place = view(size, lying(dice, 0.3), 1.0, (dice.bell(0.1), dice.bell(0.1)))
    count = dice(9.0, 15.0)
    sway = 0.012 * noise(dice, size, "soft", 2.0)
    a, b = (place.u + sway) * count, (place.v + sway) * count
    turns_a, turns_b = np.floor(a), np.floor(b)
    twill = 3.0 if dice.chance(0.4) else 2.0
    lift = turns_a + turns_b
    up = (lift - np.floor(lift / twill) * twill) < 1.0
    bump_a, bump_b = 1.0 - (2.0 * (a - turns_a) - 1.0) ** 2, 1.0 - (2.0 * (b - turns_b) - 1.0) ** 2
    yarn = np.where(up, bump_a * (0.55 + 0.45 * bump_b), bump_b * (0.55 + 0.45 * bump_a)).astype(np.float32)
    first = dice.color("bfb8a6 40598c 994038 597359 33333b")
    second = dice.tint(first, 0.3) if dice.chance(0.6) else dice.tint((0.7, 0.66, 0.55), 0.3)
    t = np.where(up, 0.0, 1.0).astype(np.float32)
    color = ramp(t, first, second) * spread(0.6 + 0.42 * yarn + 0.04 * noise(dice, size, "grain", 45.0))
    if dice.chance(0.35):
        stripe = inside(wave(place.u * dice(0.8, 1.8) + 0.3) - dice(0.2, 0.5), 0.05)
        if dice.chance(0.5):
            stripe = 0.5 * (stripe + inside(wave(place.v * dice(0.8, 1.8)) - dice(0.2, 0.5), 0.05))
        color *= 1.0 - spread(stripe) * (1.0 - np.array(dice.tint((0.6, 0.45, 0.45), 0.4), np.float32))
    alpha, middle = sheet(dice, size)
    return Surface(
        color, 0.02 * yarn, alpha, core=dice.tint(first), gloss=0.0, thin=True, axis=place.angle, middle=middle
    )


def carpet(dice: Dice, size: int) -> Surface:
    """Tufts and loops of mottled yarn, at times with a woven pattern."""
    tuft = noise(dice, size, "bubbles", dice(22.0, 30.0))
    pile = noise(dice, size, "fibres", dice(14.0, 22.0))
    mottle = noise(dice, size, "patches", dice(22.0, 30.0))
    base = dice.color("736b61 4c546b 804c47 9e8f73 475c4c")
    shade = (
        0.75
        + 0.3 * (1.0 - tuft)
        + 0.35 * (pile - 0.25)
        + 0.28 * (mottle - 0.5)
        + 0.05 * noise(dice, size, "fractal", 0.8)
    )
    color = flat(size, base) * spread(shade)
    place = view(size, lying(dice, 0.2), 1.0, (dice.bell(0.6), dice.bell(0.6)))
    if dice.chance(0.4):
        pattern = inside(wave(place.u * 1.1) + wave(place.v * 1.1) - dice(0.6, 1.1), 0.08)
        color = over(color, 0.55 * pattern, dice.tint(base, 0.9)) * spread(0.9 + 0.1 * pile)
    alpha, middle = sheet(dice, size)
    core = (base[0] * 0.5, base[1] * 0.45, base[2] * 0.4)
    return Surface(color, 0.03 * (1.0 - tuft), alpha, core=core, gloss=0.0, thin=False, axis=place.angle, middle=middle)


def paper(dice: Dice, size: int) -> Surface:
    """A printed or ruled sheet with visible fibres."""
    fibre = noise(dice, size, "fibres", dice(6.0, 12.0))
    base = dice.color("ede8db dbc79e c29e70 e0e6ed", 0.05)
    color = flat(size, base) * spread(1.0 - 0.07 * fibre + 0.025 * noise(dice, size, "fractal", 1.0))
    place = view(size, dice.bell(0.25), 1.0, (dice.bell(0.1), dice.bell(0.1)))
    pitch = dice(4.0, 6.5)
    row = place.v * pitch
    line = np.floor(row)
    if dice.chance(0.7):  # lines of print: words are runs of a hashed row
        words = np.sin(np.floor(place.u * pitch * 3.2) * 12.7 + line * 4.1) + 0.7 * np.sin(
            np.floor(place.u * pitch) * 3.1 + line
        )
        strokes = wave(place.u * pitch * 3.2) - 0.32
        ink = inside(np.abs(row - line - 0.5) - 0.22, 0.12) * (words > -0.5) * smooth(strokes * 4.0)
        ink = ink * (np.abs(place.u) < dice(0.7, 1.0)) * 0.85
    else:
        ink = 0.6 * inside(np.abs(row - line - 0.5) - 0.05, 0.1)
    if dice.chance(0.4):
        ink = np.maximum(ink, imprint(dice, size))
    alpha, middle = sheet(dice, size, always=dice.chance(0.4))
    ink_color = dice.color("1a1a1f 1a2666 801a1a")
    height = 0.006 * noise(dice, size, "fractal", 0.6)
    return Surface(
        color,
        height,
        alpha,
        ink,
        ink_color,
        core=base,
        gloss=0.0,
        thin=True,
        axis=place.angle,
        middle=middle,
    )


def foam(dice: Dice, size: int) -> Surface:
    """Open-pored foam or sponge."""
    fine, coarse = dice(16.0, 26.0), dice(7.0, 12.0)
    small, large = noise(dice, size, "bubbles", fine), noise(dice, size, "bubbles", coarse)
    mask = noise(dice, size, "soft", 5.0) > dice(0.2, 1.2)
    pore = np.maximum(smooth(1.1 - 2.2 * small) * 0.7, smooth(1.0 - 2.4 * large) * mask)
    base = dice.color("e6cc66 d9d4c7 595c66 e69999 73a6bf")
    color = flat(size, base) * spread(1.03 - 0.38 * pore + 0.04 * noise(dice, size, "fractal", 1.0))
    alpha, middle = sheet(dice, size)
    core = (base[0] * 0.45, base[1] * 0.42, base[2] * 0.38)
    return Surface(color, (-0.035 * pore).astype(np.float32), alpha, core=core, gloss=0.0, middle=middle)


def skin(dice: Dice, size: int) -> Surface:
    """Skin-like tissue: fine creases, pores, freckles, moles, veins that shine through."""
    crease = noise(dice, size, "creases", dice(26.0, 36.0), dice(16.0, 24.0), dice.angle())
    red = noise(dice, size, "fractal", 0.9)
    vein = clip01(1.0 - np.abs(noise(dice, size, "fractal", 0.45)) * 7.0)
    base = dice.color("e0ad94 bf8769 805440 5c3b2e", 0.06)
    shade = 0.97 + 0.045 * smooth(crease * 2.5) + 0.025 * noise(dice, size, "grain", 40.0)
    color = ramp(0.10 * red, base, (base[0] * 1.05, base[1] * 0.7, base[2] * 0.68)) * spread(shade)
    color = over(color, dice(0.05, 0.25) * vein, (base[0] * 0.62, base[1] * 0.68, base[2] * 0.82))
    if dice.chance(0.6):
        freckle = (
            dice(0.6, 1.2)
            * smooth((0.2 - noise(dice, size, "bubbles", dice(8.0, 13.0))) * 9.0)
            * (noise(dice, size, "soft", 4.0) > 0.7)
        )
        color = over(color, 0.45 * freckle, (base[0] * 0.6, base[1] * 0.45, base[2] * 0.38))
    if dice.chance(0.5):
        mole = smooth((0.16 - noise(dice, size, "bubbles", dice(2.5, 5.0))) * 14.0)
        color = over(color, dice(0.4, 0.8) * mole, (base[0] * 0.5, base[1] * 0.36, base[2] * 0.3))
    height = 0.004 * smooth(crease * 2.0) + 0.02 * noise(dice, size, "fractal", 0.5)
    core = (0.55, 0.12, 0.1)
    return Surface(color, height, core=core, gloss=dice(0.05, 0.3), axis=dice.angle())


def scan(dice: Dice, size: int) -> Surface:
    """A grey tissue scan: outline, layers, folded bright structures, speckle."""
    place = view(size, dice.bell(0.5), 1.0, (dice.bell(0.15), dice.bell(0.15)))
    wobble = 0.10 * noise(dice, size, "soft", 1.2)
    radius = np.sqrt((place.u / dice(0.62, 0.8)) ** 2 + (place.v / dice(0.72, 0.92)) ** 2) + 0.6 * wobble
    body = inside(radius - 1.0, 0.06)
    rim = np.exp(-(((radius - 0.96) / 0.045) ** 2))
    folds = np.abs(noise(dice, size, "fractal", dice(0.9, 1.4)) + 0.5 * np.abs(place.u))
    matter = 0.33 + 0.22 * smooth(folds * 1.6) + 0.10 * noise(dice, size, "soft", 2.0)
    center = np.exp(-((place.u / 0.14) ** 2) - ((place.v / dice(0.25, 0.4)) ** 2))
    matter -= dice(-0.15, 0.35) * center
    speckle = 1.0 + dice(0.06, 0.2) * noise(dice, size, "grain", 42.0)
    gray = (0.03 + body * matter * (1.0 - 0.3 * rim) + dice(0.2, 0.5) * rim) * speckle
    color = spread(clip01(gray))
    return Surface(color, 0.0 * gray, core=(0.05, 0.05, 0.05), gloss=0.0, gray=True, middle=(*place.center, 0.55))
