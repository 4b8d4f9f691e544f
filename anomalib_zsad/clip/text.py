# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""CLIP's text tower, fed with embeddings, and the assembly of prompts around a class word."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from anomalib_zsad.clip.blocks import BeforeBlock, Transformer
from anomalib_zsad.clip.tokenizer import EOT, SOS

if TYPE_CHECKING:
    from anomalib_zsad.clip.config import Activation, ClipConfig


class TextTower(nn.Module):
    """Causal transformer that reads a prompt at its end-of-text token.

    It runs only to the last end-of-text position: behind it nothing can change the result of a causal tower.

    Args:
        config (ClipConfig): Sizes.
        activation (Activation): Activation of the MLPs.
    """

    def __init__(self, config: ClipConfig, activation: Activation) -> None:
        super().__init__()
        size = config.text
        self.token_embedding = nn.Embedding(size.vocab_size, size.width)
        self.positional_embedding = nn.Parameter(torch.empty(size.context_length, size.width))
        self.transformer = Transformer(size.width, size.layers, size.heads, activation)
        self.ln_final = nn.LayerNorm(size.width)
        self.text_projection = nn.Parameter(torch.empty(size.width, config.embed_dim))
        self._rows: dict[tuple[str, torch.device, torch.dtype], Tensor] = {}

    @property
    def width(self) -> int:
        """Width ``W`` of a token embedding."""
        return self.positional_embedding.shape[1]

    def embed(self, ids: Tensor | Sequence[Any]) -> Tensor:
        """Token embeddings ``(..., W)`` of ``ids`` ``(...)``, without positions.

        The rows of (nested) plain numbers are kept, so that an exported graph holds a few rows of the token table as a
        constant and not the table.
        """
        if isinstance(ids, Tensor):
            return self.token_embedding(ids)
        table = self.token_embedding.weight
        key = (repr(ids), table.device, table.dtype)
        rows = self._rows.get(key)
        if rows is None:
            rows = self.token_embedding(torch.tensor(ids, device=table.device))
            if not torch.compiler.is_compiling():  # a traced tensor must not outlive its trace
                if len(self._rows) >= 256:
                    self._rows.clear()
                self._rows[key] = rows
        return rows

    def forward(
        self,
        prompts: Tensor,
        eot: int | Sequence[Any],
        *,
        before_block: BeforeBlock | None = None,
        causal: bool = True,
        shared: int = 0,
    ) -> Tensor:
        """Encode prompts given as embeddings.

        Args:
            prompts (Tensor): ``(..., L, W)`` token embeddings without positions, ``L`` at most the context length.
            eot (int | Sequence): Position that is read: one for all prompts, or (nested) integers that broadcast
                against the leading dimensions of ``prompts``. Plain numbers, so that the length is known when a graph
                is exported. Counted in the stream that leaves the last block.
            before_block (BeforeBlock | None): Edits the stream ``(N, L, W)`` before a block. With ``shared``, the
                stream holds the shared tokens once, then the other tokens of one prompt after the other.
            causal (bool): Attend to earlier tokens only, as CLIP was trained.
            shared (int): Number of first tokens that are the same in all prompts along the last leading dimension. A
                causal tower makes the same of them in each, so they are encoded once.

        Returns:
            Tensor: ``(..., C)`` text features, not normalised.
        """
        leading, (length, width) = prompts.shape[:-2], prompts.shape[-2:]
        if causal:
            length = min(length, int(np.max(eot)) + 1)
        if length > len(self.positional_embedding):
            msg = f"The prompt has {length} tokens, the text tower has {len(self.positional_embedding)} positions."
            raise ValueError(msg)
        x = prompts[..., :length, :] + self.positional_embedding[:length]
        if shared:  # tokens of the prompts, one after the other, behind the tokens that they share
            prompts_in_row, own = leading[-1], length - shared
            x = torch.cat([x[..., 0, :shared, :], x[..., shared:, :].flatten(-3, -2)], dim=-2)
        else:
            prompts_in_row, own = 1, 0
        x = x.reshape(-1, x.shape[-2], width)
        read = torch.tensor(eot, device=x.device).expand(leading).reshape(-1, prompts_in_row)
        read = read + own * torch.arange(prompts_in_row, device=x.device)

        visible: Tensor | None = None
        last = len(self.transformer.resblocks) - 1
        for index, block in enumerate(self.transformer):
            if before_block is not None:
                x = before_block(index, x)
            if causal and (visible is None or len(visible) != x.shape[1]):
                sight = _sight(x.shape[1] - own * prompts_in_row, own, prompts_in_row)
                visible = torch.tensor(sight, device=x.device)
            if index < last:
                x = block(x, visible=visible)
            else:  # of the last block, only what is read is needed
                x = block(x, visible=None if visible is None else visible[read][:, None], at=read)
        return self.ln_final(x.reshape(*leading, width)) @ self.text_projection


@lru_cache(maxsize=64)
def _sight(shared: int, own: int, prompts: int) -> np.ndarray:
    """Which token sees which ``(T, T)``: those before it, but for the own tokens of other prompts."""
    prompt = np.repeat(np.arange(prompts + 1), [shared, *[own] * prompts])  # 0: shared
    return np.tri(len(prompt), dtype=bool) & ((prompt == 0) | (prompt == prompt[:, None]))


def assemble_prompts(
    text: TextTower,
    prefix: Tensor,
    words: Sequence[Sequence[int]],
    suffix: Tensor | None = None,
) -> tuple[Tensor, list[int]]:
    """Put ``[SOS] prefix word suffix [EOT]`` together for one word or for one word per image.

    Args:
        text (TextTower): Tower whose token table is used.
        prefix (Tensor): ``(B, ..., P, W)`` learnable vectors before the word.
        words (Sequence[Sequence[int]]): Token ids of the class words, one entry for all or ``B`` entries.
        suffix (Tensor | None): ``(B, ..., Q, W)`` learnable vectors behind the word, shaped like ``prefix`` but for Q.

    Returns:
        tuple[Tensor, list[int]]: Embeddings ``(B, ..., L, W)``, ``L`` the longest prompt, shorter ones padded behind
        their end; and the end-of-text position for each of ``words``.
    """
    before = prefix.shape[-2]
    behind = 0 if suffix is None else suffix.shape[-2]
    longest = max(map(len, words))
    inner = (1,) * (prefix.ndim - 3)
    table = text.embed([[SOS, EOT, *word, *[EOT] * (longest - len(word))] for word in words])  # (B or 1, 2 + N, W)
    table = table.reshape(len(words), *inner, *table.shape[1:]).expand(*prefix.shape[:-2], -1, -1)
    bank = torch.cat([table, prefix] if suffix is None else [table, prefix, suffix], dim=-2)

    start, stop = 2 + longest, 2 + longest + before  # where the prefix lies in the bank
    order, ends = [], []
    for word in words:
        body = [*range(start, stop), *range(2, 2 + len(word)), *range(stop, stop + behind)]
        ends.append(1 + len(body))
        order.append([0, *body, 1] + [1] * (longest - len(word)))
    index = torch.tensor(order, device=bank.device).reshape(len(words), *inner, -1, 1)
    prompts = bank.gather(-2, index.expand(*bank.shape[:-2], -1, bank.shape[-1]))
    return prompts, ends
