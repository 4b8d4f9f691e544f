# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Hybrid prompts and the text tower that reads them with tokens in every layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from anomalib_zsad.clip.blocks import insert_tokens
from anomalib_zsad.clip.tokenizer import EOT, tokenize

if TYPE_CHECKING:
    from anomalib_zsad.clip.text import TextTower
    from anomalib_zsad.models.dapo.config import DAPOConfig


class HybridPrompts(nn.Module):
    """Learnable context, readable defect words and tokens inserted in the text tower's layers (Eqs. 1 to 3).

    All tensors start as standard normal; :meth:`match` brings them to the distribution of CLIP's token embeddings once
    CLIP is there.

    Args:
        config (DAPOConfig): Numbers of prompts, vectors, tokens and layers.
        width (int): Width ``D`` of a token embedding.
    """

    def __init__(self, config: DAPOConfig, width: int) -> None:
        super().__init__()
        self.released = config.text_behaviour == "released"
        self.carry = config.carry
        self.normal_word = config.normal_word
        context = (config.num_prompts, config.context_tokens, width)
        self.normal = nn.Parameter(torch.randn(context))
        self.defect = nn.Parameter(torch.randn(context))
        self.tokens = nn.Parameter(torch.randn(config.text_depth or 1, config.text_tokens, width))

    @torch.no_grad()
    def match(self, text: TextTower) -> None:
        """Give every dimension the mean and standard deviation that it has in the token table."""
        table = text.token_embedding.weight
        for parameter in self.parameters():
            parameter.mul_(table.std(dim=0)).add_(table.mean(dim=0))

    def forward(self, text: TextTower, words: Sequence[str]) -> Tensor:
        """Features of the normal state and of every defect word.

        Args:
            text (TextTower): CLIP's text tower.
            words (Sequence[str]): ``K`` defect words.

        Returns:
            Tensor: ``(K + 1, C)``, normal first: the mean over the prompts of a state, not normalised.
        """
        filler = "x " * self.normal.shape[1]
        ids = tokenize([
            f"{filler}{self.normal_word} object",
            *(f"{filler}{word} anomaly object" for word in words),
        ]).to(self.normal.device)
        embedded = text.embed(ids)[:, None].expand(-1, len(self.normal), -1, -1)  # (K + 1, E, 77, D)
        context = torch.stack([self.normal, *[self.defect] * len(words)])
        prompts = torch.cat([embedded[..., :1, :], context, embedded[..., 1 + context.shape[-2] :, :]], dim=-2)
        ends = (ids == EOT).int().argmax(dim=1).tolist()
        return self._read(text, prompts, ends).mean(dim=1)

    def _read(self, text: TextTower, prompts: Tensor, ends: Sequence[int]) -> Tensor:
        """Text features ``(K + 1, E, C)`` of ``prompts`` ``(K + 1, E, 77, D)``."""
        depth, count, _ = self.tokens.shape
        layers = len(text.transformer.resblocks)
        insert = insert_tokens(self.tokens, self.carry)

        def insert_then_drop(index: int, x: Tensor) -> Tensor:
            # The released code takes the tokens out again one layer after the last that gets new ones.
            return torch.cat([x[:, :1], x[:, 1 + count :]], dim=1) if index == depth + 1 else insert(index, x)

        if not self.released:
            return text(prompts, [[end + count] for end in ends], before_block=insert)
        # With tokens up to the last layer nothing is taken out, and the position that is read was not moved along.
        shift = count if depth == layers - 1 else 0
        return text(prompts, [[end + shift] for end in ends], before_block=insert_then_drop, causal=False)
