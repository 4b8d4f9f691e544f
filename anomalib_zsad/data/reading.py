# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Reading one image through the data set it belongs to, with errors that name the file.

anomalib reads images with Pillow and converts them to RGB. What that means for formats that are not RGB:

===================  ================================================================================================
grey, 1 bit          the one channel three times
palette              the colours of the palette
RGBA, grey + alpha   the alpha channel is dropped, nothing is blended: what lies under transparent pixels shows
CMYK, YCbCr, Lab     Pillow's conversion, no colour profile
16 or 32 bit         **refused here**: Pillow cuts values at 255 instead of scaling them, so that such an image comes
                     out (nearly) all white and every score is meaningless
===================  ================================================================================================

The result is float32 in [0, 1] with three channels. EXIF rotation is not applied, to image and mask alike.
"""

from __future__ import annotations

from typing import Any

from anomalib.data import AnomalibDataset, ImageItem
from PIL import Image

_CUT_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})


def read_item(dataset: AnomalibDataset, index: int) -> ImageItem:
    """Read one image and its mask with the data set's own reader.

    Args:
        dataset (AnomalibDataset): A data set without augmentations.
        index (int): Row in its samples.

    Returns:
        ImageItem: Image ``(3, H, W)`` in [0, 1] and mask ``(H, W)`` or ``None``.

    Raises:
        OSError: If image or mask cannot be read, or would be misread; the message names the file.
        ValueError: If image and mask differ in size; the message names both files.
    """
    sample = dataset.samples.iloc[index]
    image_path, mask_path = sample.image_path, sample.get("mask_path")
    mask_paths = mask_path if isinstance(mask_path, list) else [mask_path] if isinstance(mask_path, str) else []
    _refuse_cut_values(image_path)
    try:
        item: Any = dataset[index]
    except Exception as error:  # what Pillow's decoders raise is an open list
        for role, path in (("image", image_path), *(("mask", path) for path in mask_paths if path)):
            if (fault := _fault(path)) is not None:
                msg = f"Cannot read {role} {path}: {fault}. Replace or remove the file."
                raise OSError(msg) from error
        msg = f"Cannot read image {image_path} with its mask {mask_path}: {error}"
        raise OSError(msg) from error

    if item.gt_mask is not None and item.gt_mask.shape[-2:] != item.image.shape[-2:]:
        (mask_height, mask_width), (height, width) = item.gt_mask.shape[-2:], item.image.shape[-2:]
        msg = (
            f"Mask {', '.join(mask_paths)} is {mask_width} x {mask_height} pixels, but its image {image_path} is "
            f"{width} x {height}. A mask must have the size of its image."
        )
        raise ValueError(msg)
    return item


def _fault(path: str) -> Exception | None:
    """What keeps Pillow from decoding a file, or ``None``."""
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # noqa: BLE001
        return error
    return None


def _refuse_cut_values(path: str) -> None:
    try:
        with Image.open(path) as image:
            mode = image.mode
    except Exception:  # noqa: BLE001 - the data set's reader may know the format, or else it says what is wrong
        return
    if mode in _CUT_MODES:
        msg = (
            f"Image {path} has 16 or 32 bits per channel (mode {mode}), which anomalib would cut to 8 bits instead of "
            "scaling. Convert it to 8 bits first, with one scale for all images."
        )
        raise OSError(msg)
