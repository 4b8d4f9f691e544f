# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Pictures to evaluate a small CLIP on: generated ones of each group, and real photographs where they lie at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from anomalib_zsad.data.photographs import Photographs
from anomalib_zsad.data.reading import read_image
from anomalib_zsad.data.synthetic_surfaces import Split, SyntheticSurfacesDataset
from anomalib_zsad.data.words import OBJECT
from anomalib_zsad.pictures import Picture


class Batch(NamedTuple):
    """Some pictures of a set: ``(B, 3, S, S)``, labels ``(B,)``, masks ``(B, S, S)`` or none, class words."""

    images: Tensor
    labels: Tensor
    masks: Tensor | None
    words: list[str]


@dataclass(frozen=True)
class PictureSet:
    """Pictures to test on.

    Attributes:
        name (str): Heading of its columns.
        count (int): Number of pictures.
        batches (Callable[[], Iterator[Batch]]): The pictures, the same at every call.
    """

    name: str
    count: int
    batches: Callable[[], Iterator[Batch]]


def generated_sets(count: int, size: int, batch_size: int = 16, split: Split = "test") -> list[PictureSet]:
    """Seen and unseen classes times seen and unseen defects, ``count`` pictures each, half of them flawless."""

    def draw(classes: str, defects: str) -> Iterator[Batch]:
        data = SyntheticSurfacesDataset(count, classes, defects, image_size=size, split=split)
        return _batches(data, batch_size)

    groups = ("seen", "unseen")
    return [
        PictureSet(f"{classes} classes, {defects} defects", count, lambda c=classes, d=defects: draw(c, d))  # type: ignore[misc]
        for classes in groups
        for defects in groups
    ]


def _batches(data: SyntheticSurfacesDataset, batch_size: int) -> Iterator[Batch]:
    for start in range(0, len(data), batch_size):
        items = [data[i] for i in range(start, min(start + batch_size, len(data)))]
        yield Batch(
            torch.stack([torch.as_tensor(item.image) for item in items]),
            torch.tensor([bool(item.gt_label) for item in items]),
            torch.stack([torch.as_tensor(item.gt_mask).bool() for item in items]),
            list(data.samples.class_name[start : start + len(items)]),
        )


def generated_training(count: int, size: int, batch_size: int = 16) -> Iterator[Batch]:
    """Pictures of seen classes with seen defects, none of which is in a test set."""
    data = SyntheticSurfacesDataset(count, "seen", "seen", image_size=size, split="train")
    return _batches(data, batch_size)


def real_sets(root: Path, size: int, batch_size: int = 16) -> list[PictureSet]:
    """Every folder of ``root`` with an ``index.csv`` (``image,label,mask,split,type``), without its ``train`` split.

    Pictures are squeezed to a square, as every method does; the class word is ``object``.

    Raises:
        ValueError: If there is no such folder, or an index lists no pictures.
        OSError: While they are read, if one cannot be; the message names the file.
    """

    def read(photos: Photographs) -> Iterator[Batch]:
        for start in range(0, len(photos), batch_size):
            some = range(start, min(start + batch_size, len(photos)))
            pictures = [Picture(read_image(str(photos.paths[i])).numpy()) for i in some]
            images = [picture.image().resize((size, size), Image.Resampling.BICUBIC) for picture in pictures]
            masks = [torch.from_numpy(photos.mask(i, size).copy()) for i in some]
            yield Batch(
                torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2) / 255,
                torch.from_numpy(photos.labels[some.start : some.stop]),
                torch.stack(masks) if photos.masked else None,
                [OBJECT] * len(some),
            )

    found = [Photographs(path.parent) for path in sorted(root.glob("*/index.csv"))]
    if not found:
        msg = (
            f"No folder in {root} has an index.csv (image,label,mask,split,type; paths relative to that folder). Name "
            "the folder above those of the sets."
        )
        raise ValueError(msg)
    return [PictureSet(photos.folder.name, len(photos), lambda p=photos: read(p)) for photos in found]  # type: ignore[misc]
