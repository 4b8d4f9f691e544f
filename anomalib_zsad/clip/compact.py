# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""A token table of which few rows were trained, without the rest.

CLIP's table has 49,408 rows; a small CLIP that saw a few hundred words needs no more. A compact file holds, in place
of ``token_embedding.weight``, the trained ``token_embedding.rows`` ``(1 + N, W)`` and their numbers
``token_embedding.ids`` ``(N,)``; row 0 stands for every other token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

WHOLE, ROWS, IDS = (f"token_embedding.{part}" for part in ("weight", "rows", "ids"))


def compact(tensors: Mapping[str, Tensor], ids: Sequence[int]) -> dict[str, Tensor]:
    """What is written to a file: half precision, the table of the tokens ``ids`` under its compact name.

    Args:
        tensors (Mapping[str, Tensor]): OpenAI layout, but with a token table ``(1 + N, W)``.
        ids (Sequence[int]): CLIP's numbers of the tokens in rows 1 to ``N``.
    """
    small = {name: value.detach().half().contiguous().cpu() for name, value in tensors.items()}
    small[ROWS] = small.pop(WHOLE)
    small[IDS] = torch.tensor(ids, dtype=torch.int32)
    return small


def expand(tensors: Mapping[str, Tensor], vocab_size: int) -> dict[str, Tensor]:
    """The whole table from a compact file; tensors of any other file as they are."""
    if not {ROWS, IDS} <= tensors.keys():
        return dict(tensors)
    rows = tensors[ROWS]
    table = rows[:1].repeat(vocab_size, 1)
    table[tensors[IDS].long()] = rows[1:]
    return {name: value for name, value in tensors.items() if name not in {ROWS, IDS}} | {WHOLE: table}
