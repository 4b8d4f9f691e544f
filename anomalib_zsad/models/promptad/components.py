# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The branch, built twice: once for normality and once for abnormality."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from anomalib_zsad.clip.blocks import Block

if TYPE_CHECKING:
    from anomalib_zsad.models.promptad.config import PromptADConfig


class Branch(nn.Module):
    """Image tokens fused with the text of a view by FiLM, blocks over them, and a map behind each block.

    Args:
        config (PromptADConfig): Width, heads, taps, and whether there is a cross-view score.
        visual_width (int): Width ``D_x`` of the image tokens.
        joint (int): Width ``C`` of the texts.
        sign (int): 1 for the abnormality branch, -1 for the normality branch.
    """

    def __init__(self, config: PromptADConfig, visual_width: int, joint: int, sign: int) -> None:
        super().__init__()
        width = config.width
        taps = config.layers or ()
        self.sign = sign
        self.reduce = nn.ModuleList(nn.Linear(visual_width, width) for _ in taps)
        self.scale = nn.Linear(joint, width)
        self.shift = nn.Linear(joint, width)
        blocks = [Block(width, config.num_heads, "gelu") for _ in taps]
        self.blocks = nn.ModuleList(blocks)
        self.score = nn.Linear(width, 1)
        self.prototype = nn.Linear(joint, width) if config.cross_view else None
        nn.init.ones_(self.scale.bias)  # FiLM starts around the identity
        if self.prototype is not None:  # and the cross-view score where the intra-view score does, within the margin
            nn.init.normal_(self.prototype.weight, std=(joint * width) ** -0.5)
        for block in blocks:
            nn.init.xavier_uniform_(block.attn.in_proj_weight)
            nn.init.zeros_(block.attn.in_proj_bias)

    def enter(self, tokens: Tensor, own: Tensor) -> Tensor:
        """Features ``(B, L, D)`` of the first block: FiLM of ``tokens`` ``(B, L, D_x)`` with the view's ``own`` text.

        Args:
            tokens (Tensor): ``(B, L, D_x)`` of the first tap.
            own (Tensor): ``(B or 1, C)``.
        """
        x = self.reduce[0](tokens)
        return self.blocks[0](self.scale(own)[:, None] * x + self.shift(own)[:, None])

    def advance(self, number: int, features: Tensor, tokens: Tensor) -> Tensor:
        """Features ``(B, L, D)`` of block ``number`` > 0, from those of the block before and the tap's ``tokens``."""
        return self.blocks[number](features + self.reduce[number](tokens))

    def map(self, features: Tensor, other: Tensor) -> Tensor:
        """Map of the branch ``(B, L)``, high where something is wrong (Eqs. 1 and 2).

        The intra-view score minus the cross-view score, their difference turned round in the normality branch.

        Args:
            features (Tensor): ``(B, L, D)``.
            other (Tensor): ``(B or 1, C)`` text, or embedding of normal images, of the other view.
        """
        score = self.score(features)
        if self.prototype is not None:
            score = score - features @ self.prototype(other)[..., None]
        return self.sign * score[..., 0]


def attention_of(maps: Tensor) -> Tensor:
    """Weight of each location from a map of the other branch, in [0.5, 1) (Eqs. 3 and 4).

    Example:
        >>> attention_of(torch.tensor([-3.0, 0.5, 1.5]))
        tensor([0.5000, 0.5000, 0.7311])
    """
    return torch.sigmoid(torch.relu(maps - 0.5))
