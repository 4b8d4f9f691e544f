# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Reading one image through the data set it belongs to, with errors that name the file.

anomalib reads images with Pillow and converts them to RGB. The rules are those of :mod:`anomalib_zsad.pictures`,
so that a score in training and test is the score that :class:`~anomalib_zsad.Detector` gives:

===================  ================================================================================================
grey, 1 bit          the one channel three times
palette              the colours of the palette
RGBA, grey + alpha   the alpha channel is dropped, nothing is blended: what lies under transparent pixels shows
CMYK, YCbCr, Lab     Pillow's conversion, no colour profile
16 bit grey          scaled by the file's depth. anomalib's own reader cuts values at 255, so that such an image comes
                     out (nearly) all white; where anomalib reads without this package's data sets (a plain ``Folder``
                     in test, ``PredictDataset``), :class:`DeepImages` reads it again
32 bit               refused: such a file does not say what white is
===================  ================================================================================================

The result is float32 in [0, 1] with three channels. EXIF rotation is not applied, to image and mask alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from anomalib.data import AnomalibDataset, ImageItem, PredictDataset
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader
from torchvision.transforms.v2.functional import InterpolationMode, resize
from torchvision.tv_tensors import Image, Mask

from anomalib_zsad.pictures import SUFFIXES, UnreadableImageError, is_deep, open_file, read

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


def read_image(path: str) -> Image:
    """Read an image.

    Args:
        path (str): The file.

    Returns:
        Image: ``(3, H, W)`` in [0, 1].

    Raises:
        OSError: If it cannot be read; the message names the file.
    """
    try:
        return Image(torch.from_numpy(read(path).pixels))
    except (OSError, UnreadableImageError) as error:
        raise _unreadable("image", path, error) from error  # noqa: EM101 - no message, but a role


def read_item(dataset: AnomalibDataset, index: int) -> ImageItem:
    """Read one image and its mask with the data set's own reader.

    Args:
        dataset (AnomalibDataset): A data set without augmentations.
        index (int): Row in its samples.

    Returns:
        ImageItem: Image ``(3, H, W)`` in [0, 1] and mask ``(H, W)`` or ``None``.

    Raises:
        OSError: If image or mask cannot be read; the message names the file.
        ValueError: If image and mask differ in size; the message names both files.
    """
    sample = dataset.samples.iloc[index]
    image_path, mask_path = sample.image_path, sample.get("mask_path")
    mask_paths = mask_path if isinstance(mask_path, list) else [mask_path] if isinstance(mask_path, str) else []
    roles = [("image", image_path), *(("mask", path) for path in mask_paths if path)]
    deep, *_ = (_check(role, path) for role, path in roles)
    try:
        item: Any = dataset[index]
        if deep:
            item.image = Image(torch.from_numpy(read(image_path).pixels))
    except Exception as error:  # what Pillow's decoders raise is an open list
        faults = ((role, path, _fault(path)) for role, path in roles)
        role, path, fault = next(filter(itemgetter(2), faults), ("image", image_path, error))
        raise _unreadable(role, path, fault or error) from error

    if item.gt_mask is not None and item.gt_mask.shape[-2:] != item.image.shape[-2:]:
        (mask_height, mask_width), (height, width) = item.gt_mask.shape[-2:], item.image.shape[-2:]
        msg = (
            f"Mask {', '.join(mask_paths)} is {mask_width} x {mask_height} pixels, but its image {image_path} is "
            f"{width} x {height}. A mask must have the size of its image."
        )
        raise ValueError(msg)
    return item


def is_deep_file(path: str | Path | None) -> bool:
    """Whether a path leads to an image of more than 8 bits per channel, which anomalib would cut."""
    with suppress(OSError):
        return path is not None and _check("image", str(path))
    return False


class DeepImages(Callback):
    """Reads images of more than 8 bits per channel again, in test and prediction with anomalib's own data sets.

    Has to come before the pre-processor. Data sets with a reader of their own are left alone.
    """

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Read again what was cut."""
        del pl_module, batch_idx
        _read_again(batch, trainer.test_dataloaders, dataloader_idx)

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Read again what was cut."""
        del pl_module, batch_idx
        _read_again(batch, trainer.predict_dataloaders, dataloader_idx)


def _read_again(batch: Any, loaders: Any, number: int) -> None:
    loader = loaders[number] if isinstance(loaders, Sequence) else loaders
    dataset: Any = loader.dataset if isinstance(loader, DataLoader) else None
    reader = getattr(type(dataset), "__getitem__", None)
    if reader is AnomalibDataset.__getitem__:
        transform = dataset.augmentations
    elif reader is PredictDataset.__getitem__:
        transform = dataset.transform
    else:
        return
    for index, path in enumerate(batch.image_path or ()):
        if is_deep_file(path):
            image = transform(read_image(path)) if transform else read_image(path)
            item = ImageItem(image=image, gt_mask=Mask(torch.zeros(image.shape[-2:])))  # the tiled ensemble wants one
            image = loader.collate_fn([item]).image  # which may be a tile of it
            batch.image[index] = resize(image, list(batch.image.shape[-2:]), InterpolationMode.BICUBIC)[0]


def _check(role: str, path: str) -> bool:
    """Refuse what must not be opened or would be misread; returns whether the image is a deep one."""
    try:
        if Path(path).suffix.lower() not in SUFFIXES or not Path(path).exists():  # the data set has a reader of its own
            return False
        with open_file(Path(path)) as image:
            return is_deep(image)
    except (OSError, UnreadableImageError) as error:
        raise _unreadable(role, path, error) from error


def _fault(path: str) -> Exception | None:
    """What keeps an image or a mask from being decoded, or ``None``."""
    try:
        with open_file(Path(path)) as image:
            image.load()
    except Exception as error:  # noqa: BLE001
        return error
    return None


def _unreadable(role: str, path: str, reason: Exception) -> OSError:
    return OSError(f"Cannot read {role} {path}: {reason}. Replace or remove the file.")
