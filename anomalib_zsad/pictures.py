# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Images in all their forms, as the model's input: float32 ``(3, H, W)`` in [0, 1], with Pillow and numpy only.

===========================  ========================================================================================
grey, 1 bit, palette         three channels
alpha                        dropped, nothing is blended: what lies under transparent pixels shows
CMYK, YCbCr                  Pillow's conversion, no colour profile
16 bit grey                  scaled by the file's depth (65535; 4095 in a TIFF of 12 bits), whatever the brightest value
16 bit colour                the upper 8 bits, as Pillow reads it
32 bit, floating point       refused: such a file does not say what white is
several frames               the first one, with a note
EXIF rotation                not applied, with a note: the model gets the same pixels as in training and in anomalib
another format than named    the content counts, not the suffix; formats other than those of photographs are refused
===========================  ========================================================================================

Detection reads all images from here. :mod:`anomalib_zsad.data.reading` reads those of training and test by the same
rules, from here where anomalib would read something else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

_NAMES = "avif|bmp|dib|gif|jfif|jp2|jpe|jpeg|jpg|mpo|pbm|pgm|png|pnm|ppm|tif|tiff|webp"
SUFFIXES = frozenset(f".{name}" for name in _NAMES.split("|"))
"""What counts as an image in a folder, in upper or lower case."""

# Others are not looked at, whatever a file is called: for some of them Pillow runs programs.
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "PPM", "TIFF", "WEBP", "JPEG2000", "AVIF")
_DEEP_MODES = frozenset({"I", "F"})  # and I;16 in its byte orders

_EXIF_ORIENTATION = 0x0112
_TIFF_BITS = 258
_ROTATIONS = {3: "180 degrees", 4: "180 degrees, mirrored", 6: "90 degrees", 8: "270 degrees"}


class UnreadableImageError(ValueError):
    """An image that cannot be used; the message is the reason, without the image's name."""


@dataclass(frozen=True)
class Picture:
    """An image as the model gets it.

    Attributes:
        pixels (np.ndarray): ``(3, H, W)`` float32 in [0, 1].
        path (Path | None): Its file, if it has one.
        note (str): What one should know of it; mostly nothing.
    """

    pixels: np.ndarray
    path: Path | None = None
    note: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[2], self.pixels.shape[1]

    def image(self) -> Image.Image:
        """For drawing."""
        return Image.fromarray((self.pixels * 255).round().astype(np.uint8).transpose(1, 2, 0))


def read(source: Any) -> Picture:
    """Take an image in any form.

    Args:
        source (Any): Path, PIL image, numpy array ``(H, W)`` or ``(H, W, C)`` or PyTorch tensor ``(C, H, W)`` with 1, 3
            or 4 channels, in the order red, green, blue (and alpha): of OpenCV's arrays, pass ``array[..., ::-1]``.
            Numbers are 8 or 16 bit unsigned, or floating point in [0, 1].

    Raises:
        UnreadableImageError: With the reason.
        TypeError: If it is none of these.
    """
    if isinstance(source, str | os.PathLike):
        return _from_file(Path(source))
    if isinstance(source, Image.Image):
        with _reasons():
            pixels, note = _from_pil(source)
        return Picture(pixels, note=note)
    if hasattr(source, "detach"):  # a tensor; PyTorch need not be imported to see that
        tensor = source.detach().cpu()
        values = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        if values.ndim != 3 or values.shape[0] not in {1, 3, 4}:
            msg = f"A tensor must be (C, H, W) with 1, 3 or 4 channels, not {values.shape}."
            raise UnreadableImageError(msg)
        return Picture(_from_array(values.transpose(1, 2, 0)))
    if isinstance(source, np.ndarray):
        return Picture(_from_array(source))
    msg = f"Expected a path, PIL image, numpy array or tensor, not {type(source).__name__}."
    raise TypeError(msg)


def open_file(path: Path) -> Image.Image:
    """Open an image file without decoding it.

    Raises:
        UnreadableImageError: With the reason.
    """
    with _reasons():
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
            msg = "not a regular file"
            raise UnreadableImageError(msg)
        if not status.st_size:
            msg = "the file is empty"
            raise UnreadableImageError(msg)
        return Image.open(path, formats=_formats())


def is_deep(image: Image.Image) -> bool:
    """Whether an image has more than 8 bits per channel, which Pillow would cut instead of scaling."""
    return image.mode in _DEEP_MODES or image.mode.startswith("I;16")


def tells_white(image: Image.Image) -> bool:
    """Whether it is known which value of an image is white; if not, :func:`read` refuses it."""
    return not is_deep(image) or _white(image) is not None


def _white(image: Image.Image) -> int | None:
    """Value of white in a deep image, if its format says."""
    if image.format == "TIFF" and image.mode.startswith("I;16"):
        return 2 ** int(image.tag_v2.get(_TIFF_BITS, (16,))[0]) - 1  # type: ignore[attr-defined]
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in {"PNG", "PPM"}):
        return 65535
    return None


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


@contextmanager
def _reasons() -> Generator[None]:
    """Turn whatever Pillow raises into an :class:`UnreadableImageError`."""
    try:
        yield
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        msg = "not an image, or of a format that is not read"
        raise UnreadableImageError(msg) from error
    except OSError as error:
        raise UnreadableImageError(error.strerror or str(error)) from error
    except Image.DecompressionBombError as error:
        msg = f"too large ({error}); cut it into tiles, or make it smaller"
        raise UnreadableImageError(msg) from error
    except Exception as error:  # what Pillow's decoders raise is an open list
        msg = f"damaged ({type(error).__name__}: {error})"
        raise UnreadableImageError(msg) from error


def _from_file(path: Path) -> Picture:
    with open_file(path) as image, _reasons():
        pixels, note = _from_pil(image)
    return Picture(pixels, path, note)


def _from_pil(image: Image.Image) -> tuple[np.ndarray, str]:
    notes = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a telephone's second frame is a preview
        notes.append(f"the first of {frames} frames")
    turn = _ROTATIONS.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    if turn:
        notes.append(f"not turned by {turn} as EXIF asks")
    if is_deep(image):
        white = _white(image)
        if white is None:
            msg = f"32 bits per channel (mode {image.mode}) do not say what white is; convert it to 8 or 16 bits"
            raise UnreadableImageError(msg)
        values = np.asarray(image)
        if values.max() < white / 16:
            notes.append(f"very dark: the brightest value is {values.max()} of {white}")
        return _from_array(values.astype(np.float32) / white), "; ".join(notes)
    return _from_array(np.asarray(image.convert("RGB"))), "; ".join(notes)


def _from_array(values: np.ndarray) -> np.ndarray:
    """Check ``(H, W)`` or ``(H, W, C)`` and bring it to ``(3, H, W)`` in [0, 1]."""
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[-1] not in {1, 3, 4} or not values.size:
        msg = f"An array must be (H, W) or (H, W, C) with 1, 3 or 4 channels and not empty, not {values.shape}."
        raise UnreadableImageError(msg)
    if values.dtype == np.bool_:
        white = 1
    elif values.dtype in {np.dtype(np.uint8), np.dtype(np.uint16)}:
        white = np.iinfo(values.dtype).max
    elif np.issubdtype(values.dtype, np.floating):
        white = 1
        low, high = values.min(), values.max()  # NaN if there is any
        if not (low >= 0 and high <= 1):
            msg = f"Floating-point values must be in [0, 1], these span [{low:g}, {high:g}]; divide by their white."
            raise UnreadableImageError(msg)
    else:
        msg = f"Values of type {values.dtype} do not say what white is; use uint8, uint16, or floats in [0, 1]."
        raise UnreadableImageError(msg)
    pixels = values[..., :3].astype(np.float32).transpose(2, 0, 1) / np.float32(white)
    return np.ascontiguousarray(np.broadcast_to(pixels, (3, *pixels.shape[1:])))
