# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Electric parts before a background: each function draws one flawless specimen."""

from __future__ import annotations

import math

import numpy as np

from anomalib_zsad.data.surfaces.canvas import (
    Dice,
    Field,
    View,
    box,
    circle,
    clip01,
    flat,
    inside,
    lettering,
    noise,
    over,
    palette,
    scaled,
    smooth,
    spread,
    stroke,
    view,
    wave,
)
from anomalib_zsad.data.surfaces.specimen import code, cover, middle_of, put
from anomalib_zsad.data.surfaces.surface import Surface


def circuit_board(dice: Dice, size: int) -> Surface:
    """Solder resist over copper traces and pads, soldered parts, white print."""
    turn = dice.pick((0.0, math.pi / 2)) + dice.bell(0.2)
    scale = dice(0.8, 1.15)
    place = view(size, turn, scale, (dice.bell(0.1), dice.bell(0.1)))
    base = dice.color("145c33 145c33 143373 731a1a 1a1a1c", 0.1)
    color = flat(size, base) * spread(1.0 + 0.04 * noise(dice, size, "fractal", 1.2))
    step = 0.11

    def to_picture(points: list[tuple[float, float]]) -> Field:
        return np.array([place.out(a, b) for a, b in points], np.float32)

    traces, pads = [], []
    for _ in range(9 + dice.below(6)):
        a, b = (dice.below(17) - 8) * step, (dice.below(17) - 8) * step
        heading = dice.below(4) * 2
        points = [(a, b)]
        for _ in range(2 + dice.below(3)):
            run = (2 + dice.below(5)) * step
            a = min(max(a + run * round(math.cos(heading * math.pi / 4)), -0.9), 0.9)
            b = min(max(b + run * round(math.sin(heading * math.pi / 4)), -0.9), 0.9)
            points.append((a, b))
            heading += dice.pick((-1, 1, 2))
        traces.append(to_picture(points))
        pads += [points[0], points[-1]]
    copper = stroke(size, traces, 0.032 * scale)
    color = over(color, 0.75 * copper, (base[0] * 1.25 + 0.14, base[1] * 1.15 + 0.16, base[2] * 1.1 + 0.06))
    height = 0.006 * copper
    bright = dice.pick(palette("d1d4d6 d9b259"))
    round_pads, holes = np.zeros_like(copper), np.zeros_like(copper)
    for a, b in pads:
        d = circle(place.u - a, place.v - b, 0.045)
        round_pads = np.maximum(round_pads, inside(d, 0.03))
        holes = np.maximum(holes, inside(d + 0.026, 0.02))
    color = over(over(color, round_pads, bright), holes, (0.04, 0.04, 0.04))
    parts: list[tuple[float, float, float]] = []
    ink = np.zeros_like(copper)
    for _ in range(3 + dice.below(3)):
        a, b, kind = dice(-0.7, 0.7), dice(-0.7, 0.7), dice.below(3)
        if any(abs(a - p) + abs(b - q) < 0.55 for p, q, _ in parts):
            continue
        w, h = ((0.24, 0.17), (0.13, 0.07), (0.11, 0.11))[kind]
        if dice.chance(0.5):
            w, h = h, w
        du, dv = place.u - a, place.v - b
        legs = box(du, dv, w + (0.06 if w >= h else 0.0), h + (0.06 if h > w else 0.0))
        comb = (wave((dv if w >= h else du) * 9.0) > 0.45) if kind == 0 else 1.0
        color = over(color, cover(legs, place, size) * comb, bright)
        body_d = np.maximum(circle(du, dv, w), -9.0) if kind == 2 else box(du, dv, w, h, 0.01)
        body = cover(body_d, place, size)
        body_color = dice.tint(((0.09, 0.09, 0.1), (0.62, 0.5, 0.35), (0.75, 0.76, 0.78))[kind], 0.2)
        color = over(color, body, body_color)
        height += 0.04 * smooth(-body_d * 25.0)
        parts.append((a, b, max(w, h) + 0.06))
        if kind == 0:
            ink = np.maximum(
                ink, lettering(dice, size, View(du, dv, turn, scale, place.out(a, b)), code(dice, 4), 0.11)
            )
        ink = np.maximum(ink, 0.9 * inside(np.abs(box(du, dv, w + 0.1, h + 0.1)) - 0.012, 0.02))
    for _ in range(2 + dice.below(3)):
        spot = View(place.u, place.v, turn, scale, place.out(dice(-0.7, 0.7), dice(-0.8, 0.8)))
        ink = np.maximum(ink, lettering(dice, size, spot, dice.pick("RCULQ") + str(dice.below(99)), 0.13))
    alpha = cover(box(place.u, place.v, 0.97, 0.97, 0.05), place, size)
    spots = tuple((*place.out(a, b), r * scale) for a, b, r in parts)
    core = scaled(base, 0.8, 0.03)
    return Surface(
        color,
        height,
        alpha,
        ink,
        (0.9, 0.9, 0.88),
        core=core,
        gloss=dice(0.2, 0.7),
        axis=turn,
        middle=middle_of(place, 0.8),
        parts=spots,
        inlay=True,
    )


def microchip(dice: Dice, size: int) -> Surface:
    """A moulded package with bright leads on two sides and marked lettering."""
    place = put(dice, size, 0.75, 0.98, 0.1)
    u, v = place.u, place.v
    half = dice(0.36, 0.55)
    count = dice.pick((3.0, 4.0, 5.0))
    body = box(u, v, 0.85, half, 0.03)
    phase = dice.pick((0.0, 0.5))
    comb = wave(u * count + phase) - 0.55
    leads = np.maximum(np.maximum(np.abs(v) - half - 0.26, np.abs(u) - 0.8), -comb * (0.5 / count))
    distance = np.minimum(body, leads)
    base = dice.color("1c1c1f 333336 4c4745", 0.15)
    color = flat(size, (0.76, 0.76, 0.77)) * spread(
        1.0 - 0.9 * (np.abs(v) - half) + 0.03 * noise(dice, size, "fractal", 2.0)
    )
    on_body = cover(body, place, size)
    color = over(color, on_body, flat(size, base) * spread(1.0 + 0.10 * noise(dice, size, "grain", 42.0)))
    height = 0.08 * smooth(-body * 12.0) + 0.03 * smooth(-leads * 20.0) * (1.0 - on_body)
    dot = circle(u + 0.68, v + 0.6 * half, 0.07)
    height -= 0.02 * smooth(-dot * 25.0)
    color *= spread(1.0 + 0.5 * inside(dot, 0.03))
    ink = np.zeros_like(u)
    for row in (-0.35, 0.25):
        spot = View(u, v, place.angle, place.scale, place.out(dice.bell(0.1), row * half))
        ink = np.maximum(ink, lettering(dice, size, spot, code(dice, 4 + dice.below(3)), 0.22))
    pins = [(k + 0.5 - phase) / count for k in range(-4, 5)]
    parts = tuple((*place.out(p, s * (half + 0.16)), 0.15 * place.scale) for p in pins if abs(p) < 0.8 for s in (-1, 1))
    return Surface(
        color,
        height,
        cover(distance, place, size),
        0.75 * ink,
        (0.82, 0.82, 0.8),
        core=(0.35, 0.34, 0.33),
        gloss=dice(0.1, 0.5),
        axis=place.angle,
        middle=middle_of(place, 0.5),
        parts=parts,
    )


def cable(dice: Dice, size: int) -> Surface:
    """The cut face of a cable: jacket, insulated conductors, copper strands."""
    place = put(dice, size)
    radius = np.sqrt(place.u**2 + place.v**2)
    distance = radius - 0.95
    jacket = dice.color("1f1f21 ccccc7 d9731f 808085", 0.12)
    color = flat(size, jacket) * spread(1.0 + 0.05 * noise(dice, size, "fractal", 1.0))
    height = 0.05 * smooth(-distance * 12.0)
    color *= spread(1.0 - 0.25 * inside(radius - 0.78, 0.05))
    count = dice.pick((3, 3, 4))
    wires = [
        (0.45, 0.25, 0.15),
        (0.2, 0.35, 0.65),
        (0.75, 0.72, 0.15),
        (0.2, 0.5, 0.25),
        (0.75, 0.15, 0.15),
        (0.55, 0.55, 0.57),
    ]
    strand = 1.0 - noise(dice, size, "bubbles", 30.0)
    first, parts = dice.below(6), []
    for k in range(count):
        t, far = 2 * math.pi * k / count, 0.42
        a, b = far * math.cos(t), far * math.sin(t)
        d = circle(place.u - a, place.v - b, 0.36 if count == 3 else 0.29)
        color = over(color, cover(d, place, size), dice.tint(wires[(first + k) % 6], 0.1))
        bundle = cover(d + 0.11, place, size)
        color = over(color, bundle, flat(size, (0.86, 0.55, 0.36)) * spread(0.35 + 0.85 * strand))
        height = height + 0.04 * smooth(-d * 18.0) + 0.02 * bundle * strand
        parts.append((*place.out(a, b), 0.3 * place.scale))
    return Surface(
        color,
        height,
        cover(distance, place, size),
        core=(0.07, 0.07, 0.07),
        gloss=dice(0.1, 0.5),
        axis=place.angle,
        middle=middle_of(place, 0.7),
        parts=tuple(parts),
        inlay=True,
    )


def battery(dice: Dice, size: int) -> Surface:
    """A round cell from the side: printed sleeve, metal ends."""
    place = put(dice, size, 0.8, 0.98, 0.1)
    u, v = place.u, place.v
    half = dice(0.26, 0.38)
    body, cap = box(u + 0.04, v, 0.86, half, 0.04), box(u - 0.88, v, 0.08, half * 0.36, 0.03)
    distance = np.minimum(body, cap)
    round_ = np.sqrt(clip01(1.0 - (v / np.where(body < 0, half, half * 0.4).astype(np.float32)) ** 2))
    sleeve, band = (
        dice.tint(c)
        for c in (dice.pick(palette("1f1f21 264c99 33804c bf2626")), dice.pick(palette("cc8c33 bfbfc2 e6cc33")))
    )
    split = dice(0.1, 0.5)
    color = over(flat(size, sleeve), inside(split - u, 0.02), band)
    ends = np.maximum(inside(0.74 - u, 0.02), inside(u + 0.84, 0.02))
    color = over(color, ends, (0.72, 0.72, 0.73))
    color *= spread(0.42 + 0.66 * round_ + 0.02 * noise(dice, size, "fractal", 1.0))
    height = (0.6 * half * round_ * place.scale).astype(np.float32)
    spot = View(u, v, place.angle, place.scale, place.out(-0.4, 0.0))
    ink = lettering(dice, size, spot, dice.pick(("CELL", "AA", "1.5V", "POWER", "LR6")), half * 0.7, 0.16)
    plus = View(u, v, place.angle, place.scale, place.out((split + 0.74) / 2, 0.0))
    ink = np.maximum(ink, lettering(dice, size, plus, "+", half * 0.8, 0.2))
    ink *= clip01(1.0 - ends)
    return Surface(
        color,
        height,
        cover(distance, place, size),
        ink,
        (0.93, 0.93, 0.9),
        core=(0.7, 0.7, 0.71),
        gloss=dice(0.4, 1.0),
        axis=place.angle,
        middle=middle_of(place, 0.55),
        parts=((*place.out(0.9, 0.0), 0.18), (*place.out(-0.85, 0.2), 0.2)),
    )
