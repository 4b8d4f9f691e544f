# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Transformer blocks in the OpenAI layout, the part that both CLIP towers share.

The parameter names (``attn.in_proj_weight``, ``ln_1``, ``mlp.c_fc`` ...) are those of the published weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

if TYPE_CHECKING:
    from anomalib_zsad.clip.config import Activation

BeforeBlock = Callable[[int, Tensor], Tensor]
"""Called with the 0-based number of a block and the tokens ``(B, L, D)`` that enter it; returns the tokens to use."""


class Attention(nn.Module):
    """Multi-head self-attention with the fused input projection of ``nn.MultiheadAttention``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, L, D / heads)

    def _merge(self, x: Tensor) -> Tensor:
        return self.out_proj(x.transpose(1, 2).flatten(2))

    def _qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        return self._split(q), self._split(k), self._split(v)

    def forward(self, x: Tensor, *, visible: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """Query-key-value attention of ``x`` ``(B, L, D)``; arguments as :meth:`Block.forward`."""
        q, k, v = self._qkv(x)
        if at is not None:
            q = q.gather(2, at[:, None, :, None].expand(-1, self.heads, -1, q.shape[-1]))
        return self._merge(F.scaled_dot_product_attention(q, k, v, attn_mask=visible))

    def dual(self, x: Tensor, queries: int | None = None) -> tuple[Tensor, Tensor]:
        """Query-key-value attention of the first ``queries`` tokens (by default all) and value-value attention.

        Both go through ``out_proj``.
        """
        q, k, v = self._qkv(x)
        plain = F.scaled_dot_product_attention(q if queries is None else q[:, :, :queries], k, v)
        value = F.scaled_dot_product_attention(v, v, v)
        return self._merge(plain), self._merge(value)


class MLP(nn.Module):
    """Two linear maps with the activation that the weights were trained with."""

    def __init__(self, width: int, activation: Activation) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)
        self.quick = activation == "quick_gelu"

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, L, D)`` to ``(B, L, D)``."""
        x = self.c_fc(x)
        return self.c_proj(x * torch.sigmoid(1.702 * x) if self.quick else F.gelu(x))


class Block(nn.Module):
    """Pre-norm residual block."""

    def __init__(self, width: int, heads: int, activation: Activation) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = MLP(width, activation)
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, *, visible: Tensor | None = None, at: Tensor | None = None) -> Tensor:
        """One step of the plain path.

        Args:
            x (Tensor): ``(B, L, D)``.
            visible (Tensor | None): ``(Q, L)`` or ``(B, 1, Q, L)``, true where a query sees a token; all by default.
            at (Tensor | None): ``(B, Q)`` positions of the tokens that are carried on; all by default.

        Returns:
            Tensor: ``(B, Q, D)``.
        """
        attended = self.attn(self.ln_1(x), visible=visible, at=at)
        x = attended + (x if at is None else x.gather(1, at[..., None].expand(-1, -1, x.shape[-1])))
        return x + self.mlp(self.ln_2(x))

    def dual(self, x: Tensor, value: Tensor, keep: int | None = None) -> tuple[Tensor, Tensor]:
        """One step of both paths: the value path adds the V-V attention of the plain stream and has no MLP.

        Only the first ``keep`` tokens of the plain stream are carried on; all by default.
        """
        plain, value_value = self.attn.dual(self.ln_1(x), keep)
        x = x[:, :keep] + plain
        return x + self.mlp(self.ln_2(x)), value + value_value


class Transformer(nn.Module):
    """A stack of blocks; its only job is to give the parameters their published names."""

    def __init__(self, width: int, layers: int, heads: int, activation: Activation) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, activation) for _ in range(layers))

    def __iter__(self) -> Iterator[Block]:
        """Block after block."""
        return iter(self.resblocks)  # type: ignore[arg-type]


def insert_tokens(tokens: Tensor, carry: float = 0.0) -> BeforeBlock:
    """Extra tokens that enter right behind the first token and are renewed before every block.

    Before block 0 the ``T`` tokens of that block are inserted; before block ``i > 0`` the stream's extra tokens become
    ``carry * stream + (1 - carry) * tokens[i]``. From block ``len(tokens)`` on they are left alone.

    Args:
        tokens (Tensor): ``(N, T, D)``, one set for each of the first ``N`` blocks.
        carry (float): Share of the previous block's output that is kept, in [0, 1].
    """
    count = tokens.shape[1]

    def before_block(index: int, x: Tensor) -> Tensor:
        if index >= len(tokens):
            return x
        new = tokens[index].expand(x.shape[0], -1, -1)
        if index == 0:
            return torch.cat([x[:, :1], new, x[:, 1:]], dim=1)
        extra = carry * x[:, 1 : 1 + count] + (1 - carry) * new
        return torch.cat([x[:, :1], extra, x[:, 1 + count :]], dim=1)

    return before_block


def overwrite_tokens(tokens: Tensor, first_block: int = 1) -> BeforeBlock:
    """Tokens that overwrite the positions behind the first token before blocks ``first_block, first_block + 1, ...``.

    Args:
        tokens (Tensor): ``(N, T, D)``, one set for each of ``N`` consecutive blocks.
        first_block (int): 0-based number of the first block that gets a set.
    """
    count = tokens.shape[1]

    def before_block(index: int, x: Tensor) -> Tensor:
        if not first_block <= index < first_block + len(tokens):
            return x
        new = tokens[index - first_block].expand(x.shape[0], -1, -1)
        return torch.cat([x[:, :1], new, x[:, 1 + count :]], dim=1)

    return before_block
