# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""CLIP's image tower with the taps and paths that the methods need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from anomalib_zsad.clip.blocks import BeforeBlock, Transformer

if TYPE_CHECKING:
    from anomalib_zsad.clip.config import Activation, ClipConfig, Positions


class VisionOutput(NamedTuple):
    """What :class:`VisionTower` returns.

    Attributes:
        cls (Tensor): ``(B, D)`` class token of the plain path after the last block that ran, before ``ln_post``.
        patches (tuple[Tensor, ...]): For each tap ``(B, L, D)`` patch tokens, neither normalised nor projected; class
            and extra tokens are cut off.
    """

    cls: Tensor
    patches: tuple[Tensor, ...]


class VisionTower(nn.Module):
    """ViT with a class token.

    Args:
        config (ClipConfig): Sizes.
        activation (Activation): Activation of the MLPs.
        image_size (int): Side of the square input in pixels, a multiple of the patch size.

    Attributes:
        grid (int): Side of the token grid; ``L = grid ** 2``.
    """

    def __init__(self, config: ClipConfig, activation: Activation, image_size: int) -> None:
        super().__init__()
        size = config.vision
        if image_size % size.patch_size:
            below = image_size // size.patch_size * size.patch_size
            msg = (
                f"image_size={image_size} is not a multiple of the patch size {size.patch_size}; "
                f"use {below or size.patch_size} or {below + size.patch_size}."
            )
            raise ValueError(msg)
        self.image_size = image_size
        self.grid = image_size // size.patch_size
        self.conv1 = nn.Conv2d(3, size.width, size.patch_size, stride=size.patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(size.width))
        self.positional_embedding = nn.Parameter(torch.empty(self.grid**2 + 1, size.width))
        self.ln_pre = nn.LayerNorm(size.width)
        self.transformer = Transformer(size.width, size.layers, size.heads, activation)
        self.ln_post = nn.LayerNorm(size.width)
        self.proj = nn.Parameter(torch.empty(size.width, config.embed_dim))

    def forward(
        self,
        images: Tensor,
        *,
        taps: Sequence[int] = (),
        value_path_from: int | None = None,
        before_block: BeforeBlock | None = None,
        stop: bool = False,
    ) -> VisionOutput:
        """Run the tower.

        Args:
            images (Tensor): ``(B, 3, image_size, image_size)``, normalised with CLIP's mean and standard deviation.
            taps (Sequence[int]): 1-based numbers of the blocks behind which patch tokens are taken.
            value_path_from (int | None): 1-based number of the first block of the value path. That path starts as the
                input of this block and adds, block by block, the value-value attention of the plain path; it has no
                MLP. From this block on, ``taps`` read the value path.
            before_block (BeforeBlock | None): Edits the plain stream ``(B, 1 + extra + L, D)`` before a block.
            stop (bool): Leave the blocks behind the last tap out, for methods that need no class token.

        Returns:
            VisionOutput: Raw class token and tapped patch tokens.

        Raises:
            ValueError: If the images have another size than the tower was built for.
        """
        if tuple(images.shape[-2:]) != (self.image_size, self.image_size):
            msg = (
                f"The image tower was built for images of {self.image_size} x {self.image_size} pixels and got "
                f"{images.shape[-2]} x {images.shape[-1]}. Resize them, or set image_size to their size."
            )
            raise ValueError(msg)
        length, depth = self.grid**2, len(self.transformer.resblocks)
        last = max(taps) if stop else depth
        x = self.conv1(images).flatten(2).mT  # (B, L, D)
        x = torch.cat([self.class_embedding.expand(x.shape[0], 1, -1), x], dim=1)
        x = self.ln_pre(x + self.positional_embedding)
        value: Tensor | None = None
        kept: dict[int, Tensor] = {}
        for number, block in enumerate(self.transformer, start=1):
            if before_block is not None:
                x = before_block(number - 1, x)
            if number == value_path_from:
                value = x
            if value is None:
                x = block(x)
            else:
                # Behind the last block the plain path is read at its class token alone.
                x, value = block.dual(x, value, keep=1 if number == depth else None)
            if number in taps:
                kept[number] = (x if value is None else value)[:, -length:]
            if number == last:
                break
        return VisionOutput(x[:, 0], tuple(kept[number] for number in taps))

    def project(self, tokens: Tensor, *, norm: bool = True) -> Tensor:
        """Tokens ``(..., D)`` in the joint space ``(..., C)``: ``ln_post`` (unless ``norm=False``), then ``proj``."""
        return (self.ln_post(tokens) if norm else tokens) @ self.proj


def resample_positions(positions: Tensor, grid: int, mode: Positions) -> Tensor:
    """Resample the positional embedding of a square token grid; the class token's row is kept.

    Args:
        positions (Tensor): ``(1 + g * g, D)``, class token first.
        grid (int): Side of the new grid.
        mode (Positions): ``"bicubic_antialias"``, ``"bicubic"`` or ``"bilinear"`` (both without antialias). Corners are
            not aligned. Without a change of size nothing is computed.

    Returns:
        Tensor: ``(1 + grid * grid, D)``.
    """
    native = round((len(positions) - 1) ** 0.5)
    if native == grid:
        return positions
    table = positions[1:].T.reshape(1, -1, native, native)
    table = F.interpolate(
        table,
        size=(grid, grid),
        mode=mode.removesuffix("_antialias"),
        antialias=mode == "bicubic_antialias",
        align_corners=False,
    )
    return torch.cat([positions[:1], table.flatten(2)[0].T])
