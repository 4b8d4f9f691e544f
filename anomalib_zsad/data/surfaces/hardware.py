# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Metal parts before a background: each function draws one flawless specimen."""

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
    scaled,
    smooth,
    spread,
    wave,
)
from anomalib_zsad.data.surfaces.specimen import METALS, code, cover, metal, middle_of, put
from anomalib_zsad.data.surfaces.surface import Surface


def metal_nut(dice: Dice, size: int) -> Surface:
    """A hexagon or flanged nut from above, threaded bore."""
    place = put(dice, size)
    u, v = place.u, place.v
    hexagon = polygon(u, v, dice(0.72, 0.82), 6)
    outer = np.maximum(hexagon, circle(u, v, 0.9))
    flange = dice.chance(0.35)
    radius = np.sqrt(u * u + v * v)
    bore = dice(0.36, 0.46)
    edge = radius - 0.98 if flange else outer
    base = dice.color(METALS, 0.12)
    color = metal(dice, size, base, place, round_=dice.chance(0.6))
    thread = smooth((radius - bore) * 14.0)
    color *= spread(0.35 + 0.65 * thread)
    ring = wave((radius + 0.02 * np.arctan2(v, u)) * 14.0)
    color *= spread(1.0 - 0.35 * ring * (1.0 - thread))
    height = 0.10 * smooth(-outer * 7.0) + 0.05 * smooth((radius - bore) * 9.0)
    if flange:
        height += 0.05 * smooth(-edge * 10.0)
    alpha = cover(np.maximum(edge, bore - 0.07 - radius), place, size)
    parts = tuple(
        (*place.out(0.8 * math.cos(k * math.pi / 3 + 0.52), 0.8 * math.sin(k * math.pi / 3 + 0.52)), 0.2)
        for k in range(6)
    )
    core = scaled(base, 1.3)
    return Surface(
        color, height, alpha, core=core, gloss=dice(0.4, 1.0), axis=place.angle, middle=middle_of(place), parts=parts
    )


def screw(dice: Dice, size: int) -> Surface:
    """A screw from the side: head, shank, thread, point."""
    place = put(dice, size, 0.85, 1.0, 0.1)
    u, v = place.u, place.v
    shank, pitch = dice(0.11, 0.16), dice(7.0, 11.0)
    tip = dice(0.6, 0.8)
    taper = clip01((0.98 - u) / (0.98 - tip))
    saw = wave(u * pitch + 0.35 * v / shank)
    threaded = smooth((u - dice(-0.45, -0.1)) * 30.0)
    outline = (shank * (0.8 + 0.32 * saw * threaded + 0.2 * (1 - threaded))) * taper
    body = np.maximum(np.abs(v) - outline, np.maximum(u - 0.98, -0.75 - u))
    head_wide = dice(0.28, 0.36)
    if dice.chance(0.5):  # countersunk
        head = np.maximum(
            np.abs(v) - (head_wide - (u + 0.95) * (head_wide - shank) / 0.25), np.maximum(u + 0.7, -0.95 - u)
        )
    else:
        head = box(u + 0.83, v, 0.13, head_wide, 0.07)
    distance = np.minimum(body, head)
    base = dice.color(METALS, 0.12)
    round_ = np.sqrt(clip01(1.0 - (v / np.maximum(np.where(head < 0, head_wide, outline), 0.02)) ** 2))
    color = metal(dice, size, base, place) * spread(0.5 + 0.6 * round_)
    thread_shade = 0.55 + 0.6 * wave(u * pitch + 0.7 * v / shank)
    on_thread = threaded * (head > 0)
    color *= spread(1.0 + on_thread * (thread_shade - 1.0))
    height = (0.10 * round_ + 0.02 * saw * on_thread) * place.scale
    parts = ((*place.out(0.85, 0.0), 0.22), (*place.out(-0.85, 0.15), 0.2), (*place.out(0.3, 0.1), 0.12))
    core = scaled(base, 1.35)
    return Surface(
        color,
        height,
        cover(distance, place, size),
        core=core,
        gloss=dice(0.3, 0.9),
        axis=place.angle,
        middle=middle_of(place, 0.8),
        parts=parts,
    )


def gear(dice: Dice, size: int) -> Surface:
    """A toothed wheel with a bore and lightening holes."""
    place = put(dice, size)
    teeth = 12 + dice.below(11)
    theta, radius = np.arctan2(place.v, place.u), np.sqrt(place.u**2 + place.v**2)
    profile = wave(theta * (teeth / (2 * math.pi)))
    root = dice(0.72, 0.8)
    distance = radius - root - (0.96 - root) * smooth((profile - 0.36) * 3.4)
    bore = dice(0.14, 0.24)
    distance = np.maximum(distance, bore - radius)
    count = dice.pick((0, 4, 5, 6))
    if count:
        sector = 2 * math.pi / count
        local = theta - np.round(theta / sector) * sector
        hole = np.sqrt((radius * np.cos(local) - 0.46) ** 2 + (radius * np.sin(local)) ** 2) - dice(0.09, 0.14)
        distance = np.maximum(distance, -hole)
    base = dice.color(METALS, 0.12)
    color = metal(dice, size, base, place, round_=dice.chance(0.7))
    rim = smooth((radius - 0.62) * 20.0)
    height = 0.05 * rim + 0.05 * smooth((bore + 0.1 - radius) * 18.0) + 0.05 * smooth(-distance * 25.0)
    reach = (root + 0.96) / 2
    parts = tuple(
        (*place.out(reach * math.cos(t), reach * math.sin(t)), 1.25 * (0.96 - root) * place.scale)
        for t in ((k + 0.5) * 2 * math.pi / teeth for k in range(teeth))
    )
    core = scaled(base, 1.3)
    return Surface(
        color,
        height,
        cover(distance, place, size),
        core=core,
        gloss=dice(0.3, 0.9),
        axis=place.angle,
        middle=middle_of(place, 0.7),
        parts=parts,
    )


def key(dice: Dice, size: int) -> Surface:
    """A door key: bow with a hole, blade with cuts and a groove."""
    place = put(dice, size, 0.85, 1.0, 0.08)
    u, v = place.u, place.v
    bow_kind = dice.below(3)
    a = u + 0.6
    bow = (circle(a, v, 0.36), polygon(a, v, 0.33, 6), box(a, v, 0.36, 0.3, 0.12))[bow_kind]
    hole = circle(u + 0.74, v, dice(0.08, 0.14))
    cuts = 0.03 * np.round(2.0 * np.sin(u * 17.0 + dice(0, 6)) + np.sin(u * 29.0))
    edge = 0.13 - smooth((u - 0.05) * 9.0) * (0.06 + cuts)
    blade = np.maximum(np.maximum(v - 0.13, -edge - v), np.maximum(u - 0.95 + np.abs(v) * 0.6, -0.4 - u))
    distance = np.maximum(np.minimum(bow, blade), -hole)
    base = dice.color(METALS, 0.12)
    color = metal(dice, size, base, place)
    groove = np.exp(-(((v - 0.05) / 0.025) ** 2)) * smooth((u + 0.2) * 12.0)
    height = 0.05 * smooth(-distance * 22.0) - 0.03 * groove
    if dice.chance(0.5):  # a recessed panel on the bow
        height -= 0.025 * smooth(-(bow + 0.08) * 30.0)
    letters = lettering(dice, size, View(u, v, place.angle, place.scale, place.out(-0.46, 0.0)), code(dice, 2), 0.16)
    height -= 0.012 * letters
    color *= spread(1.0 - 0.3 * letters)
    parts = ((*place.out(0.88, 0.0), 0.16), (*place.out(0.5, -0.08), 0.12), (*place.out(-0.9, 0.1), 0.2))
    core = scaled(base, 1.3)
    return Surface(
        color,
        height,
        cover(distance, place, size),
        core=core,
        gloss=dice(0.4, 1.0),
        axis=place.angle,
        middle=middle_of(place, 0.8),
        parts=parts,
    )


def coin(dice: Dice, size: int) -> Surface:
    """A struck coin: rim, letters around, a relief in the middle."""
    place = put(dice, size, 0.65, 0.95)
    theta, radius = np.arctan2(place.v, place.u), np.sqrt(place.u**2 + place.v**2)
    distance = radius - 0.95
    base = dice.color("b8944c a8a8a8 a86647", 0.12)
    relief = 0.03 * smooth((0.05 - np.abs(radius - 0.9)) * 35.0)
    letters = (wave(theta * dice.pick((12, 16, 20)) / (2 * math.pi)) > 0.35) * inside(
        np.abs(radius - 0.74) - 0.055, 0.04
    )
    stamp = 0.016 * letters * smooth(1.5 + noise(dice, size, "soft", 12.0))
    shape = dice.below(3)
    if shape == 0:
        stamp += 0.035 * lettering(dice, size, place, str(1 + dice.below(50)), 0.75, 0.2)
    elif shape == 1:
        head = np.minimum(circle(place.u - 0.05, place.v + 0.15, 0.26), box(place.u, place.v - 0.28, 0.3, 0.16, 0.14))
        stamp = stamp + 0.05 * smooth(-head * 9.0) + 0.008 * noise(dice, size, "soft", 9.0) * (head < 0)
    else:
        stamp += 0.035 * smooth((0.3 + 0.17 * np.cos(dice.pick((5, 6, 8)) * theta) - radius) * 12.0)
    worn = noise(dice, size, "fractal", 1.0)
    height = (relief + stamp).astype(np.float32)
    color = flat(size, base) * spread(
        1.0 + 0.08 * worn + 6.0 * (height - 0.01) + 0.04 * noise(dice, size, "grain", 40.0)
    )
    return Surface(
        color,
        height,
        cover(distance, place, size),
        core=scaled(base, 1.3),
        gloss=dice(0.3, 1.0),
        axis=place.angle,
        middle=middle_of(place, 0.7),
        parts=tuple((*place.out(0.9 * math.cos(k), 0.9 * math.sin(k)), 0.2 * place.scale) for k in range(6)),
    )


def ball_bearing(dice: Dice, size: int) -> Surface:
    """An open bearing: two rings, balls in a cage."""
    place = put(dice, size, 0.65, 0.95)
    theta, radius = np.arctan2(place.v, place.u), np.sqrt(place.u**2 + place.v**2)
    bore, race = dice(0.3, 0.4), dice(0.62, 0.68)
    distance = np.maximum(radius - 0.95, bore - radius)
    base = dice.color("9ea1a6 73757a", 0.12)
    color = metal(dice, size, base, place, round_=True)
    width = 0.13
    track = inside(np.abs(radius - race) - width, 0.03)
    color *= spread(1.0 - 0.72 * track)
    count = 8 + dice.below(4)
    sector = 2 * math.pi / count
    local = theta - np.round(theta / sector) * sector
    x, y = radius * np.cos(local) - race, radius * np.sin(local)
    ball = np.sqrt(x * x + y * y) - width * 0.95
    dome = np.sqrt(clip01(-ball / (width * 0.95) * 1.6))
    color = over(color, cover(ball, place, size), dice.tint((0.8, 0.8, 0.82), 0.06))
    if dice.chance(0.5):
        cage = inside(np.abs(radius - race) - 0.04, 0.02) * (ball > 0)
        color = over(color, cage.astype(np.float32), dice.tint((0.7, 0.55, 0.3), 0.15))
    height = 0.06 * smooth((np.abs(radius - race) - width) * 20.0) * (ball > 0) + 0.11 * dome
    height += 0.05 * smooth(-distance * 25.0)
    parts = tuple(
        (*place.out(race * math.cos(k * sector), race * math.sin(k * sector)), width * place.scale * 1.05)
        for k in range(count)
    )
    core = scaled(base, 0.24)
    return Surface(
        color,
        height,
        cover(distance, place, size),
        core=core,
        gloss=dice(0.5, 1.0),
        axis=place.angle,
        middle=middle_of(place),
        parts=parts,
        inlay=True,
    )
