# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What lies before the camera, and the camera."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from anomalib_zsad.data.surfaces.canvas import (
    Color,
    Dice,
    Field,
    clip01,
    grid,
    inside,
    noise,
    over,
    palette,
    ramp,
    spread,
    view,
)


@dataclass
class Surface:
    """A surface or an object, before light and camera.

    Attributes:
        color: Colour of the material ``(S, S, 3)``.
        height: Relief ``(S, S)`` in picture units; its slope makes the shading.
        alpha: Where the material is ``(S, S)``; ``None`` if it fills the picture.
        ink: Coverage of print on it ``(S, S)``, or ``None``.
        ink_color: Colour of the print.
        core: Colour of the material below its skin.
        gloss: Strength of the highlights, 0 to 1.
        gray: Whether its picture knows no colours.
        thin: Whether a hole shows what lies behind.
        axis: Direction of the grain or of the long side, radians.
        middle: Centre and rough radius ``(x, y, r)``.
        parts: Places ``(x, y, r)`` of parts that may be missing or bent.
        inlay: Whether those parts lie on the surface, so that without them the core shows.
    """

    color: Field
    height: Field
    alpha: Field | None = None
    ink: Field | None = None
    ink_color: Color = (0.1, 0.1, 0.12)
    core: Color = (0.3, 0.25, 0.2)
    gloss: float = 0.1
    gray: bool = False
    thin: bool = False
    axis: float = 0.0
    middle: tuple[float, float, float] = (0.0, 0.0, 1.0)
    parts: tuple[tuple[float, float, float], ...] = ()
    inlay: bool = False

    def __post_init__(self) -> None:
        for name in ("color", "height", "alpha", "ink"):
            field = getattr(self, name)
            if field is not None and field.dtype != np.float32:
                setattr(self, name, field.astype(np.float32))

    @property
    def size(self) -> int:
        """Side of the picture in pixels."""
        return self.color.shape[0]


@dataclass(frozen=True)
class Shot:
    """Light, background and camera of one picture: everything that a defect does not change."""

    backdrop: Field
    gain: Field
    glare: Field
    light: tuple[float, float]
    relief: float
    shadow: float
    shadow_shift: tuple[float, float]
    defocus: float
    noise: Field
    gray: bool


def _small(size: int, low: Field) -> Field:
    return cv2.resize(low, (size, size), interpolation=cv2.INTER_CUBIC)


def _backdrop(dice: Dice, size: int) -> Field:
    """What lies behind: plain, graded, cloudy or striped, out of focus; sometimes with blurred things on it."""
    base = dice.pick(palette("1f1f21 d9d9d6 808080 9e8061 40526b c7b84c 4c6b57 0f0f12"))
    base = dice.tint(base, 0.25)
    low = 32
    x, y = grid(low)
    angle = dice.angle()
    t = 0.10 * dice(-1, 1) * (x * math.cos(angle) + y * math.sin(angle))
    t += dice(0.0, 0.05) * noise(dice, low, "fractal", dice(0.5, 2.0))
    if dice.chance(0.2):
        t += dice(0.03, 0.12) * np.sin(dice(5, 14) * (x * math.cos(angle) + y * math.sin(angle)) + dice(0, 6))
    field = ramp(t, base, (base[0] + 1.0, base[1] + 1.0, base[2] + 1.0))
    for _ in range(dice.below(4) if dice.chance(0.35) else 0):
        place = view(low, dice.angle(), 1.0, (dice(-1.1, 1.1), dice(-1.1, 1.1)))
        r = dice(0.15, 0.5)
        blot = inside(np.sqrt(place.u**2 + (place.v * dice(1, 3)) ** 2) - r, dice(0.15, 0.4))
        field = over(field, blot, dice.tint(dice.pick([(0.2, 0.2, 0.2), (0.8, 0.8, 0.8), base]), 0.3))
    field = _small(size, field)
    if dice.chance(0.4):
        field += spread(dice(0.01, 0.04) * noise(dice, size, "grain", 60.0))
    return field


def shoot_plan(dice: Dice, size: int, difficulty: float) -> Shot:
    """Draws light, background and camera.

    Args:
        dice: Random numbers.
        size: Side of the picture.
        difficulty: 0 (studio light) to 1 (strong shadows, glare, blur, noise).
    """
    low = 16
    x, y = grid(low)
    angle = dice.angle()
    lx, ly = math.cos(angle), math.sin(angle)
    uneven = 0.25 + 0.75 * difficulty
    gain = dice(0.85, 1.12) + dice(0.0, 0.35) * uneven * (x * lx + y * ly)
    gain -= dice(0.0, 0.25) * uneven * (x * x + y * y)
    if dice.chance(0.3 * uneven + 0.1):  # a shadow falls into the picture
        turn = dice.angle()
        edge = x * math.cos(turn) + y * math.sin(turn) - dice(-0.2, 0.9)
        if dice.chance(0.4):
            edge = np.abs(edge) - dice(0.05, 0.25)
        gain *= 1.0 - dice(0.15, 0.45) * inside(edge, dice(0.15, 0.6))
    warm = dice.bell(0.12)
    gain3 = ramp(gain, (0.0, 0.0, 0.0), (1.0 + warm, 1.0 + dice.bell(0.03), 1.0 - warm))
    glare = np.zeros((low, low), np.float32)
    for _ in range(1 + dice.below(2) if dice.chance(0.25 + 0.35 * uneven) else 0):
        place = view(low, dice.angle(), 1.0, (dice(-0.9, 0.9), dice(-0.9, 0.9)))
        glare += dice(0.1, 0.4) * np.exp(-((place.u / dice(0.15, 0.5)) ** 2) - (place.v / dice(0.1, 0.25)) ** 2)
    grain = dice(0.004, 0.012 + 0.014 * uneven) * noise(dice, size, "grain", 0.5 * size)
    return Shot(
        backdrop=_backdrop(dice, size),
        gain=_small(size, gain3),
        glare=_small(size, glare),
        light=(lx, ly),
        relief=dice(0.8, 1.4),
        shadow=dice(0.1, 0.6),
        shadow_shift=(0.09 * dice(0.3, 1.0) * -lx, 0.09 * dice(0.3, 1.0) * -ly),
        defocus=dice(0.0, 0.004 + 0.008 * uneven) if dice.chance(0.6) else 0.0,
        noise=grain,
        gray=dice.chance(0.12),
    )


def slopes(height: Field) -> tuple[Field, Field]:
    """The slope of a relief, per picture unit."""
    scale = height.shape[0] / 16.0  # Sobel 3x3 weighs 8, and a pixel is 2 / S wide
    return (
        cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=scale, borderType=cv2.BORDER_REPLICATE),
        cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=scale, borderType=cv2.BORDER_REPLICATE),
    )


def shoot(surface: Surface, shot: Shot) -> Field:
    """The picture of a surface, float32 RGB ``(S, S, 3)`` in [0, 1], without sensor noise."""
    size = surface.size
    color = surface.color
    if surface.ink is not None:
        color = over(color, surface.ink, surface.ink_color)
    dx, dy = slopes(surface.height)
    slope = (dx * shot.light[0] + dy * shot.light[1]) * -shot.relief
    # Soft limiter: steep flanks must not burn out.
    slope /= 1.0 + np.abs(slope)
    picture = color * spread(1.0 + 0.75 * slope)
    shine = np.maximum(slope - 0.15, 0.0) * (1.4 * surface.gloss) + shot.glare * (0.15 + surface.gloss)
    picture += spread(shine)
    if surface.alpha is not None:
        low = cv2.resize(surface.alpha, (56, 56), interpolation=cv2.INTER_AREA)
        matrix = np.array([[1.0, 0.0, shot.shadow_shift[0] * 28], [0.0, 1.0, shot.shadow_shift[1] * 28]])
        low = cv2.warpAffine(low, matrix, (56, 56), borderMode=cv2.BORDER_REPLICATE)
        low = 1.0 - shot.shadow * cv2.GaussianBlur(low, (0, 0), 2.0)
        lit = shot.backdrop * spread(cv2.resize(low, (size, size), interpolation=cv2.INTER_LINEAR))
        picture = over(lit, surface.alpha, picture)
    picture *= shot.gain
    if shot.gray or surface.gray:
        picture = spread(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
    sigma = shot.defocus * size / 2
    if sigma > 0.25:
        picture = cv2.GaussianBlur(picture, (0, 0), sigma)
    return clip01(picture)


def develop(picture: Field, shot: Shot) -> np.ndarray:
    """Adds the sensor's noise and rounds to uint8 RGB ``(S, S, 3)``."""
    return cv2.convertScaleAbs(clip01(picture + spread(shot.noise)), alpha=255.0)


def sheet(dice: Dice, size: int, *, always: bool = False) -> tuple[Field | None, tuple[float, float, float]]:
    """The outline of a piece of material: mostly it fills the picture, sometimes its border is seen."""
    if not always and dice.chance(0.6):
        return None, (0.0, 0.0, 1.0)
    place = view(size, dice.bell(0.2), 1.0, (dice.bell(0.25), dice.bell(0.25)))
    width, height = dice(0.75, 1.15), dice(0.75, 1.15)
    a, b = np.abs(place.u) - width, np.abs(place.v) - height
    alpha = inside(np.maximum(a, b), 3.0 / size)
    return alpha, (*place.center, 0.8)
