# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""From a number to a picture, its mask and its caption."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_zsad.data.surfaces.canvas import Dice, Field
from anomalib_zsad.data.surfaces.catalogue import CLASSES, DEFECTS, caption
from anomalib_zsad.data.surfaces.surface import develop, shoot, shoot_plan

VISIBLE = 0.035  # least change of a channel, of 1, that counts as visible
ENOUGH_CONTRAST = 0.09  # mean change in the mask
ENOUGH_AREA = 0.0016  # share of the picture
ATTEMPTS = 6


class Picture(NamedTuple):
    """A generated picture.

    Attributes:
        image: RGB ``(S, S, 3)`` uint8.
        mask: ``(S, S)`` bool, True where the defect visibly changed the picture.
        class_name: Key of ``CLASSES``.
        defect_type: Key of ``DEFECTS``, "" if flawless.
        caption: A sentence about it.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    class_name: str
    defect_type: str
    caption: str


def visible_change(before: Field, after: Field) -> tuple[NDArray[np.bool_], float]:
    """Where two pictures ``(S, S, 3)`` differ visibly, without specks and pinholes.

    Returns:
        Mask ``(S, S)``, and the mean change in it, of the channel that changed most.
    """
    red, green, blue = cv2.split(cv2.absdiff(before, after))
    change = np.maximum(np.maximum(red, green), blue)
    size = change.shape[0]
    mask: NDArray[Any] = (change > max(VISIBLE, 0.12 * float(change.max()))).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count > 2:
        areas = stats[:, cv2.CC_STAT_AREA]
        keep = areas >= max(3e-4 * size * size, 0.02 * areas[1:].max(), 3)
        keep[0] = False
        mask = keep[labels]
    visible = mask.astype(bool)
    return visible, float(cv2.mean(change, visible.astype(np.uint8))[0])


def render(
    class_name: str,
    defect_type: str = "",
    *,
    seed: int = 0,
    stream: int = 0,
    index: int = 0,
    size: int = 224,
    difficulty: float = 0.5,
) -> Picture:
    """Draws one picture, a function of its arguments alone.

    The same arguments with and without a defect show the same specimen in the same light. A defect that cannot be seen
    (outside the picture, in a shadow, in its own colour) is drawn again, a little stronger.

    Args:
        class_name: A key of ``CLASSES``.
        defect_type: One of the class's defects, or "" for a flawless picture.
        seed: Seed of the data set.
        stream: Stream of the seed, such as the split.
        index: Number of the picture.
        size: Side in pixels, 16 or more.
        difficulty: 0 (large, strong defects in even light) to 1 (small, faint ones among shadows and glare).
    """
    return _render(class_name, defect_type, seed, stream, index, size, difficulty)[1]


def render_pair(
    class_name: str,
    defect_type: str,
    *,
    seed: int = 0,
    stream: int = 0,
    index: int = 0,
    size: int = 224,
    difficulty: float = 0.5,
) -> tuple[Picture, Picture]:
    """Draws one specimen without and with a defect: what two calls of :func:`render` draw, for little more than one.

    Args:
        class_name: As in :func:`render`.
        defect_type: As in :func:`render`, but not "".
        seed: As in :func:`render`.
        stream: As in :func:`render`.
        index: As in :func:`render`.
        size: As in :func:`render`.
        difficulty: As in :func:`render`.
    """
    clean, defective = _render(class_name, defect_type, seed, stream, index, size, difficulty)
    return clean(), defective


def _render(
    class_name: str, defect_type: str, seed: int, stream: int, index: int, size: int, difficulty: float
) -> tuple[Callable[[], Picture], Picture]:
    """The picture that is asked for, and how to get its flawless twin."""
    if class_name not in CLASSES:
        msg = f"Unknown class {class_name!r}; choose one of {', '.join(CLASSES)}."
        raise ValueError(msg)
    if defect_type and defect_type not in CLASSES[class_name].defects:
        msg = f"{class_name!r} has no defect {defect_type!r}; choose one of {', '.join(CLASSES[class_name].defects)}."
        raise ValueError(msg)
    scene, light, damage, words = (Dice(seed, 4 * stream + k, index, class_name) for k in range(4))
    surface = CLASSES[class_name].draw(scene, size)
    shot = shoot_plan(light, size, difficulty)
    clean = picture = shoot(surface, shot)
    mask = np.zeros((size, size), bool)
    if defect_type:
        best = -1.0
        strength = (1.5 - 0.8 * difficulty) * damage(0.85, 1.15)
        extent = (1.25 - 0.5 * difficulty) * damage(0.85, 1.2)
        for _ in range(ATTEMPTS):
            after = shoot(DEFECTS[defect_type].draw(damage, surface, strength, extent), shot)
            changed, contrast = visible_change(clean, after)
            seen = min(contrast / ENOUGH_CONTRAST, float(changed.mean()) / ENOUGH_AREA)
            if seen > best:
                best, picture, mask = seen, after, changed
            if seen >= 1.0:
                break
            strength *= 1.15

    def twin() -> Picture:
        flawless = caption(Dice(seed, 4 * stream + 3, index, class_name), class_name)
        return Picture(develop(clean, shot), np.zeros((size, size), bool), class_name, "", flawless)

    return twin, Picture(develop(picture, shot), mask, class_name, defect_type, caption(words, class_name, defect_type))
