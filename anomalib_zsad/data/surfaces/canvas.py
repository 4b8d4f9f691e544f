# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Drawing tools of the generated surfaces: dice, coordinates, noise, shapes, strokes.

Coordinates run from -1 to 1 across the picture, lengths are in the same unit and frequencies in cycles per picture, so
that a picture is the same scene at every size. Fields are float32 ``(S, S)``, colours float32 ``(S, S, 3)`` RGB in
``[0, 1]``.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[Any]  # float32 throughout; numpy cannot say so of every expression
Color = tuple[float, float, float]
T = TypeVar("T")

TILE = 512  # side of a noise tile in pixels; tiles wrap around
VARIANTS = 3
LEVELS = 5


class Dice:
    """Random numbers of one picture, a function of the key alone.

    Only ``Generator.random`` of a counter-based Philox stream is used: 53 random bits each, the same on every platform.

    Args:
        seed: Seed of the data set.
        stream: Which stream of that seed (split, purpose).
        index: Number of the picture.
        name: What it shows; another name is another picture.
    """

    def __init__(self, seed: int, stream: int, index: int, name: str = "") -> None:
        mask = (1 << 64) - 1
        counter = (0, 0, zlib.crc32(name.encode()), index & mask)
        bits = np.random.Philox(key=(seed & mask, stream & mask), counter=counter)
        self._random = np.random.Generator(bits).random

    def __call__(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in ``[low, high)``."""
        return low + (high - low) * self._random()

    def bell(self, spread: float) -> float:
        """A number in ``(-spread, spread)``, most often near zero."""
        return spread * (self._random() + self._random() - 1.0)

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return self._random() < probability

    def below(self, count: int) -> int:
        """A whole number in ``[0, count)``."""
        return int(self._random() * count)

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self._random() * len(options))]

    def array(self, *shape: int) -> Field:
        """Numbers in ``[0, 1)``."""
        return self._random(shape).astype(np.float32)

    def angle(self) -> float:
        """A direction in radians."""
        return 2.0 * math.pi * self._random()

    def color(self, colors: str, spread: float = 0.08) -> Color:
        """A colour near one of those that ``palette`` reads."""
        return self.tint(self.pick(palette(colors)), spread)

    def tint(self, color: Color, spread: float = 0.08) -> Color:
        """A colour near the given one: all channels together, and a little each."""
        gain = 1.0 + self.bell(2.0 * spread)
        red, green, blue = (min(max(c * gain + self.bell(0.25 * spread), 0.0), 1.0) for c in color)
        return red, green, blue


@cache
def palette(text: str) -> tuple[Color, ...]:
    """The colours written as hexadecimal RGB, such as ``"a0522d ffffff"``."""
    return tuple(tuple(int(word[k : k + 2], 16) / 255.0 for k in (0, 2, 4)) for word in text.split())  # type: ignore[misc]


class View(NamedTuple):
    """Coordinates turned by ``angle`` (radians), centred on ``center`` and divided by ``scale``."""

    u: Field
    v: Field
    angle: float
    scale: float
    center: tuple[float, float]

    def out(self, u: float, v: float) -> tuple[float, float]:
        """The picture coordinates of the point ``(u, v)`` of this view."""
        cos, sin = math.cos(self.angle) * self.scale, math.sin(self.angle) * self.scale
        return self.center[0] + cos * u - sin * v, self.center[1] + sin * u + cos * v


@lru_cache(maxsize=4)
def grid(size: int) -> tuple[Field, Field]:
    """The picture coordinates ``(x, y)`` of pixel centres, read-only."""
    ramp = ((np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0).astype(np.float32)
    x, y = (np.ascontiguousarray(a) for a in np.broadcast_arrays(ramp[None, :], ramp[:, None]))
    x.flags.writeable = y.flags.writeable = False
    return x, y


def view(size: int, angle: float = 0.0, scale: float = 1.0, center: tuple[float, float] = (0.0, 0.0)) -> View:
    """Coordinates of an object or a texture that lies turned, scaled and shifted in the picture."""
    x, y = grid(size)
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    du, dv = cos * center[0] + sin * center[1], cos * center[1] - sin * center[0]
    return View(cos * x + sin * y - du, cos * y - sin * x - dv, angle, scale, center)


# --------------------------------------------------------------------------------------------------------------- noise


def _spectral(dice: Dice, weight: NDArray[np.float64]) -> Field:
    """Noise with the given spectrum, zero mean, unit deviation."""
    phases = np.exp(2j * np.pi * dice.array(TILE, TILE).astype(np.float64))
    field = np.fft.ifft2(phases * weight).real
    field -= field.mean()
    return (field / field.std()).astype(np.float32)


def _cells(dice: Dice, count: int) -> tuple[Field, Field, Field]:
    """Distances to the nearest and second nearest of jittered points, and a random number per cell."""
    points, values = dice.array(count, count, 2), dice.array(count, count)
    ramp = (np.arange(TILE, dtype=np.float32) + 0.5) * (count / TILE)
    cell = ramp.astype(np.int64)
    first = np.full((TILE, TILE), 9.0, np.float32)
    second, value = first.copy(), first.copy()
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            rows, columns = (cell + i) % count, (cell + j) % count
            point = points[rows[:, None], columns[None, :]]
            dy = (cell + i).astype(np.float32)[:, None] + point[..., 0] - ramp[:, None]
            dx = (cell + j).astype(np.float32)[None, :] + point[..., 1] - ramp[None, :]
            distance = np.sqrt(dx * dx + dy * dy)
            nearer = distance < first
            second = np.where(nearer, first, np.minimum(second, distance))
            value = np.where(nearer, values[rows[:, None], columns[None, :]], value)
            first = np.where(nearer, distance, first)
    return first, second, value


def _strokes(dice: Dice, count: int, length: float) -> Field:
    """Short straight fibres in all directions, in [0, 1]."""
    field = np.zeros((TILE, TILE), np.uint8)
    for _ in range(count):
        x, y, angle, half = dice(0, TILE), dice(0, TILE), dice.angle(), dice(0.3, 1.0) * length / 2
        dx, dy, gray = half * math.cos(angle), half * math.sin(angle), 80 + dice.below(176)
        for ox in (-TILE, 0, TILE):
            if -half < x + ox < TILE + half:
                a, b = (int((x + ox - dx) * 16), int((y - dy) * 16)), (int((x + ox + dx) * 16), int((y + dy) * 16))
                cv2.line(field, a, b, gray, 1, cv2.LINE_AA, 4)
    return field.astype(np.float32) / 255.0


BASE = {"soft": 8, "fractal": 4, "grain": 128, "bubbles": 24, "creases": 24, "patches": 24, "fibres": 16}


@cache
def _tile(kind: str, variant: int) -> tuple[Field, ...]:
    """A wrapping tile of noise at its full size and at halved sizes."""
    dice = Dice(0x5EED, sorted(BASE).index(kind), variant)
    frequency = np.fft.fftfreq(TILE, 1.0 / TILE)
    radius = np.sqrt(frequency[:, None] ** 2 + frequency[None, :] ** 2)
    if kind == "soft":
        field = _spectral(dice, np.exp(-(((radius - 6.0) / 3.5) ** 2)))
    elif kind == "fractal":
        field = _spectral(dice, np.where(radius < 1.5, 0.0, 1.0 / np.maximum(radius, 1.0) ** 1.7))
    elif kind == "grain":
        field = _spectral(dice, np.exp(-((radius / 150.0) ** 4)))
    elif kind == "fibres":
        field = _strokes(dice, 2600, 44.0)
    else:
        first, second, value = _cells(dice, BASE[kind])
        field = {"bubbles": np.minimum(first, 1.0), "creases": np.minimum(second - first, 1.0), "patches": value}[kind]
    levels = [np.ascontiguousarray(field)]
    for _ in range(LEVELS - 1):
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return tuple(levels)


def noise(
    dice: Dice,
    size: int,
    kind: str,
    across: float,
    along: float | None = None,
    angle: float = 0.0,
) -> Field:
    """A random window of a noise tile.

    Args:
        dice: Draws variant and window.
        size: Side of the picture.
        kind: ``soft``, ``fractal`` and ``grain`` have zero mean and about unit deviation; ``bubbles`` (distance to cell
            centres), ``creases`` (0 on cell borders), ``patches`` (a number per cell) and ``fibres`` lie in [0, 1].
        across: Cycles, cells or fibre lengths per picture in the direction of ``angle``.
        along: The same at right angles to it; defaults to ``across``.
        angle: Direction in radians.

    Returns:
        Field ``(size, size)``.
    """
    along = across if along is None else along
    levels = _tile(kind, dice.below(VARIANTS))
    step = TILE / BASE[kind] / size
    shrink = math.sqrt(max(across, 0.25 * along) * max(along, 0.25 * across)) * step
    level = min(max(int(math.log2(max(shrink, 1.0)) + 0.35), 0), LEVELS - 1)
    sx, sy = across * step / 2**level, along * step / 2**level
    cos, sin, half, side = math.cos(angle), math.sin(angle), (size - 1) / 2.0, TILE / 2**level
    # Turning about the picture's centre, pixel centres at halves: the window is the same at every size.
    ox, oy = dice(0, side) - 0.5, dice(0, side) - 0.5
    matrix = np.array(
        [[sx * cos, sx * sin, ox - sx * (cos + sin) * half], [-sy * sin, sy * cos, oy - sy * (cos - sin) * half]],
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(levels[level], matrix, (size, size), flags=flags, borderMode=cv2.BORDER_WRAP)


# -------------------------------------------------------------------------------------------------------------- colour


def ramp(t: Field, start: Color, end: Color) -> Field:
    """The colours between ``start`` (t = 0) and ``end`` (t = 1), not clipped."""
    return cv2.merge([t * (b - a) + a for a, b in zip(start, end, strict=True)])


def scaled(color: Color, gain: float, lift: float = 0.0) -> Color:
    """A colour made brighter or darker, then raised by ``lift``."""
    red, green, blue = (min(max(c * gain + lift, 0.0), 1.0) for c in color)
    return red, green, blue


def flat(size: int, color: Color) -> Field:
    """One colour."""
    return np.full((size, size, 3), color, np.float32)


def spread(t: Field) -> Field:
    """A field repeated for three channels."""
    return cv2.merge([t, t, t])


def over(color: Field, t: Field, paint: Field | Color) -> Field:
    """``paint`` over ``color`` with coverage ``t``."""
    t3 = spread(t)
    if isinstance(paint, tuple):
        paint = np.asarray(paint, np.float32)
    return color + (paint - color) * t3


# -------------------------------------------------------------------------------------------------------------- shapes


def clip01(t: Field) -> Field:
    """Limited to [0, 1]."""
    return np.minimum(np.maximum(t, 0.0), 1.0)


def smooth(t: Field) -> Field:
    """The smooth step from 0 (t <= 0) to 1 (t >= 1)."""
    t = clip01(t)
    return t * t * (3.0 - 2.0 * t)


def inside(distance: Field, softness: float) -> Field:
    """Coverage of the region where ``distance`` is negative; the edge is ``softness`` wide."""
    return clip01(0.5 - distance / softness)


def circle(u: Field, v: Field, radius: float) -> Field:
    """Signed distance to a circle around the origin."""
    return np.sqrt(u * u + v * v) - radius


def box(u: Field, v: Field, width: float, height: float, corner: float = 0.0) -> Field:
    """Signed distance to a box around the origin, half sides ``width`` and ``height``, rounded corners."""
    a, b = np.abs(u) - (width - corner), np.abs(v) - (height - corner)
    a0, b0 = np.maximum(a, 0.0), np.maximum(b, 0.0)
    return np.sqrt(a0 * a0 + b0 * b0) + np.minimum(np.maximum(a, b), 0.0) - corner


def polygon(u: Field, v: Field, radius: float, sides: int) -> Field:
    """Signed distance (inner radius ``radius``) to a regular polygon, edges exact, corners sharp."""
    sector = 2.0 * math.pi / sides
    angle = np.arctan2(v, u)
    angle -= np.round(angle / sector) * sector
    return np.sqrt(u * u + v * v) * np.cos(angle) - radius


def wave(phase: Field) -> Field:
    """Triangle wave of period 1 in [0, 1], 0 at whole numbers."""
    return np.abs(2.0 * (phase - np.floor(phase + 0.5)))


def stroke(
    size: int, lines: Sequence[NDArray[np.floating]], width: float | Sequence[float], *, closed: bool = False
) -> Field:
    """Coverage of polylines.

    Args:
        size: Side of the picture.
        lines: Polylines ``(N, 2)`` in picture coordinates.
        width: Width of all lines, or one per line; below a pixel the coverage fades instead.
        closed: Whether the lines are closed.
    """
    fine = 2 if size <= 160 else 1
    canvas = np.zeros((size * fine, size * fine), np.uint8)
    widths = [width] * len(lines) if isinstance(width, float) else width
    for line, w in zip(lines, widths, strict=True):
        pixels = w * size * fine / 2
        points = np.round(((line + 1.0) * (size * fine / 2) - 0.5) * 16).astype(np.int32)
        shade = int(255 * min(pixels, 1.0))
        cv2.polylines(canvas, [points], closed, shade, max(round(pixels), 1), cv2.LINE_AA, 4)
    return _down(canvas, size)


def fill(size: int, shapes: Sequence[NDArray[np.floating]]) -> Field:
    """Coverage of filled polygons ``(N, 2)`` in picture coordinates."""
    fine = 2 if size <= 160 else 1
    canvas = np.zeros((size * fine, size * fine), np.uint8)
    for shape in shapes:
        points = np.round(((shape + 1.0) * (size * fine / 2) - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(canvas, [points], 255, cv2.LINE_AA, 4)
    return _down(canvas, size)


def _down(canvas: Field, size: int) -> Field:
    if canvas.shape[0] != size:
        canvas = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return canvas.astype(np.float32) * np.float32(1.0 / 255.0)


def lettering(dice: Dice, size: int, place: View, text: str, height: float, thickness: float = 0.14) -> Field:
    """Coverage of centred text of the given letter height, drawn in the coordinates of ``place``."""
    font = cv2.FONT_HERSHEY_SIMPLEX if dice.chance(0.6) else cv2.FONT_HERSHEY_DUPLEX
    tall = 40
    scale = tall / 22.0
    (wide, _), _ = cv2.getTextSize(text, font, scale, round(tall * thickness))
    canvas: Field = np.zeros((tall * 2, wide + tall), np.uint8)
    cv2.putText(canvas, text, (tall // 2, round(tall * 1.5)), font, scale, 255, round(tall * thickness), cv2.LINE_AA)
    shrink = size * height * place.scale / 2 / tall
    if shrink < 0.6:
        factor = max(1.2 * shrink, 0.15)
        canvas = cv2.resize(canvas, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    rows, columns = canvas.shape
    unit = height / (rows / 2)  # view units per canvas pixel
    cos, sin = math.cos(place.angle), math.sin(place.angle)
    k = 2.0 / (size * place.scale * unit)  # canvas pixels per picture pixel
    half = (size - 1) / 2
    cx, cy = place.center[0] * size / 2 + half, place.center[1] * size / 2 + half
    matrix = np.array(
        [
            [k * cos, k * sin, columns / 2 - k * (cos * cx + sin * cy)],
            [-k * sin, k * cos, rows / 2 - k * (cos * cy - sin * cx)],
        ],
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(canvas, matrix, (size, size), flags=flags).astype(np.float32) * np.float32(1.0 / 255.0)
