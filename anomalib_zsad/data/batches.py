# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Items and batches that carry a class word and a defect type, and the one batch type that may teach.

Two pairs of types, and the difference between them is a promise:

* :class:`ZeroShotItem` / :class:`ZeroShotBatch` are anomalib's image item and batch plus what the methods need to
  know of each image. Target images come in these.
* :class:`AuxiliaryItem` / :class:`AuxiliaryBatch` are the same, for images whose labels may be learned from.
  **Whatever trains weights or calibrates scores accepts this type and no other.** Only
  :class:`anomalib_zsad.data.AuxiliaryDataset` makes such items, and it is only ever built from the auxiliary source.
  So a label of the target has no way into training or calibration: it arrives in a batch of the wrong type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from anomalib.data import ImageBatch, ImageItem, NumpyImageBatch, NumpyImageItem
from torchvision.tv_tensors import Mask


@dataclass
class NumpyZeroShotItem(NumpyImageItem):
    """Numpy form of :class:`ZeroShotItem`."""

    class_name: str | None = None
    category: str | None = None
    defect_type: str | None = None
    has_mask: bool = False

    def __post_init__(self) -> None:
        """Turn ``numpy.bool_`` into ``bool``."""
        self.has_mask = bool(self.has_mask)


@dataclass
class NumpyZeroShotBatch(NumpyImageBatch):
    """Numpy form of :class:`ZeroShotBatch`; ``has_mask`` is an array of shape ``(B,)``."""

    item_class: ClassVar[type] = NumpyZeroShotItem

    class_name: list[str] | None = None
    category: list[str] | None = None
    defect_type: list[str] | None = None
    has_mask: Any = None


@dataclass
class ZeroShotItem(ImageItem):
    """An image with its class word and defect type.

    Fields besides those of :class:`anomalib.data.ImageItem`:
        class_name (str | None): Class word for prompts, such as ``"metal nut"``.
        category (str | None): Category as the data set spells it (``"metal_nut"``): the key to group results by.
            Several categories may share a class word.
        defect_type (str | None): Kind of defect; ``""`` for normal images, ``"anomaly"`` when unknown.
        has_mask (bool): Whether ``gt_mask`` is an annotation. The zero mask of a normal image is one.
    """

    numpy_class: ClassVar[type] = NumpyZeroShotItem

    class_name: str | None = None
    category: str | None = None
    defect_type: str | None = None
    has_mask: bool = False

    def __post_init__(self) -> None:
        """Turn a 0-dimensional tensor, which is what a batch gives, into ``bool``."""
        self.has_mask = bool(self.has_mask)


@dataclass
class ZeroShotBatch(ImageBatch):
    """A batch of :class:`ZeroShotItem`.

    Fields besides those of :class:`anomalib.data.ImageBatch`:
        class_name (list[str] | None): ``B`` class words.
        category (list[str] | None): ``B`` category names, the keys to group results by.
        defect_type (list[str] | None): ``B`` defect types, ``""`` for normal images.
        has_mask (torch.Tensor | None): Boolean, shape ``(B,)``. ``gt_mask`` rows where this is ``False`` are filler
            zeros and say nothing about the image: leave them out of losses and metrics.
    """

    item_class: ClassVar[type] = ZeroShotItem
    numpy_class: ClassVar[type] = NumpyZeroShotBatch

    class_name: list[str] | None = None
    category: list[str] | None = None
    defect_type: list[str] | None = None
    has_mask: torch.Tensor | None = None

    @classmethod
    def collate(cls, items: list[Any]) -> ZeroShotBatch:
        """Put items together, also when only some of them have a mask.

        Images of different sizes are resized to the largest, as anomalib does. If any item has a mask, the others get
        a zero mask and keep ``has_mask`` ``False``; if none has, ``gt_mask`` is ``None``. One item of unknown label
        makes the labels of the whole batch ``None``.

        Args:
            items (list[ZeroShotItem]): ``B`` items, at least one.

        Returns:
            ZeroShotBatch: The batch, of the class that this method is called on.
        """
        any_mask = any(item.gt_mask is not None for item in items)
        any_unlabelled = any(item.gt_label is None for item in items)
        # anomalib takes the fields to collate from the first item: after this loop all items have the same ones.
        for item in items:
            if any_mask and item.gt_mask is None:
                item.gt_mask = Mask(torch.zeros(item.image.shape[-2:], dtype=torch.bool))
            if any_unlabelled:
                item.gt_label = None
        # Here anomalib would keep or drop the paths of all masks by whether the first image has one.
        mask_paths = [item.mask_path or "" for item in items]
        batch: Any = super().collate(items)
        batch.mask_path = mask_paths
        return batch


@dataclass
class AuxiliaryItem(ZeroShotItem):
    """An image of the auxiliary source, whose label and mask may be learned from."""


@dataclass
class AuxiliaryBatch(ZeroShotBatch):
    """The only batch type that may train or calibrate (see the module's docstring)."""

    item_class: ClassVar[type] = AuxiliaryItem


def collate(items: list[ImageItem]) -> ImageBatch:
    """Collate items into the batch type that belongs to them.

    Args:
        items (list[ImageItem]): Items of one type, at least one.

    Returns:
        ImageBatch: :class:`AuxiliaryBatch`, :class:`ZeroShotBatch` or anomalib's own.
    """
    batch_class: Any = ImageBatch
    for candidate in (ZeroShotBatch, AuxiliaryBatch):
        batch_class = candidate if isinstance(items[0], candidate.item_class) else batch_class
    return batch_class.collate(items)
