# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Draws overview.jpg: pictures of things that training never showed, and what the quick start's detector says of them.

``python docs/images/overview.py ADAPTER``, where ADAPTER is promptmoe.safetensors of ``anomalib train --config
configs/quickstart.yaml``, in results/quickstart/PromptMoE/SyntheticSurfaces/latest/weights/adapter.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from anomalib_zsad import Detector
from anomalib_zsad.data.surfaces import render
from anomalib_zsad.deploy.drawing import overlay

SHOWN = (("leather", "hole"), ("foam", "burn"), ("hazelnut", "crack"), ("hazelnut", ""), ("capsule", "crack"))
SIDE, GAP, TEXT = 200, 6, 22


def main(adapter: str) -> None:
    """Draw beside this file."""
    detector = Detector(adapter)
    sheet = Image.new("RGB", (len(SHOWN) * (SIDE + GAP) - GAP, 2 * SIDE + GAP + TEXT), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (name, defect) in enumerate(SHOWN):
        picture = Image.fromarray(render(name, defect, seed=4, index=3 if name == "hazelnut" else 2, size=224).image)
        left = column * (SIDE + GAP)
        draw.text((left, 2), f"{name}, {defect or 'flawless'}", "black", ImageFont.load_default(14))
        for row, shown in enumerate((picture, overlay(detector(picture)))):
            sheet.paste(shown.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, TEXT + row * (SIDE + GAP)))
    sheet.save(Path(__file__).with_suffix(".jpg"), quality=88, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
