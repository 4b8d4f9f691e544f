# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What goes wrong: each function returns a damaged copy of a surface.

``strength`` scales contrast and depth, 1 being usual; ``extent`` scales the defect's size in the picture.
"""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np

from anomalib_zsad.data.surfaces.canvas import (
    Color,
    Dice,
    Field,
    clip01,
    fill,
    flat,
    grid,
    inside,
    noise,
    over,
    smooth,
    spread,
    stroke,
    view,
)
from anomalib_zsad.data.surfaces.surface import Surface


def _spot(dice: Dice, surface: Surface) -> tuple[float, float]:
    """A point on the material."""
    x, y, r = surface.middle
    size = surface.size
    px, py = x, y
    for _ in range(24):
        px, py = min(max(x + r * dice(-0.85, 0.85), -0.88), 0.88), min(max(y + r * dice(-0.85, 0.85), -0.88), 0.88)
        if surface.alpha is None:
            break
        if surface.alpha[int((py + 1) * size / 2), int((px + 1) * size / 2)] > 0.9:
            break
    return px, py


def _reach(surface: Surface) -> float:
    """How large defects are on this thing: 1 for a surface that fills the picture."""
    return 0.45 + 0.55 * min(surface.middle[2], 1.0)


def _blob(dice: Dice, surface: Surface, radius: float, *, rough: float, soft: float, flatness: float = 1.6) -> Field:
    """Coverage of an irregular spot with the given softness (in radii)."""
    place = view(surface.size, dice.angle(), radius, _spot(dice, surface))
    squeeze = dice(1.0, flatness)
    distance = np.sqrt(place.u * place.u / squeeze + place.v * place.v * squeeze) - 1.0
    if rough:
        distance += rough * noise(dice, surface.size, "fractal", 0.45 / radius)
    return smooth(0.5 - distance / soft)


def _curve(
    dice: Dice, surface: Surface, length: float, bow: float, *, angle: float | None = None, count: int = 24
) -> Field:
    """A smooth line ``(count, 2)`` through a point of the material."""
    x, y = _spot(dice, surface)
    angle = dice.angle() if angle is None else angle
    t = np.linspace(-0.5, 0.5, count)
    sway = bow * (
        dice.bell(1.0) * (t * t * 4 - 0.5)
        + dice.bell(0.6) * np.sin(2 * math.pi * t)
        + 0.3 * dice.bell(1.0) * np.sin(5 * t)
    )
    du, dv = t * length, sway * length
    cos, sin = math.cos(angle), math.sin(angle)
    return np.stack((x + cos * du - sin * dv, y + sin * du + cos * dv), axis=1)


def _on(surface: Surface, t: Field) -> Field:
    return t if surface.alpha is None else t * surface.alpha


def _contrast(color: Color, strength: float, dice: Dice) -> Color:
    """A tone that differs from the given one: darker on bright material, brighter on dark material."""
    bright = sum(color) / 3.0
    up = bright < dice(0.3, 0.6)
    goal = 0.95 if up else 0.08
    share = min(0.55 * strength, 0.9)
    red, green, blue = (c + (goal - c) * share for c in color)
    return red, green, blue


def _mean_color(surface: Surface, t: Field) -> Color:
    weight = float(t.sum()) + 1e-6
    mean = np.tensordot(t, surface.color, axes=([0, 1], [0, 1])) / weight
    return float(mean[0]), float(mean[1]), float(mean[2])


def scratch(dice: Dice, surface: Surface, strength: float, extent: float) -> Surface:
    """One or a few fine, nearly straight grooves across the grain."""
    reach = _reach(surface) * extent
    angle = surface.axis + math.pi / 2 + dice.bell(1.1)
    first = _curve(dice, surface, dice(0.45, 1.1) * reach, dice(0.02, 0.2), angle=angle)
    lines = [first]
    for _ in range(dice.below(3) if dice.chance(0.4) else 0):
        shift = np.array((dice.bell(0.18), dice.bell(0.18)))
        lines.append(first[dice.below(8) : 24 - dice.below(8)] + shift)
    width = dice(0.014, 0.026)
    groove = _on(surface, stroke(surface.size, lines, [width * dice(0.6, 1.0) for _ in lines]))
    fade = clip01(0.75 + 0.3 * noise(dice, surface.size, "soft", 2.5))
    groove *= fade
    tone = _contrast(_mean_color(surface, groove), 0.9 * strength, dice)
    color = over(surface.color, clip01(0.75 * strength * groove), tone)
    ink = None if surface.ink is None else surface.ink * (1.0 - 0.8 * groove)
    return replace(surface, color=color, height=surface.height - 0.010 * strength * groove, ink=ink)


def crack(dice: Dice, surface: Surface, strength: float, extent: float) -> Surface:
    """A jagged dark line that branches and thins out."""
    reach = _reach(surface) * extent
    start, angle = _spot(dice, surface), dice.angle()
    lines: list[Field] = []
    widths: list[float] = []

    def grow(x: float, y: float, heading: float, steps: int, width: float, depth: int) -> None:
        points = [(x, y)]
        for k in range(steps):
            heading += dice.bell(0.85)
            stride = dice(0.025, 0.06) * reach * 1.4
            x, y = x + stride * math.cos(heading), y + stride * math.sin(heading)
            points.append((x, y))
            if depth < 2 and dice.chance(0.14):
                grow(
                    x,
                    y,
                    heading + dice.pick((-1, 1)) * dice(0.5, 1.0),
                    max(int((steps - k) * dice(0.4, 0.7)), 2),
                    0.7 * width,
                    depth + 1,
                )
        half = max(len(points) // 2, 1)
        lines.extend(
            (np.array(points[: half + 1]), np.array(points[half:])) if len(points) > 3 else (np.array(points),)
        )
        widths.extend((width, 0.65 * width) if len(points) > 3 else (width,))

    width = dice(0.016, 0.028)
    grow(*start, angle, 6 + dice.below(7), width, 0)
    grow(*start, angle + math.pi + dice.bell(0.5), 4 + dice.below(6), width, 0)
    gap = _on(surface, stroke(surface.size, lines, widths))
    mean = _mean_color(surface, gap)
    bright = sum(mean) < 0.45
    dark = (mean[0] * 0.25, mean[1] * 0.23, mean[2] * 0.22)
    tone = (mean[0] + 0.3, mean[1] + 0.3, mean[2] + 0.3) if bright else dark
    color = over(surface.color, clip01(0.8 * strength * gap), tone)
    ink = None if surface.ink is None else surface.ink * (1.0 - 0.8 * gap)
    return replace(surface, color=color, height=surface.height - 0.012 * strength * gap, ink=ink)


def hole(dice: Dice, surface: Surface, strength: float, extent: float) -> Surface:
    """A pit or a puncture: dark inside, one lit wall, a frayed edge."""
    radius = dice(0.07, 0.13) * _reach(surface) * extent
    deep = _on(surface, _blob(dice, surface, radius, rough=dice(0.05, 0.22), soft=0.35))
    rim = cv2.GaussianBlur(deep, (0, 0), 0.012 * surface.size)
    mean = _mean_color(surface, deep)
    share = min(0.8 * strength, 0.95)
    dark = (
        (mean[0] * 0.3, mean[1] * 0.27, mean[2] * 0.25)
        if sum(mean) > 0.5
        else (mean[0] + 0.25, mean[1] + 0.24, mean[2] + 0.22)
    )
    color = over(surface.color, share * deep, dark)
    alpha = surface.alpha
    if surface.thin and dice.chance(0.6):
        alpha = (np.ones_like(deep) if alpha is None else alpha) * (1.0 - share * smooth(deep * 2.0 - 0.8))
    ink = None if surface.ink is None else surface.ink * (1.0 - deep)
    return replace(surface, color=color, height=surface.height - 0.06 * radius / 0.1 * rim, alpha=alpha, ink=ink)


STAINS: tuple[Color, ...] = (
    (0.35, 0.2, 0.08),
    (0.12, 0.1, 0.09),
    (0.1, 0.15, 0.4),
    (0.5, 0.1, 0.1),
    (0.15, 0.35, 0.2),
    (0.75, 0.65, 0.2),
    (0.92, 0.9, 0.86),
)


def stain(dice: Dice, surface: Surface, strength: float, extent: float) -> Surface:
    """A liquid has dried: tinted, irregular, often with a darker rim and a few splashes."""
    radius = dice(0.16, 0.32) * _reach(surface) * extent
    soft = dice(0.15, 0.5)
    body = _blob(dice, surface, radius, rough=dice(0.12, 0.3), soft=soft)
    ring = body * (1.0 - body) * 4.0
    mean = _mean_color(surface, body)
    paint = dice.tint(dice.pick(STAINS), 0.2)
    if sum(abs(a - b) for a, b in zip(paint, mean, strict=True)) < 0.5:
        paint = (0.9, 0.88, 0.84) if sum(mean) < 1.2 else (0.25, 0.15, 0.07)
    amount = dice(0.3, 0.5) * strength
    cover = _on(surface, clip01(amount * (body + dice(0.0, 0.5) * ring)))
    color = over(surface.color, cover * (0.85 + 0.12 * noise(dice, surface.size, "fractal", 1.2)), paint)
    return replace(surface, color=color)


def dent(dice: Dice, surface: Surface, strength: float, extent: float) -> Surface:
    """The material is pressed in: smooth shading, no change of colour."""
    return _press(dice, surface, -strength, extent)


def swelling(dice: Dice, surface: Surface, strength: float, extent: float) -> Surface:
    """The material is raised: a bump, blister or growth, slightly paler."""
    return _press(dice, surface, strength, extent)


def _press(dice: Dice, surface: Surface, strength: float, extent: float) -> Surface:
    radius = dice(0.15, 0.28) * _reach(surface) * extent
    body = _on(surface, _blob(dice, surface, radius, rough=dice(0.0, 0.15), soft=dice(0.9, 1.5), flatness=2.2))
    # Pressed-in material gets less light, raised material a little more.
    shade = 1.0 + (0.16 if strength > 0 else 0.14) * strength * body
    height = surface.height + (0.42 * radius * strength) * body
    return replace(surface, color=surface.color * spread(shade), height=height)


def cut(dice: Dice, surface: Surface, strength: float, extent: float) -> Surface:
    """A straight slit, widest in its middle, with one lip raised."""
    reach = _reach(surface) * extent
    place = view(surface.size, dice.angle(), 1.0, _spot(dice, surface))
    half, wide = dice(0.18, 0.4) * reach, dice(0.018, 0.04)
    bow = dice.bell(0.25) / half
    v = place.v - bow * place.u * place.u
    opening = wide * np.maximum(1.0 - (place.u / half) ** 2, 0.0)
    along = np.abs(place.u) < half
    gap = _on(surface, inside(np.abs(v) - opening, max(0.02, 3.0 / surface.size)) * along)
    lip = _on(surface, np.exp(-(((v - opening - 0.02) / 0.03) ** 2)) * along * (opening / wide))
    mean = _mean_color(surface, gap)
    inner = surface.core if dice.chance(0.35) else (mean[0] * 0.22, mean[1] * 0.2, mean[2] * 0.2)
    if sum(abs(a - b) for a, b in zip(inner, mean, strict=True)) < 0.4:
        inner = (
            (mean[0] + 0.35, mean[1] + 0.33, mean[2] + 0.3)
            if sum(mean) < 0.8
            else (mean[0] * 0.25, mean[1] * 0.22, mean[2] * 0.2)
        )
    color = over(surface.color, clip01(0.85 * strength * gap), inner)
    color *= spread(1.0 + 0.16 * strength * lip)
    ink = None if surface.ink is None else surface.ink * (1.0 - gap)
    height = surface.height + 0.02 * strength * lip - 0.012 * gap
    return replace(surface, color=color.astype(np.float32), height=height.astype(np.float32), ink=ink)


def contamination(dice: Dice, surface: Surface, strength: float, extent: float) -> Surface:
    """Foreign crumbs or flakes lie on it, with a small shadow."""
    reach = _reach(surface)
    x, y = _spot(dice, surface)
    count = 1 + dice.below(7)
    far = dice(0.08, 0.3) * reach * extent
    r = dice(0.035, 0.075) * reach * extent * (1.4 if count < 3 else 1.0)
    shapes = []
    for _ in range(count):
        cx, cy, corners = x + dice.bell(far), y + dice.bell(far), 5 + dice.below(4)
        t = (np.arange(corners) + dice.array(corners) * 0.8) * (2 * math.pi / corners)
        radius = r * dice(0.4, 1.0) * (0.6 + 0.6 * dice.array(corners))
        shapes.append(np.stack((cx + radius * np.cos(t), cy + radius * np.sin(t)), axis=1))
    bits = fill(surface.size, shapes)
    bits = _on(surface, cv2.GaussianBlur(bits, (0, 0), 0.006 * surface.size))
    mean = _mean_color(surface, bits)
    paint = dice.color("1a1714 d9d4c7 734c26 99261f 334c8c 4c7333", 0.2)
    if sum(abs(a - b) for a, b in zip(paint, mean, strict=True)) < 0.5:
        paint = (0.85, 0.83, 0.78) if sum(mean) < 1.4 else (0.15, 0.12, 0.1)
    texture = flat(surface.size, paint) * spread(1.0 + 0.12 * noise(dice, surface.size, "fractal", 2.0))
    color = over(surface.color, clip01(0.85 * strength * bits), texture)
    ink = None if surface.ink is None else surface.ink * (1.0 - bits)
    return replace(surface, color=color, height=surface.height + 0.025 * bits, ink=ink)


def missing_part(dice: Dice, surface: Surface, strength: float, extent: float) -> Surface:
    """Something has broken off or was never mounted."""
    size = surface.size
    x, y, r = (
        dice.pick(surface.parts)
        if surface.parts
        else (*_spot(dice, surface), dice(0.1, 0.18) * _reach(surface) * extent)
    )
    if abs(x) > 0.95 or abs(y) > 0.95:
        x, y = min(max(x, -0.85), 0.85), min(max(y, -0.85), 0.85)
    place = view(size, dice.angle(), r * (dice(0.95, 1.2) if surface.parts else 1.0), (x, y))
    corners = 4 + dice.below(4)
    theta = np.arctan2(place.v, place.u)
    sector = 2 * math.pi / corners
    local = theta - np.round(theta / sector) * sector
    radius = np.sqrt(place.u * place.u + place.v * place.v) * (0.85 + 0.15 * np.cos(local)) / np.cos(0.6 * local)
    rough = 0.10 * noise(dice, size, "fractal", 1.0 / r if r < 0.3 else 3.0)
    gone = inside(radius - 1.0 + rough, max(4.0 / (size * r), 0.12))
    edge = cv2.GaussianBlur(gone, (0, 0), 0.012 * size)
    if surface.inlay or surface.alpha is None or not surface.parts:
        # Below lies the core: a bed that is lower and rough.
        gone = _on(surface, gone)
        mean, core = _mean_color(surface, gone), surface.core
        if sum(abs(a - b) for a, b in zip(core, mean, strict=True)) < 0.3:
            core = (
                (mean[0] * 0.6, mean[1] * 0.57, mean[2] * 0.55)
                if sum(mean) > 0.7
                else (mean[0] + 0.22, mean[1] + 0.2, mean[2] + 0.18)
            )
        bed = flat(size, core) * spread(1.0 + 0.07 * noise(dice, size, "fractal", 2.0))
        height = surface.height * (1.0 - 0.9 * gone) - 0.02 * strength * edge
        ink = None if surface.ink is None else surface.ink * (1.0 - gone)
        return replace(surface, color=over(surface.color, clip01(0.95 * strength * gone), bed), height=height, ink=ink)
    alpha = surface.alpha * (1.0 - gone)
    color = over(surface.color, clip01(edge * 1.2), surface.core)
    return replace(surface, color=color, alpha=alpha, height=surface.height - 0.02 * edge)


def thread(dice: Dice, surface: Surface, strength: float, extent: float) -> Surface:
    """A loose thread or hair lies on it in a curl."""
    reach = _reach(surface) * extent
    x, y = _spot(dice, surface)
    heading, turn = dice.angle(), dice.bell(5.0)
    steps = 40
    length = dice(0.5, 1.1) * reach
    t = np.linspace(0.0, 1.0, steps)
    bend = heading + turn * (t - 0.5) + dice(0.3, 1.4) * np.sin(2 * math.pi * (dice(0.6, 1.6) * t + dice()))
    points = np.stack((np.cumsum(np.cos(bend)), np.cumsum(np.sin(bend))), axis=1) * (length / steps)
    points += np.array((x, y)) - points[steps // 2]
    width = dice(0.016, 0.028)
    hair = _on(surface, stroke(surface.size, [points], width))
    shadow = _on(surface, stroke(surface.size, [points + 0.02], 1.3 * width))
    shadow = cv2.GaussianBlur(shadow, (0, 0), 0.006 * surface.size)
    mean = _mean_color(surface, hair)
    paint = dice.color("e6e0d6 1a1714 b2261f 334c99 bfa64c", 0.15)
    if sum(abs(a - b) for a, b in zip(paint, mean, strict=True)) < 0.6:
        paint = (0.92, 0.9, 0.86) if sum(mean) < 1.4 else (0.1, 0.09, 0.08)
    color = surface.color * spread(1.0 - min(0.3 * strength, 0.6) * shadow)
    color = over(color, clip01(0.85 * strength * hair), paint)
    return replace(surface, color=color)


def burn(dice: Dice, surface: Surface, strength: float, extent: float) -> Surface:
    """Scorched: brown at the edge, sooty in the middle."""
    radius = dice(0.16, 0.3) * _reach(surface) * extent
    body = _on(surface, _blob(dice, surface, radius, rough=dice(0.1, 0.25), soft=dice(0.6, 1.1)))
    ash = 1.0 + 0.15 * noise(dice, surface.size, "fractal", 2.0)
    char = smooth(body * 2.2 - 1.1) * ash
    mean = _mean_color(surface, body)
    dark = sum(mean) < 0.6
    brown = (0.5, 0.44, 0.38) if dark else (min(mean[0], 0.4), min(0.62 * mean[1], 0.22), min(0.4 * mean[2], 0.1))
    soot = (0.62, 0.58, 0.54) if dark else (0.06, 0.05, 0.05)
    color = over(surface.color, clip01(0.65 * strength * body), brown)
    color = over(color, clip01(0.6 * strength * char), soot)
    ink = None if surface.ink is None else surface.ink * (1.0 - 0.7 * body)
    return replace(surface, color=color, height=surface.height - 0.01 * char, ink=ink)


def bend(dice: Dice, surface: Surface, strength: float, extent: float) -> Surface:
    """Deformed: a long part is bowed, a wire or tooth pushed aside."""
    size = surface.size
    x, y = grid(size)
    if surface.parts and (len(surface.parts) > 4 or dice.chance(0.3)):
        px, py, r = dice.pick([p for p in surface.parts if abs(p[0]) < 0.8 and abs(p[1]) < 0.8] or surface.parts)
        r = max(1.5 * r, 0.2) * extent
        near = np.exp(-((x - px) ** 2 + (y - py) ** 2) / (r * r))
        angle = dice.angle()
        push = dice(0.38, 0.55) * r * strength
        dx, dy = push * math.cos(angle) * near, push * math.sin(angle) * near
    else:
        # Bow about the axis: one end is lifted off the line.
        cx, cy, r = surface.middle
        cos, sin = math.cos(surface.axis), math.sin(surface.axis)
        along = (cos * (x - cx) + sin * (y - cy)) * dice.pick((-1, 1)) + dice(-0.1, 0.15) * r
        lift = dice(0.3, 0.45) * strength * np.maximum(along, 0.0) ** 2 / max(r, 0.3) * dice.pick((-1, 1))
        dx, dy = -sin * lift, cos * lift
    map_x = ((x - dx + 1.0) * (size / 2) - 0.5).astype(np.float32)
    map_y = ((y - dy + 1.0) * (size / 2) - 0.5).astype(np.float32)

    def warp(field: Field) -> Field:
        return cv2.remap(field, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    return replace(
        surface,
        color=warp(surface.color),
        height=warp(surface.height),
        alpha=None if surface.alpha is None else warp(surface.alpha),
        ink=None if surface.ink is None else warp(surface.ink),
    )


def print_fault(dice: Dice, surface: Surface, strength: float, extent: float) -> Surface:
    """The print is smeared, doubled, blotted or partly not there."""
    size, ink = surface.size, surface.ink
    if ink is None:
        msg = "A surface without print can have no print fault."
        raise ValueError(msg)
    rows, columns = np.nonzero(ink > 0.5)
    if len(rows):
        k = dice.below(len(rows))
        x, y = 2.0 * (columns[k] + 0.5) / size - 1.0, 2.0 * (rows[k] + 0.5) / size - 1.0
    else:
        x, y = surface.middle[:2]
    place = view(size, dice.angle(), dice(0.2, 0.34) * _reach(surface) * extent, (x, y))
    spot = smooth(1.6 - np.sqrt(place.u * place.u + place.v * place.v) - 0.25 * noise(dice, size, "fractal", 1.5))
    kind = dice.below(4)
    if kind == 0:  # not printed
        faulty = ink * (1.0 - min(strength, 1.2) * 0.83 * spot)
    elif kind == 1:  # doubled
        shift = dice(0.04, 0.07) * size / 2
        angle = dice.angle()
        matrix = np.array([[1.0, 0.0, shift * math.cos(angle)], [0.0, 1.0, shift * math.sin(angle)]])
        ghost = cv2.warpAffine(ink, matrix, (size, size))
        faulty = np.maximum(ink, min(0.75 * strength, 1.0) * ghost * spot)
    elif kind == 2:  # smeared
        length = max(round(dice(0.08, 0.14) * size), 3)
        kernel: Field = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1.0 / length
        turned = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), math.degrees(dice.angle()), 1.0)
        kernel = cv2.warpAffine(kernel, turned, (length, length))
        smear = cv2.filter2D(ink, cv2.CV_32F, kernel) / max(float(kernel.sum()), 1e-6)
        faulty = ink + (np.minimum(1.7 * smear, 0.9) - ink) * min(strength, 1.0) * spot
    else:  # blotted: ink where none belongs
        blot = smooth((spot - 0.55) * 4.0) * (0.6 + 0.2 * noise(dice, size, "fractal", 1.5))
        faulty = np.maximum(ink, clip01(0.9 * strength * blot))
    return replace(surface, ink=_on(surface, clip01(faulty)))


def discoloration(dice: Dice, surface: Surface, strength: float, extent: float) -> Surface:
    """The colour has faded, yellowed or rusted in a region with soft edges."""
    radius = dice(0.22, 0.4) * _reach(surface) * extent
    body = _on(surface, _blob(dice, surface, radius, rough=dice(0.1, 0.35), soft=dice(0.6, 1.2), flatness=2.2))
    mean = _mean_color(surface, body)
    gray = sum(mean) / 3.0
    goals: tuple[Color, ...] = (
        (0.6 * gray + 0.36, 0.6 * gray + 0.35, 0.6 * gray + 0.33),  # faded
        (gray * 1.15 + 0.1, gray * 0.95 + 0.04, gray * 0.45),  # yellowed
        (gray * 0.9 + 0.2, gray * 0.55 + 0.08, gray * 0.3),  # rusty
        (gray * 0.6, gray * 0.75 + 0.06, gray * 0.55),  # greenish
        (gray * 0.55, gray * 0.52, gray * 0.52),  # darkened
    )
    goal = dice.pick(goals)
    if sum(abs(a - b) for a, b in zip(goal, mean, strict=True)) < 0.35:
        goal = goals[4] if gray > 0.45 else goals[0]
    shift = flat(surface.size, (goal[0] - mean[0], goal[1] - mean[1], goal[2] - mean[2]))
    return replace(surface, color=surface.color + shift * spread(0.6 * strength * body))
