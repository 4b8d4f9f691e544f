# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Drawing detections with Pillow and numpy alone."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from anomalib_zsad.deploy.detector import Detection

OVERLAY_SIDES = (384, 1280)
"""An overlay's longer side is that of the image, within these bounds."""

_HEAT = {0.25: "#FFE14600", 0.4: "#FFC83240", 0.5: "#FF961478", 0.65: "#FA4614AA", 0.85: "#D60A32C8", 1.0: "#96005AD7"}
"""Colour and opacity of anomaly scores; below the first nothing is seen."""
# Okabe and Ito's palette without black, for eyes of every kind; the second round is darker.
_PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
_RED, _INK = (214, 10, 50), (17, 24, 39)


def heat_table() -> np.ndarray:
    """Red, green, blue and opacity for the scores 0, 1/255, ... 1: ``(256, 4)`` uint8."""
    stops = [_rgb(colour) for colour in _HEAT.values()]
    scores = np.linspace(0, 1, 256)
    return np.stack([np.interp(scores, list(_HEAT), channel) for channel in zip(*stops, strict=True)], 1).astype(
        np.uint8
    )


def type_colour(number: int) -> tuple[int, int, int]:
    """Colour of a kind of defect, by its place in the list of words.

    Example:
        >>> type_colour(0), type_colour(7)
        ((230, 159, 0), (138, 95, 0))
    """
    rounds, place = divmod(number, len(_PALETTE))
    red, green, blue = (round(value * 0.6**rounds) for value in _rgb(_PALETTE[place]))
    return red, green, blue


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def overlay(found: Detection, type_names: tuple[str, ...] = ()) -> Image.Image:
    """The image under its heat, with outlines of the mask, boxes of the regions, verdict and kinds of defect."""
    assert found.picture is not None
    photo = found.picture.image()
    low, high = OVERLAY_SIDES
    canvas = _fit(photo, int(np.clip(max(photo.size), low, high)))
    if found.map is not None and found.mask is not None:
        table = heat_table()
        values = _resized(found.map, canvas.size)
        heat = Image.fromarray(table[(values.clip(0, 1) * 255).round().astype(np.uint8)])
        canvas.paste(heat, mask=heat.getchannel("A"))
        mask = Image.fromarray(_resized(found.mask.astype(np.float32), canvas.size) > 0.5)
        canvas.paste((255, 255, 255), mask=_outline(mask, 5))
        canvas.paste(_RED, mask=_outline(mask, 3))
    draw = ImageDraw.Draw(canvas)
    scale = [canvas.width / photo.width, canvas.height / photo.height] * 2
    numbers = {name: number for number, name in enumerate(type_names)}
    size = max(12, max(canvas.size) // 48)
    for region in found.regions[:20]:
        left, top, right, bottom = (round(value * factor) for value, factor in zip(region.box, scale, strict=True))
        colour = _RED if region.type is None else type_colour(numbers[region.type])
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=2)
        text = " ".join(filter(None, [region.type, f"{region.score:.2f}"]))
        _tag(draw, (left, max(0, top - size - 4)), text, size, colour)
    verdict = f"{found.score:.2f} {'anomalous' if found.anomalous else 'normal'}"
    kinds = "".join(f"  {name} {score:.2f}" for name, score in found.types[:3])
    _tag(draw, (0, canvas.height - size - 4), verdict + kinds, size, _RED if found.anomalous else _INK)
    return canvas


def _tag(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, fill: tuple[int, int, int]) -> None:
    left, top = place
    font = ImageFont.load_default(size)
    draw.rectangle((left, top, left + draw.textlength(text, font) + 8, top + size + 4), fill=fill)
    draw.text((left + 4, top), text, (255, 255, 255), font)


def _fit(image: Image.Image, side: int) -> Image.Image:
    """Resized so that the longer side is ``side``."""
    factor = side / max(image.size)
    return image.resize(
        (max(1, round(image.width * factor)), max(1, round(image.height * factor))), Image.Resampling.LANCZOS
    )


def _resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))


def _outline(mask: Image.Image, width: int) -> Image.Image:
    grey = mask.convert("L")
    if min(grey.size) < width:
        return Image.new("L", grey.size)
    return ImageChops.subtract(grey, grey.filter(ImageFilter.MinFilter(width)))


def embedded(found: Detection, photo_side: int = 512, map_side: int = 128) -> dict[str, str]:
    """What a report shows of an image, small, as ``data:`` addresses.

    Returns:
        dict[str, str]: ``photo``, JPEG; ``map`` and ``doubt`` (uncertainty times two), grey PNG, and ``kinds`` (numbers
        of the kinds of defect, the lower byte in red, the upper one in green), PNG, where there are such maps.
    """
    assert found.picture is not None
    photo = found.picture.image()
    pictures = {"photo": _address(_fit(photo, min(photo_side, max(photo.size))), "JPEG")}
    for name, values, factor in (("map", found.map, 1), ("doubt", found.uncertainty, 2)):
        if values is not None:
            small = _resized(values, _small(values, map_side))
            pictures[name] = _address(
                Image.fromarray((small * factor * 255).clip(0, 255).round().astype(np.uint8)), "PNG"
            )
    if found.type_map is not None:
        number = found.type_map
        kinds = np.stack([number & 255, number >> 8, np.zeros_like(number)], axis=-1).astype(np.uint8)
        image = Image.fromarray(kinds).resize(_small(number, map_side), Image.Resampling.NEAREST)
        pictures["kinds"] = _address(image, "PNG")
    return pictures


def _small(values: np.ndarray, side: int) -> tuple[int, int]:
    height, width = values.shape
    factor = min(1, side / max(height, width))
    return max(1, round(width * factor)), max(1, round(height * factor))


def _address(image: Image.Image, kind: str) -> str:
    file = io.BytesIO()
    image.save(file, kind, quality=82, optimize=True)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
