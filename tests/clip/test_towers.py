# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What the towers do beyond open_clip's, against naive versions of it."""

import numpy as np
import pytest
import torch

from anomalib_zsad.clip.blocks import insert_tokens, overwrite_tokens
from anomalib_zsad.clip.model import Clip
from anomalib_zsad.clip.text import assemble_prompts
from anomalib_zsad.clip.tokenizer import EOT, SOS, tokenize, word_ids
from anomalib_zsad.clip.vision import resample_positions
from anomalib_zsad.clip.weights import load_clip, read_weights


@pytest.fixture(scope="module")
def clip():
    return load_clip("tiny-random", image_size=112).double()


def kernel(mode: str, x: float) -> float:
    """Weight of a neighbour at distance ``x``: linear, or cubic with the two customary constants."""
    x = abs(x)
    if mode == "bilinear":
        return max(0.0, 1 - x)
    a = -0.5 if mode == "bicubic_antialias" else -0.75
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


@pytest.mark.parametrize("mode", ["bicubic_antialias", "bicubic", "bilinear"])
def test_positions_are_resampled_as_named(mode: str) -> None:
    native, grid, width = 5, 8, 3
    positions = torch.randn(1 + native**2, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix = np.zeros((grid, native))
    for i in range(grid):
        centre = (i + 0.5) * native / grid - 0.5
        for j in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            inside = 0 <= j < native
            if mode == "bicubic_antialias" and not inside:
                continue  # weights outside are dropped and the rest renormalised; elsewhere the border is repeated
            matrix[i, min(max(j, 0), native - 1)] += kernel(mode, j - centre)
    matrix /= matrix.sum(axis=1, keepdims=True)
    table = positions[1:].numpy().reshape(native, native, width)
    wanted = np.einsum("ij,kl,jlw->ikw", matrix, matrix, table).reshape(-1, width)
    got = resample_positions(positions, grid, mode)
    np.testing.assert_allclose(got[1:], wanted, atol=1e-12)
    assert torch.equal(got[0], positions[0])


def test_text_behind_the_end_changes_nothing(clip) -> None:
    ids = tokenize("a photo of a metal nut")
    end = int(ids.argmax())
    whole = clip.text.embed(ids)
    noise = whole.clone()
    noise[:, end + 1 :] = torch.randn_like(noise[:, end + 1 :])
    wanted = clip.text(whole, end)
    torch.testing.assert_close(clip.text(noise, end), wanted, rtol=0, atol=0)
    torch.testing.assert_close(clip.text(whole[:, : end + 1], end), wanted, rtol=0, atol=0)
    assert not torch.allclose(clip.text(noise, end, causal=False), wanted)


def test_prompts_are_put_together_around_words_of_any_length(clip) -> None:
    prefix, suffix = torch.randn(2, 3, 4, 64).double(), torch.randn(2, 3, 5, 64).double()
    names = ["nut", "printed circuit board"]
    prompts, ends = assemble_prompts(clip.text, prefix, [word_ids(name) for name in names], suffix)
    for i, name in enumerate(names):
        word = word_ids(name)
        assert ends[i] == 1 + 4 + len(word) + 5
        for k in range(3):
            rows = [clip.text.embed([SOS]), prefix[i, k], clip.text.embed(word), suffix[i, k], clip.text.embed([EOT])]
            torch.testing.assert_close(prompts[i, k, : ends[i] + 1], torch.cat(rows))


def test_the_value_path_adds_value_attention_of_the_plain_stream(clip) -> None:
    images = torch.randn(1, 3, 112, 112, dtype=torch.float64)
    first = 3
    streams: list[torch.Tensor] = []
    plain = clip.visual(images, before_block=lambda _, x: streams.append(x) or x)  # what enters each block
    value = streams[first - 1].clone()
    for number in range(first, len(streams) + 1):
        block = clip.visual.transformer.resblocks[number - 1]
        normed = block.ln_1(streams[number - 1])[0]
        width = normed.shape[1]
        v = normed @ block.attn.in_proj_weight[2 * width :].T + block.attn.in_proj_bias[2 * width :]
        heads = v.reshape(len(v), block.attn.heads, -1).transpose(0, 1)
        weights = (heads @ heads.mT / heads.shape[-1] ** 0.5).softmax(dim=-1)
        mixed = (weights @ heads).transpose(0, 1).reshape(len(v), width)
        value = value + mixed @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
    got = clip.visual(images, taps=(len(streams),), value_path_from=first)
    torch.testing.assert_close(got.patches[0], value[:, 1:])
    torch.testing.assert_close(got.cls, plain.cls)


def test_extra_tokens_are_inserted_or_overwrite(clip) -> None:
    x = torch.arange(6.0).reshape(1, 6, 1)
    tokens = torch.tensor([[[10.0], [20.0]], [[30.0], [40.0]]])  # two blocks, two tokens
    insert = insert_tokens(tokens, carry=0.25)
    first = insert(0, x)
    assert first.flatten().tolist() == [0, 10, 20, 1, 2, 3, 4, 5]
    assert insert(1, first).flatten().tolist() == [0, 25, 35, 1, 2, 3, 4, 5]
    assert insert(2, first) is first
    overwrite = overwrite_tokens(tokens)
    assert overwrite(0, x) is x
    assert overwrite(2, x).flatten().tolist() == [0, 30, 40, 3, 4, 5]
    images = torch.randn(2, 3, 112, 112, dtype=torch.float64)
    deep = insert_tokens(torch.randn(8, 4, 64, dtype=torch.float64))
    assert clip.visual(images, taps=(4,), before_block=deep).patches[0].shape == (2, 64, 64)


@pytest.mark.parametrize("taps", [(2, 5), (8,), (5, 2)])
@pytest.mark.parametrize("value_path_from", [None, 2])
def test_stopping_behind_the_last_tap_leaves_the_taps_exactly_as_they_are(clip, taps, value_path_from) -> None:
    images = torch.randn(2, 3, 112, 112, dtype=torch.float64)
    ran: list[int] = []
    hooks = [
        block.ln_2.register_forward_hook(lambda *_, number=number: ran.append(number))
        for number, block in enumerate(clip.visual.transformer, start=1)
    ]
    whole = clip.visual(images, taps=taps, value_path_from=value_path_from)
    assert ran == list(range(1, 9))
    ran.clear()
    short = clip.visual(images, taps=taps, value_path_from=value_path_from, stop=True)
    for hook in hooks:
        hook.remove()
    assert ran == list(range(1, max(taps) + 1))
    assert all(torch.equal(a, b) for a, b in zip(short.patches, whole.patches, strict=True))
    assert torch.equal(short.cls, whole.cls) == (max(taps) == 8)


@pytest.mark.parametrize("name", ["visual.positional_embedding", "logit_scale", "ln_final.bias"])
def test_weights_that_lack_or_have_another_shape_are_named(name: str) -> None:
    weights = read_weights("tiny-random")
    others = {key: value for key, value in weights.state_dict.items() if key != name}
    for state, found in ((others, "nothing"), (others | {name: torch.zeros(3, 5)}, r"\(3, 5\)")):
        with pytest.raises(ValueError, match=f"CLIP weight {name} should have shape .*, found {found}"):
            Clip(weights.config, state, activation="gelu", image_size=112)


@pytest.mark.parametrize(("height", "width"), [(224, 224), (56, 224), (115, 115)])  # the last two: as many patches
def test_images_of_another_size_are_refused(clip, height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"112 x 112 pixels and got {height} x {width}"):
        clip.visual(torch.rand(1, 3, height, width, dtype=torch.float64))
