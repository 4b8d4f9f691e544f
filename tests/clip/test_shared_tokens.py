# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Prompts that begin alike: encoding the common tokens once gives what encoding every prompt by itself gives."""

import numpy as np
import pytest
import torch

from anomalib_zsad.clip.blocks import overwrite_tokens
from anomalib_zsad.clip.weights import load_clip

SHARED, LENGTH, PROMPTS = 4, 9, 3


@pytest.fixture(scope="module")
def text():
    return load_clip("tiny-random", image_size=56).double().text


@pytest.fixture
def prompts(text) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(2, 1, SHARED, text.width, generator=generator, dtype=torch.float64)
    own = torch.randn(2, PROMPTS, LENGTH - SHARED, text.width, generator=generator, dtype=torch.float64)
    return torch.cat([first.expand(-1, PROMPTS, -1, -1), own], dim=-2)


@pytest.mark.parametrize("eot", [8, 6, [[5, 8, 7]], [[5], [8]], [[6, 5, 4], [8, 7, 6]]])
@pytest.mark.parametrize("deep", [False, True])
def test_shared_tokens_change_no_feature_and_no_gradient(text, prompts, eot, deep: bool) -> None:
    edit = overwrite_tokens(torch.full((3, SHARED - 1, text.width), 0.1, dtype=torch.float64)) if deep else None
    ends = np.broadcast_to(eot, (2, PROMPTS))
    found = []
    for shared in (0, SHARED):
        given = prompts.clone().requires_grad_()
        features = text(given, eot, before_block=edit, shared=shared)
        features.square().sum().backward()
        found.append((features.detach(), given.grad[:, :, :SHARED].sum(dim=1), given.grad[:, :, SHARED:]))
    alone = [
        text(prompts[i, j, : ends[i, j] + 1], int(ends[i, j]), before_block=edit)
        for i in range(2)
        for j in range(PROMPTS)
    ]
    for got, wanted in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(found[1][0].flatten(0, 1), torch.stack(alone))


def test_the_last_block_computes_what_is_read_only(text, prompts) -> None:
    rows = []
    hooks = [
        block.mlp.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0].shape[:2].numel()))
        for block in text.transformer
    ]
    text(prompts, LENGTH - 1, shared=SHARED)
    for hook in hooks:
        hook.remove()
    packed = 2 * (SHARED + PROMPTS * (LENGTH - SHARED))
    assert rows == [packed] * (len(rows) - 1) + [2 * PROMPTS]
