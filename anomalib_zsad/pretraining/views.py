# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Pieces of generated pictures, a whole step at a time and a function of its number alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from anomalib_zsad.data.surfaces import CLASSES, DEFECTS, Picture, members, render_pair
from anomalib_zsad.data.surfaces.canvas import Dice
from anomalib_zsad.data.surfaces.render import visible_change

SEEN_CLASSES = members("seen", CLASSES)
SEEN_DEFECTS = members("seen", DEFECTS)
STREAM = 3  # of the pictures; the splits of SyntheticSurfaces are 0 to 2
_PLAN = 1 << 21  # stream of what is decided before drawing
SCALES = ((0.2, 0.5), (0.5, 0.75), (1.0, 1.0))
"""Cumulated probability, and side of the picture that a piece is cut from, as a share of the native size."""
STAGE_TWO = 1000
"""From this step on, pictures are also stretched and noisy."""
EASY_STEPS = 1500
"""Steps in which the difficulty of the pictures grows from 0.2 to 0.9 at most."""
STAGE_THREE = 5250
"""From this step on, more pictures are whole ones."""
SCALES_LATE = ((0.5, 0.5), (0.7, 0.75), (1.0, 1.0))
FULL_EVERY, FULL_EVERY_LATE = 5, 2
"""Every so many steps, whole pictures at native size."""
STAGE_FOUR = 11500
"""From this step on, some flawless things get a patch of something foreign, light falls from a side, channels change
places, and pictures are compressed. Two of three steps show whole pictures."""
PIECES_EVERY = 3
FOREIGN = "foreign"
"""Kind of a patch that nobody drew as a defect: it is faulty, but no words say what it is."""


class Views(NamedTuple):
    """The pictures of a step.

    Attributes:
        images (Tensor): ``(B, 3, S, S)`` uint8.
        coverage (Tensor): ``(B, L)`` share of each patch that a defect covers, in [0, 1].
        classes (list[str]): Class of each view.
        defects (list[str]): Visible defect of each view, or :data:`FOREIGN`; "" if there is none.
    """

    images: Tensor
    coverage: Tensor
    classes: list[str]
    defects: list[str]


@dataclass(frozen=True)
class ViewsOfSteps(Dataset):
    """Step number -> :class:`Views`: of each specimen one view with a defect and one without, or with a foreign patch.

    Args:
        native (int): Side of a whole picture in pixels.
        small (int): Side of a piece.
        patch (int): Side of a patch.
        batch (int): Views in a step of pieces; whole pictures are as many as cost the same.
        seed (int): Seed of the pictures.
    """

    native: int
    small: int
    patch: int
    batch: int
    seed: int

    def __getitem__(self, step: int) -> Views:
        """Draw the views of a step."""
        if torch.utils.data.get_worker_info() is not None:
            cv2.setNumThreads(0)
        full, scales = shows_whole(step), SCALES if step < STAGE_THREE else SCALES_LATE
        side = self.native if full else self.small
        count = max(2, round(self.batch * (self.small / self.native) ** 2)) if full else self.batch
        hardest = 0.2 + 0.7 * min(1.0, step / EASY_STEPS)
        images, masks, classes, defects = [], [], [], []
        before: NDArray[np.uint8] | None = None
        for number in range(count // 2):
            dice = Dice(self.seed, _PLAN, step * self.batch + number)
            name = dice.pick(SEEN_CLASSES)
            kinds = [kind for kind in CLASSES[name].defects if kind in SEEN_DEFECTS]
            kind = dice.pick(kinds)
            luck = dice()
            share = 1.0 if full else next(share for limit, share in scales if luck < limit)
            size = max(side, round(self.native * share))
            clean, faulty = render_pair(
                name, kind, seed=self.seed, stream=STREAM, index=step * self.batch + number, size=size,
                difficulty=dice(0.0, hardest),
            )  # fmt: skip
            window = _window(dice, side, size, faulty.mask)
            elsewhere = window if dice.chance(0.5) else _window(dice, side, size, None)
            if step >= STAGE_FOUR:
                source, before = clean.image if before is None else before, clean.image
                if dice.chance(0.2) and faulty.mask.any():
                    clean = with_foreign_patch(dice, clean, source, faulty.mask)
                    elsewhere = _window(dice, side, size, clean.mask)
            for picture, (top, left) in ((clean, elsewhere), (faulty, window)):
                image, mask = _augment(dice, picture, top, left, side, step)
                images.append(image)
                masks.append(mask)
                classes.append(name)
                defects.append(picture.defect_type if mask.sum() >= 8 else "")
        cover = torch.from_numpy(np.stack(masks)).float()[:, None]
        return Views(
            torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
            F.avg_pool2d(cover, self.patch).flatten(1),
            classes,
            defects,
        )


def shows_whole(step: int) -> bool:
    """Whether a step shows whole pictures."""
    if step >= STAGE_FOUR:
        return step % PIECES_EVERY != 0
    every = FULL_EVERY if step < STAGE_THREE else FULL_EVERY_LATE
    return step % every == every - 1


def with_foreign_patch(dice: Dice, picture: Picture, source: NDArray[Any], place: NDArray[np.bool_]) -> Picture:
    """Cover a spot around a pixel of ``place`` with paint, or with a piece of another picture or of another place.

    Args:
        dice (Dice): Luck.
        picture (Picture): A flawless thing, ``S`` pixels wide.
        source (NDArray): ``(S', S', 3)`` uint8, a picture of something else; if its size differs, ``picture`` serves.
        place (NDArray): ``(S, S)`` bool, with at least one pixel on the thing.

    Returns:
        Picture: Of type :data:`FOREIGN`, with a mask of what visibly changed; if nothing did, ``picture``.
    """
    size = len(picture.image)
    rows, columns = np.nonzero(place)
    at = dice.below(len(rows))
    radius, ratio, angle = size * 0.02 * 7.0 ** dice(), dice(1.0, 4.0), dice.angle()
    down, right = np.ogrid[-rows[at] : size - rows[at], -columns[at] : size - columns[at]]
    along, across = down * np.sin(angle) + right * np.cos(angle), down * np.cos(angle) - right * np.sin(angle)
    cells = 4 + dice.below(12)
    bumps = cv2.resize(dice.array(cells, cells), (size, size), interpolation=cv2.INTER_CUBIC)
    inside = np.hypot(along / np.sqrt(ratio), across * np.sqrt(ratio)) < radius * (0.4 + 1.2 * bumps)
    cover: NDArray[Any] = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), dice(0.3, 2.0))[..., None]
    fill: NDArray[Any]
    luck = dice()
    if luck < 0.4:
        fill = np.array([dice() for _ in range(3)], np.float32) * 255.0
    else:
        fill = source if luck < 0.7 and source.shape == picture.image.shape else picture.image
        fill = np.roll(np.rot90(fill, dice.below(4)), (dice.below(size), dice.below(size)), axis=(0, 1))
    was = picture.image.astype(np.float32)
    now = was + dice(0.3, 1.0) * cover * (fill - was)
    mask, _ = visible_change(was / 255.0, (now / 255.0).astype(np.float32))
    if not mask.any():
        return picture
    image = np.clip(now + 0.5, 0, 255).astype(np.uint8)
    return picture._replace(image=image, mask=mask, defect_type=FOREIGN)


def _window(dice: Dice, side: int, size: int, mask: NDArray[np.bool_] | None) -> tuple[int, int]:
    """Upper left corner of a piece; one that shows a defect if a mask is given."""
    room = size - side
    if mask is None or not mask.any():
        return dice.below(room + 1), dice.below(room + 1)
    rows, columns = np.nonzero(mask)
    at = dice.below(len(rows))
    inset = side // 6
    row, column = (int(center[at]) - inset - dice.below(side - 2 * inset) for center in (rows, columns))
    return min(max(row, 0), room), min(max(column, 0), room)


def _augment(
    dice: Dice, picture: Picture, top: int, left: int, side: int, step: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Cut, turn and mirror; then change light, color and sharpness as cameras do."""
    image: NDArray[Any] = picture.image[top : top + side, left : left + side]
    mask = picture.mask[top : top + side, left : left + side]
    late = step >= STAGE_TWO
    if late and dice.chance(0.4):
        kept = round(side * dice(0.6, 1.0))
        start = dice.below(side - kept + 1)
        image = cv2.resize(image[start : start + kept], (side, side), interpolation=cv2.INTER_LINEAR)
        mask = (
            cv2.resize(mask[start : start + kept].astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST) > 0
        )
    turns, mirrored = dice.below(4), dice.chance(0.5)
    image, mask = np.rot90(image, turns), np.rot90(mask, turns)
    if mirrored:
        image, mask = image[:, ::-1], mask[:, ::-1]
    x: NDArray[Any] = image.astype(np.float32) / 255.0
    if dice.chance(0.2):
        x = np.repeat(x.mean(axis=2, keepdims=True), 3, axis=2)
    if dice.chance(0.7):
        gains = np.array([dice(0.8, 1.2) for _ in range(3)], np.float32)
        x = np.clip((x - 0.5) * dice(0.7, 1.25) + 0.5 + dice.bell(0.12), 0, 1) ** dice(0.75, 1.35) * gains
    if dice.chance(0.15):
        x = cv2.GaussianBlur(x, (0, 0), dice(0.4, 1.6 if late else 1.0))
    if late and dice.chance(0.3):
        x = x + dice(0.0, 0.12) * (dice.array(side, side, 1) - 0.5)
    if dice.chance(0.1):
        x = 1 - x
    if step >= STAGE_FOUR:
        if dice.chance(0.15):
            x = np.roll(x if dice.chance(0.5) else x[..., ::-1], dice.below(3), axis=2)
        if dice.chance(0.3):
            corners = 1.0 + dice(0.1, 0.5) * (dice.array(2, 2) - 0.5)
            x = x * cv2.resize(corners, (side, side), interpolation=cv2.INTER_LINEAR)[..., None]
    image = np.clip(x * 255 + 0.5, 0, 255).astype(np.uint8)
    if step >= STAGE_FOUR and dice.chance(0.2):
        quality = [cv2.IMWRITE_JPEG_QUALITY, 40 + dice.below(55)]
        compressed = cv2.imencode(".jpg", image[..., ::-1], quality)[1]
        image = cast("NDArray[Any]", cv2.imdecode(compressed, cv2.IMREAD_COLOR))[..., ::-1]
    return image, np.ascontiguousarray(mask)
