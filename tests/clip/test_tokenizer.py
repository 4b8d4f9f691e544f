# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The tokenizer against open_clip's own."""

import subprocess
import sys

import open_clip
import pytest
import torch

from anomalib_zsad.clip.tokenizer import EOT, SOS, tokenize, word_ids

TEXTS = [
    "",
    " ",
    "hazelnut",
    "a photo of a damaged hazelnut.",
    "A  PHOTO\tof\na  Transistor ",
    "metal_nut",
    "pcb-4 (with 3 bent pins), isn't it?",
    "naïve café, größe, 欠陥のある瓶, дефект",
    "caf\u00c3\u00a9",  # broken encoding that ftfy repairs
    "&lt;scratch&gt; &amp; dent",
    "🙂🔧",
    "0.25mm",
    "<start_of_text>bottle<end_of_text>",
    "hole " * 75,
]


@pytest.mark.parametrize("text", TEXTS)
def test_equals_open_clip(text):
    expected = open_clip.tokenizer.tokenize(text)
    assert torch.equal(tokenize(text), expected)
    assert torch.equal(torch.tensor([SOS, *word_ids(text), EOT]), expected[0, : 2 + len(word_ids(text))])


def test_many_texts_and_other_context():
    assert torch.equal(tokenize(TEXTS), open_clip.tokenizer.tokenize(TEXTS))
    assert torch.equal(tokenize(tuple(TEXTS[:4]), 16), open_clip.tokenizer.tokenize(TEXTS[:4], 16))
    assert tokenize([]).shape == (0, 77)


def test_end_of_text_is_the_largest_id():
    ids = tokenize(TEXTS[:4])
    assert ids.argmax(dim=-1).tolist() == [1 + len(word_ids(text)) for text in TEXTS[:4]]


def test_a_prompt_that_does_not_fit_is_named():
    text = "hole " * 76
    with pytest.raises(ValueError, match=r"hole hole .* has 78 tokens .* 77 positions\. Shorten it by 1"):
        tokenize(["fine", text])
    with pytest.raises(ValueError, match=r"'a hazelnut' has 4 tokens .* 3 positions"):
        tokenize("a hazelnut", 3)


def test_open_clip_is_not_imported_until_used():
    code = "import sys, anomalib_zsad.clip.tokenizer; sys.exit('open_clip' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
