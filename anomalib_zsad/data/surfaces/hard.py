# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Hard and made surfaces: each function draws one flawless sample of its material.

Everything that a normal sample may show is drawn here: joints, pores, veins, ribs, print, borders, reflections.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from anomalib_zsad.data.surfaces.canvas import (
    Dice,
    box,
    circle,
    clip01,
    flat,
    inside,
    noise,
    over,
    palette,
    ramp,
    scaled,
    smooth,
    spread,
    view,
    wave,
)
from anomalib_zsad.data.surfaces.specimen import imprint, lying
from anomalib_zsad.data.surfaces.surface import Surface, sheet


def brushed_metal(dice: Dice, size: int) -> Surface:
    """Ground or brushed plate: fine lines one way, broad reflections, curved or straight edges."""
    angle = lying(dice, 0.06)
    place = view(size, angle, 1.0, (dice.bell(0.2), dice.bell(0.2)))
    lines = noise(dice, size, "grain", 1.2, 48.0, angle) + 0.6 * noise(dice, size, "grain", 3.0, 70.0, angle)
    broad = noise(dice, size, "soft", 0.5, 3.5, angle)
    base = dice.color("8c8f94 4c4c4f b2ada8 a88c61", 0.12)
    shade = 1.0 + dice(0.05, 0.11) * lines + dice(0.03, 0.1) * broad + 0.03 * noise(dice, size, "fractal", 0.6)
    shade += dice(0.0, 0.5) * np.exp(-(((place.v - dice.bell(0.8)) / dice(0.15, 0.5)) ** 2))
    color = flat(size, base) * spread(shade)
    height = 0.002 * lines
    if dice.chance(0.25):  # a drilled and countersunk hole belongs to the plate
        cx, cy = dice.bell(0.8), dice.bell(0.8)
        d = circle(place.u - cx, place.v - cy, dice(0.1, 0.18))
        color = over(color, inside(d, 3.0 / size), (0.05, 0.05, 0.05))
        height -= 0.06 * smooth(-(d - 0.06) * 16.0)
    alpha, middle = sheet(dice, size)
    core = scaled(base, 1.35)
    return Surface(color, height, alpha, core=core, gloss=dice(0.3, 0.9), axis=angle, middle=middle)


def tile(dice: Dice, size: int) -> Surface:
    """Glazed tiles with joints and a printed figure."""
    count = dice.pick((0.5, 0.9, 1.4))
    place = view(size, dice.bell(0.25), 1.0, (dice(-1, 1), dice(-1, 1)))
    a, b = place.u * count, place.v * count
    joint_distance = np.minimum(wave(a), wave(b)) * (0.5 / count) - dice(0.02, 0.035)
    joint = inside(joint_distance, 3.0 / size)
    column, row = np.round(a - 0.5), np.round(b - 0.5)
    vary = np.sin(column * 12.9 + row * 78.2)
    glaze = noise(dice, size, "fractal", dice(0.4, 1.2))
    base = dice.color("d9d6cc 598099 b89980 4c6b5c 99999e")
    color = flat(size, base) * spread(1.0 + 0.05 * vary + 0.06 * glaze)
    if dice.chance(0.45):
        fu, fv = wave(a), wave(b)
        figure = inside(np.abs(circle(fu - 1.0, fv - 1.0, dice(0.4, 0.75))) - 0.07, 0.05)
        figure = np.maximum(figure, inside(np.abs(fu - fv) - 0.08, 0.05) * inside(-circle(fu - 1, fv - 1, 0.8), 0.05))
        color = over(color, 0.8 * figure, dice.tint((0.25, 0.35, 0.55), 0.4))
    grout = dice.color("73706b bfbab2 403d3d", 0.15)
    color = over(color, joint, flat(size, grout) * spread(1.0 + 0.06 * noise(dice, size, "grain", 40.0)))
    height = 0.05 * smooth(joint_distance * 25.0)
    return Surface(color, height, core=(0.72, 0.5, 0.38), gloss=dice(0.4, 1.0), axis=place.angle)


def concrete(dice: Dice, size: int) -> Surface:
    """Cast concrete: clouds, sand, small pores, at times a formwork line."""
    cloud = noise(dice, size, "fractal", dice(0.7, 1.3))
    sand = noise(dice, size, "grain", 48.0)
    pores = smooth((0.22 - noise(dice, size, "bubbles", dice(9.0, 14.0))) * 7.0) * (
        noise(dice, size, "soft", 4.0) > 0.5
    )
    base = dice.color("9e9c94 80807d b2a899")
    height = -0.03 * pores + 0.012 * cloud + 0.004 * sand
    shade = 1.0 + 0.10 * cloud + 0.055 * sand - 0.4 * pores
    place = view(size, lying(dice), 1.0, (dice.bell(0.8), dice.bell(0.8)))
    if dice.chance(0.4):
        shade += 0.07 * dice.bell(1.5) * inside(place.v, 2.0 / size)
        shade -= 0.3 * inside(np.abs(place.v) - 0.012, 3.0 / size)
        height -= 0.02 * np.exp(-((place.v / 0.025) ** 2))
    color = flat(size, base) * spread(shade)
    alpha, middle = sheet(dice, size)
    core = (base[0] * 0.75, base[1] * 0.72, base[2] * 0.66)
    return Surface(color, height, alpha, core=core, gloss=0.0, axis=place.angle, middle=middle)


def marble(dice: Dice, size: int) -> Surface:
    """Polished stone with clouds and veins."""
    angle = dice.angle()
    bend = 0.6 * noise(dice, size, "fractal", 0.6)
    first = 1.0 - np.abs(noise(dice, size, "fractal", dice(0.5, 0.9), None, angle) + 0.3 * bend) * dice(3.0, 6.0)
    second = 1.0 - np.abs(noise(dice, size, "fractal", dice(0.8, 1.6), None, angle)) * dice(6.0, 12.0)
    vein = clip01(first) * dice(0.4, 0.8) + clip01(second) * dice(0.1, 0.4)
    white = dice.chance(0.6)
    base = dice.tint((0.88, 0.87, 0.85) if white else dice.pick(palette("292b2b 334c40 8c6657")), 0.06)
    vein_color = dice.tint((0.45, 0.45, 0.47) if white else (0.8, 0.77, 0.7), 0.15)
    color = over(flat(size, base) * spread(1.0 + 0.05 * noise(dice, size, "fractal", 1.0)), clip01(vein), vein_color)
    alpha, middle = sheet(dice, size)
    height = 0.001 * noise(dice, size, "fractal", 1.0)
    core = (base[0] * 0.7 + 0.15, base[1] * 0.7 + 0.15, base[2] * 0.7 + 0.14)
    return Surface(color, height, alpha, core=core, gloss=dice(0.5, 1.0), axis=angle, middle=middle)


def brick(dice: Dice, size: int) -> Surface:
    """A wall of bricks in running bond."""
    place = view(size, dice.bell(0.1), 1.0, (dice(-1, 1), dice(-1, 1)))
    rows = dice(1.6, 2.6)
    wobble = 0.02 * noise(dice, size, "fractal", 1.5)
    b = place.v * rows + wobble
    row = np.floor(b)
    a = place.u * rows * 0.45 + 0.5 * (row - 2.0 * np.floor(row / 2.0)) + 0.4 * wobble
    column = np.floor(a)
    distance = np.minimum(wave(a) * (0.5 / (rows * 0.45)), wave(b) * (0.5 / rows)) - dice(0.025, 0.045)
    mortar = inside(distance, 0.02)
    vary = np.sin(column * 37.7 + row * 17.3) + 0.5 * np.sin(column * 5.1 - row * 91.7)
    stone = noise(dice, size, "fractal", 1.6) + 0.7 * noise(dice, size, "grain", 40.0)
    base = dice.color("9e4c38 b27a54 734038 bfb29e")
    color = flat(size, base) * spread(1.0 + 0.13 * vary + 0.08 * stone)
    grout = flat(size, dice.tint((0.66, 0.63, 0.58), 0.15)) * spread(1.0 + 0.08 * noise(dice, size, "grain", 50.0))
    height = 0.045 * smooth(distance * 20.0) + 0.006 * stone
    core = (base[0] * 0.75, base[1] * 0.7, base[2] * 0.65)
    return Surface(over(color, mortar, grout), height, core=core, gloss=0.0, axis=place.angle)


def mesh(dice: Dice, size: int) -> Surface:
    """Wire mesh, square or diamond, with the background seen through it."""
    place = view(size, dice.bell(0.2) + dice.pick((0.0, math.pi / 4)), 1.0, (dice.bell(0.2), dice.bell(0.2)))
    count, width = dice(2.6, 4.5), dice(0.16, 0.26)
    a, b = wave(place.u * count), wave(place.v * count)
    wire_a, wire_b = (a / width) ** 2, (b / width) ** 2
    round_a, round_b = np.sqrt(clip01(1.0 - wire_a)), np.sqrt(clip01(1.0 - wire_b))
    lift = np.cos(math.pi * np.floor(place.u * count + 0.5)) * np.cos(math.pi * place.v * count)
    height = (0.4 * width / count) * np.maximum(round_a * (1.0 + 0.25 * lift), round_b * (1.0 - 0.25 * lift))
    edge = np.minimum(a, b) - width
    base = dice.color("9ea1a6 595c61 998059 4c7359", 0.1)
    color = flat(size, base) * spread(1.0 + 0.05 * noise(dice, size, "fractal", 2.0))
    alpha = inside(edge, 4.0 * count / size)
    outline, middle = sheet(dice, size)
    if outline is not None and dice.chance(0.5):
        alpha *= outline
    parts = tuple((*place.out(i / count, j / count), 0.5 / count) for i in range(-2, 3) for j in range(-2, 3))
    return Surface(
        color, height, alpha, core=base, gloss=dice(0.3, 0.9), thin=True, axis=place.angle, middle=middle, parts=parts
    )


def plastic(dice: Dice, size: int) -> Surface:
    """A moulded cover: smooth or finely grained, with ribs, a boss or a printed code."""
    place = view(size, lying(dice, 0.2), 1.0, (dice.bell(0.3), dice.bell(0.3)))
    base = dice.color("d9d9d4 bf3326 264c99 1f1f21 e6b226 408c59")
    grain = noise(dice, size, "grain", 45.0) if dice.chance(0.5) else noise(dice, size, "fractal", 1.0)
    color = flat(size, base) * spread(1.0 + 0.03 * grain + 0.03 * noise(dice, size, "fractal", 0.5))
    height = 0.003 * grain
    for _ in range(1 + dice.below(2)):
        shape = dice.below(3)
        if shape == 0:
            height += 0.035 * smooth((wave(place.u * dice(1.2, 3.0)) - 0.3) * 5.0)
        elif shape == 1:
            d = np.abs(box(place.u - dice.bell(0.5), place.v - dice.bell(0.5), dice(0.3, 0.8), dice(0.2, 0.6), 0.12))
            height += 0.03 * smooth((0.05 - d) * 25.0)
        else:
            d = circle(place.u - dice.bell(0.8), place.v - dice.bell(0.8), dice(0.12, 0.3))
            height = height + 0.05 * smooth(-d * 14.0) - 0.05 * smooth(-(d + 0.08) * 14.0)
    ink_color = (0.95, 0.95, 0.93) if sum(base) < 1.5 else (0.12, 0.12, 0.14)
    ink = 0.9 * imprint(dice, size)
    alpha, middle = sheet(dice, size)
    core = scaled(base, 0.6, 0.3)
    return Surface(
        color, height, alpha, ink, ink_color, core=core, gloss=dice(0.3, 1.0), axis=place.angle, middle=middle
    )


def rubber(dice: Dice, size: int) -> Surface:
    """Dark mats and treads: studs, ribs or diamonds."""
    place = view(size, lying(dice, 0.3), 1.0, (dice(-1, 1), dice(-1, 1)))
    count = dice(1.6, 3.2)
    a, b = wave(place.u * count), wave(place.v * count)
    shape = dice.below(4)
    if shape == 0:
        relief = smooth((0.55 - circle(a - 1.0, b - 1.0, 0.0)) * 5.0)
    elif shape == 1:
        relief = smooth((wave(place.u * count * 1.6) - 0.35) * 4.0)
    elif shape == 2:
        zigzag = wave(place.v * count * 0.9)
        relief = smooth((wave(place.u * count + 0.7 * zigzag) - 0.4) * 4.0)
    else:
        relief = smooth((a + b - 0.9) * 3.5)
    base = dice.color("212124 333333 4c1f1a 293342", 0.15)
    dust = noise(dice, size, "fractal", 1.0)
    color = flat(size, base) * spread(1.0 + 0.09 * noise(dice, size, "grain", 45.0) + 0.12 * dust + 0.2 * relief)
    alpha, middle = sheet(dice, size)
    core = scaled(base, 0.4, 0.02)
    return Surface(color, 0.045 * relief, alpha, core=core, gloss=dice(0.1, 0.5), axis=place.angle, middle=middle)


def glass(dice: Dice, size: int) -> Surface:
    """A pane: a tinted look at blurred things, streaks of reflection, a ground edge."""
    tone = dice.color("9ebdbd 809e8f b8c2cc 8c734c", 0.12)
    behind = noise(dice, size, "soft", dice(0.6, 1.2))
    color = ramp(0.5 + 0.22 * behind, (tone[0] * 0.55, tone[1] * 0.58, tone[2] * 0.6), tone)
    place = view(size, dice.pick((0.6, -0.6, 0.8)) + dice.bell(0.3), 1.0, (dice.bell(0.8), dice.bell(0.8)))
    for _ in range(1 + dice.below(3)):
        band = inside(np.abs(place.u - dice.bell(1.4)) - dice(0.02, 0.22), dice(0.02, 0.12))
        color += spread(dice(0.05, 0.22) * band * (1.0 + 0.3 * place.v))
    height = 0.002 * behind
    alpha, middle = sheet(dice, size, always=dice.chance(0.6))
    if alpha is not None:
        bevel = np.clip(1.6 - 1.6 * cv2.GaussianBlur(alpha, (0, 0), 0.02 * size), 0.0, 1.0)
        color = over(color, 0.5 * bevel, (tone[0] * 0.4 + 0.5, tone[1] * 0.4 + 0.55, tone[2] * 0.4 + 0.52))
        height -= 0.03 * bevel
    core = (min(tone[0] + 0.3, 1.0), min(tone[1] + 0.3, 1.0), min(tone[2] + 0.3, 1.0))
    return Surface(color, height, alpha, core=core, gloss=1.0, thin=False, axis=place.angle, middle=middle)
