# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""One picture of all classes: each specimen flawless, and damaged with the mask outlined.

``python -m anomalib_zsad.data.surfaces.contact_sheet sheet.jpg``
"""

from __future__ import annotations

import sys
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_zsad.data.surfaces.catalogue import CLASSES, DEFECTS
from anomalib_zsad.data.surfaces.render import Picture, render

PAIRS_PER_ROW = 5
CAPTION = 16  # height of the line below a pair


def contact_sheet(size: int = 128, *, seed: int = 0, index: int = 17) -> NDArray[np.uint8]:
    """Draws the sheet, RGB ``(H, W, 3)``; the defect types take turns.

    Args:
        size: Side of each picture.
        seed: Seed of the pictures.
        index: Number of the pictures.
    """
    shown = dict.fromkeys(DEFECTS, 0)
    cells = []
    for name, entry in CLASSES.items():
        defect = min(entry.defects, key=shown.__getitem__)
        shown[defect] += 1
        before = render(name, seed=seed, index=index, size=size)
        after = render(name, defect, seed=seed, index=index, size=size)
        pair = np.hstack((before.image, _outlined(after)))
        cells.append(np.vstack((pair, _line(f"{name}: {defect}", pair.shape[1]))))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % PAIRS_PER_ROW)
    rows = [np.hstack(cells[k : k + PAIRS_PER_ROW]) for k in range(0, len(cells), PAIRS_PER_ROW)]
    return np.vstack(rows)


def _outlined(picture: Picture) -> NDArray[np.uint8]:
    grown = cv2.dilate(picture.mask.astype(np.uint8), np.ones((5, 5), np.uint8))
    outlines, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    image: Any = picture.image.copy()
    cv2.drawContours(image, outlines, -1, (255, 30, 30), 1, cv2.LINE_AA)
    return image


def _line(text: str, width: int) -> NDArray[np.uint8]:
    line: Any = np.full((CAPTION, width, 3), 255, np.uint8)
    cv2.putText(line, text, (4, CAPTION - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (30, 30, 30), 1, cv2.LINE_AA)
    return line


if __name__ == "__main__":
    cv2.imwrite(sys.argv[1], cv2.cvtColor(contact_sheet(), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
