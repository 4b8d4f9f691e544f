# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""CLIP's pre-processing, the same on every path from file to score."""

from __future__ import annotations

import torch
from anomalib.pre_processing import PreProcessor
from torch import Tensor
from torchvision.transforms.v2 import Compose, InterpolationMode, Normalize, Resize

from anomalib_zsad.clip.config import CLIP_MEAN, CLIP_STD
from anomalib_zsad.functional import resize_bicubic


class ClipPreProcessor(PreProcessor):
    """Antialiased bicubic resize to a square, then CLIP's normalisation.

    anomalib resizes twice over: data sets and Lightning's hooks use ``transform``, an exported graph runs ``forward``.
    anomalib's own ``forward`` drops the antialiasing, because torchvision's resize does not export with it; here
    ``forward`` computes the same antialiased resize as matrix products, so that both paths give the same pixels.

    Args:
        image_size (int): Side of the square that the model sees, in pixels. The aspect ratio is not kept, as in the
            published protocols.

    Example:
        >>> ClipPreProcessor(224)(torch.rand(2, 3, 300, 400)).shape
        torch.Size([2, 3, 224, 224])
    """

    def __init__(self, image_size: int) -> None:
        super().__init__(
            transform=Compose([
                Resize((image_size, image_size), interpolation=InterpolationMode.BICUBIC, antialias=True),
                Normalize(mean=list(CLIP_MEAN), std=list(CLIP_STD)),
            ])
        )

    @property
    def image_size(self) -> int:
        """Side of the square in pixels."""
        return self.transform.transforms[0].size[0]  # type: ignore[union-attr]

    def forward(self, batch: Tensor) -> Tensor:
        """Resize and normalise ``(B, 3, H, W)`` images in [0, 1] to ``(B, 3, image_size, image_size)``."""
        mean, std = (torch.tensor(values, device=batch.device).reshape(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
        return (resize_bicubic(batch, self.image_size) - mean) / std
