# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The visually guided mixture of prompts (VGMoP)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from anomalib_zsad.models.promptmoe.config import PromptMoEConfig


class PromptMixture(nn.Module):
    """Router and expert pool of one layer and one state (Eqs. 2 and 3).

    Learnable queries attend to the visual tokens; the mean over the queries is routed to the ``top_k`` of
    ``num_experts`` learnable prompt segments, which are mixed with the softmax of their logits.

    Args:
        config (PromptMoEConfig): Numbers of queries, heads, experts.
        visual_width (int): Width ``D_x`` of the visual tokens.
        width (int): Width ``D`` of a token embedding.
        tokens (int): Vectors ``M`` of one segment.
    """

    def __init__(self, config: PromptMoEConfig, visual_width: int, width: int, tokens: int) -> None:
        super().__init__()
        self.top_k = config.top_k
        self.heads = config.num_heads
        self.queries = nn.Parameter(torch.empty(config.num_queries, width).normal_(std=0.02))
        self.key = nn.Linear(visual_width, width, bias=False)
        self.value = nn.Linear(visual_width, width, bias=False)
        self.router = nn.Sequential(
            nn.Linear(width, config.router_hidden), nn.ReLU(), nn.Linear(config.router_hidden, config.num_experts)
        )
        self.experts = nn.Parameter(torch.empty(config.num_experts, tokens, width).normal_(std=0.02))

    def summarise(self, visual: Tensor) -> Tensor:
        """Routing vector ``r`` ``(B, D)`` of ``visual`` tokens ``(B, 1 + L, D_x)``.

        Multi-head attention is linear in keys before the softmax and in values behind it. So the key map is applied to
        the few queries instead of all tokens, and the value map to the query mean instead of all tokens: the same
        numbers for about 1/1000 of the work.
        """
        query = self.queries.unflatten(1, (self.heads, -1)).transpose(0, 1)  # (heads, N_q, D / heads)
        key = self.key.weight.unflatten(0, (self.heads, -1))  # (heads, D / heads, D_x)
        value = self.value.weight.unflatten(0, (self.heads, -1))
        logits = (query @ key) @ visual.mT[:, None] * query.shape[-1] ** -0.5  # (B, heads, N_q, 1 + L)
        attention = logits.softmax(dim=-1).mean(dim=2)  # (B, heads, 1 + L)
        pooled = attention @ visual  # (B, heads, D_x)
        return (value @ pooled[..., None]).flatten(1)

    def forward(self, visual: Tensor) -> tuple[Tensor, Tensor]:
        """Mix a segment for each image.

        Args:
            visual (Tensor): ``(B, 1 + L, D_x)`` global and patch tokens.

        Returns:
            tuple[Tensor, Tensor]: Segment ``(B, M, D)`` and router logits ``(B, E)``.
        """
        logits = self.router(self.summarise(visual))
        best, chosen = logits.topk(self.top_k, dim=-1)
        weights = torch.zeros_like(logits).scatter(-1, chosen, best.softmax(dim=-1))
        return (weights @ self.experts.flatten(1)).unflatten(-1, self.experts.shape[1:]), logits
