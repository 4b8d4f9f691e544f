# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Sentences of the pre-training and their compact vocabulary."""

import torch

from anomalib_zsad.clip.compact import compact, expand
from anomalib_zsad.clip.tokenizer import EOT, SOS, tokenize, word_ids
from anomalib_zsad.data.surfaces import CLASSES, DEFECTS
from anomalib_zsad.pretraining.texts import ANOMALOUS_STATES, UNKNOWN, Vocabulary, Writer, all_sentences
from anomalib_zsad.pretraining.views import FOREIGN, SEEN_CLASSES, SEEN_DEFECTS

VOCABULARY = Vocabulary(all_sentences(SEEN_CLASSES, SEEN_DEFECTS))


def test_everything_that_is_written_is_in_the_vocabulary():
    for number in range(300):
        writer = Writer(f"{number}")
        name = SEEN_CLASSES[number % len(SEEN_CLASSES)]
        fault = SEEN_DEFECTS[number % len(SEEN_DEFECTS)]
        sentences = [*writer.states(name), writer.caption(name, ""), writer.caption(name, fault)]
        sentences += [*writer.kinds(name, SEEN_DEFECTS), writer.caption(name, FOREIGN)]
        rows, _ = VOCABULARY.encode(sentences)  # a token that is not in it raises KeyError
        assert ((rows == 0).any(1) == torch.tensor([UNKNOWN in text for text in sentences])).all()


def test_of_a_foreign_patch_the_caption_says_no_more_than_that_something_is_wrong():
    for number in range(50):
        caption = Writer(f"{number}").caption("wood", FOREIGN)
        assert FOREIGN not in caption
        assert any(word in caption for word in ("wood", *CLASSES["wood"].words))
        assert any(state.format("").strip() in caption for state in ANOMALOUS_STATES)


def test_no_word_of_an_unseen_class_or_defect_is_learned():
    """What only unseen things are called has no row of its own: unseen stays unseen."""
    seen = {word for name in SEEN_CLASSES for word in (name, *CLASSES[name].words)}
    common = {token for text in all_sentences(SEEN_CLASSES, SEEN_DEFECTS) for token in word_ids(text)}
    for table in (CLASSES, DEFECTS):
        for name, entry in table.items():
            if entry.group == "unseen" and name not in seen:
                assert set(word_ids(name)) - common, f"{name} can be spelt with seen words"


def test_rows_stand_for_the_tokens_of_the_real_tokenizer():
    text = "a photo of a flawless metal nut"
    rows, ends = VOCABULARY.encode([text, f"a {UNKNOWN}"])
    ids = torch.tensor([0, *VOCABULARY.ids])
    assert ids[rows[0]].tolist() == tokenize(text)[0, : ends[0] + 1].tolist()
    assert ids[rows[1, : ends[1] + 1]].tolist() == [SOS, *word_ids("a"), 0, EOT]


def test_a_compact_table_expands_to_trained_rows_and_one_row_for_the_rest():
    table = torch.randn(4, 8)
    small = compact({"token_embedding.weight": table, "ln_final.bias": torch.ones(8)}, [5, 9, 11])
    whole = expand(small, 20)
    assert set(whole) == {"token_embedding.weight", "ln_final.bias"}
    weight = whole["token_embedding.weight"]
    assert weight.shape == (20, 8)
    assert torch.equal(weight[[5, 9, 11]], table[1:].half())
    others = [i for i in range(20) if i not in {5, 9, 11}]
    assert (weight[others] == table[0].half()).all()


def test_tensors_that_are_not_compact_stay_as_they_are():
    tensors = {"token_embedding.weight": torch.randn(3, 2)}
    assert expand(tensors, 3)["token_embedding.weight"] is tensors["token_embedding.weight"]
