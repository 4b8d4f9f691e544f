# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Pictures that name the kind of defect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from anomalib.visualization.image.functional import dynamic_font_size, visualize_image
from PIL import Image, ImageDraw, ImageFont

from anomalib_zsad.deploy.drawing import type_colour
from anomalib_zsad.visualization.visualizer import ZeroShotVisualizer

OPACITY = 0.6


class DefectTypeVisualizer(ZeroShotVisualizer):
    """The pictures of :class:`ZeroShotVisualizer` with one more panel: kinds of defect in colours, and a legend.

    Where the predicted mask is true, a pixel has the colour of its likeliest kind. The legend ranks the kinds that are
    seen, followed by others that score high, with their image-level probabilities. Items without kinds of defect look
    as before. Takes the arguments of :class:`anomalib.visualization.ImageVisualizer`.
    """

    def _picture(self, item: Any) -> Image.Image | None:
        picture = super()._picture(item)
        if picture is None or getattr(item, "type_map", None) is None or item.type_scores is None:
            return picture
        panel = self._panel(item)
        wide = Image.new("RGB", (picture.width + panel.width, picture.height))
        wide.paste(picture, (0, 0))
        wide.paste(panel, (picture.width, 0))
        return wide

    def _panel(self, item: Any) -> Image.Image:
        path = item.image_path
        source = path if path is not None and Path(path).is_file() else item.image.detach().cpu().float()
        image = visualize_image(source).convert("RGB").resize(self.field_size)
        types = Image.fromarray(item.type_map.cpu().numpy().astype(np.int32))  # a byte numbers 255 kinds
        kinds = np.asarray(types.resize(image.size, Image.Resampling.NEAREST))
        colours = np.array([(0, 0, 0), *map(type_colour, range(len(item.type_names)))])
        pixels = np.asarray(image, float)
        mixed = (1 - OPACITY) * pixels + OPACITY * colours[kinds]
        panel = Image.fromarray(np.where(kinds[..., None] > 0, mixed, pixels).round().astype(np.uint8))
        if self.text_config["enable"]:
            seen = set(np.unique(kinds).tolist()) - {0}
            _legend(panel, item.type_names, item.type_scores.tolist(), seen)
        return panel


def rank(words: Sequence[str], scores: Sequence[float], count: int = 3) -> list[tuple[str, float]]:
    """The ``count`` words of highest score, best first.

    Example:
        >>> rank(["dent", "scratch"], [0.2, 0.6])
        [('scratch', 0.6), ('dent', 0.2)]
    """
    return sorted(zip(words, scores, strict=True), key=lambda pair: -pair[1])[:count]


def _legend(panel: Image.Image, words: Sequence[str], scores: Sequence[float], seen: set[int]) -> None:
    """Write the kinds that are seen, and the best of the others up to three lines, into the upper left corner."""
    order = sorted(range(len(words)), key=lambda index: (index + 1 not in seen, -scores[index]))
    shown = order[: max(3, min(len(seen), 6))]
    size = max(11, dynamic_font_size(panel.size) * 11 // 20)
    font = ImageFont.load_default(size)
    draw = ImageDraw.Draw(panel, "RGBA")
    lines = [f"{words[index]} {scores[index]:.2f}" for index in shown]
    width = max(draw.textlength(line, font=font) for line in lines) + size + 14
    draw.rectangle((0, 0, width, len(lines) * (size + 4) + 6), fill=(0, 0, 0, 150))
    for row, (index, line) in enumerate(zip(shown, lines, strict=True)):
        top = 4 + row * (size + 4)
        box = (4, top + 1, 4 + size - 2, top + size - 1)
        draw.rectangle(box, fill=type_colour(index) if index + 1 in seen else None, outline=type_colour(index))
        draw.text((size + 8, top), line, font=font, fill=(255, 255, 255))
