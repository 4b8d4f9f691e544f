# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""CLIP's byte-pair tokenizer, from open_clip."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anomalib_zsad.requirements import explained

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer

SOS = 49406
EOT = 49407


@cache
def _tokenizer() -> SimpleTokenizer:
    with explained():
        from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def word_ids(text: str) -> list[int]:
    """Token ids of ``text`` alone, without start and end of text.

    >>> word_ids("metal nut")
    [4044, 6491]
    """
    return _tokenizer().encode(text)


def tokenize(texts: str | Sequence[str], context_length: int = 77) -> Tensor:
    """Token ids of whole prompts, the input of ``Clip.encode_text``.

    Args:
        texts (str | Sequence[str]): One prompt or several.
        context_length (int): Positions of the text tower.

    Returns:
        Tensor: ``(N, context_length)`` int64: start of text, the prompt, end of text, zeros.

    Raises:
        ValueError: If a prompt does not fit; nothing is cut off silently.
    """
    texts = [texts] if isinstance(texts, str) else texts
    ids = torch.zeros(len(texts), context_length, dtype=torch.long)
    for row, text in zip(ids, texts, strict=True):
        tokens = [SOS, *word_ids(text), EOT]
        if len(tokens) > context_length:
            msg = (
                f"The prompt {text!r} has {len(tokens)} tokens with start and end of text, the text tower has "
                f"{context_length} positions. Shorten it by {len(tokens) - context_length}."
            )
            raise ValueError(msg)
        row[: len(tokens)] = torch.tensor(tokens)
    return ids
