# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The small CLIP that comes with the package is the one that its card describes."""

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import anomalib_zsad
from anomalib_zsad.clip.archive import sha256_of_file
from anomalib_zsad.clip.sources import BUNDLED, pretrained_tags
from anomalib_zsad.clip.tokenizer import tokenize
from anomalib_zsad.clip.weights import OWN, load_clip, read_weights
from anomalib_zsad.pretraining.recipe import SIZES, Pupil, Recipe, advance, optimizers
from anomalib_zsad.pretraining.texts import Vocabulary, all_sentences
from anomalib_zsad.pretraining.views import SEEN_CLASSES, SEEN_DEFECTS, ViewsOfSteps

FILE = BUNDLED["surfaces-tiny", "v4"]
CARD = (FILE.parent / "README.md").read_text(encoding="utf-8")


def test_it_is_small_and_the_one_of_the_card():
    assert FILE.stat().st_size < 12e6
    assert sha256_of_file(FILE) in CARD
    with safe_open(FILE, "pt") as file:
        recipe = Recipe(**json.loads(file.metadata()["recipe"]))
    assert recipe == Recipe(), "the recipe in the package made the weights in the package"
    assert f"{recipe.steps:,} steps" in CARD
    with (FILE.parent / "losses.csv").open(encoding="utf-8") as file:
        last = int(list(csv.DictReader(file))[-1]["step"])
    assert last < recipe.steps <= last + 25


def test_it_is_the_default_of_its_backbone_and_named_everywhere(monkeypatch):
    def refuse(*_args):
        raise AssertionError

    monkeypatch.setattr("socket.socket.connect", refuse)
    weights = read_weights("surfaces-tiny")
    assert weights.file == FILE
    assert pretrained_tags("surfaces-tiny")["v4"].activation == weights.activation == "gelu"
    assert load_clip("surfaces-tiny").name == "surfaces-tiny/v4"
    with pytest.raises(ValueError, match=r"no weights 'v9' for surfaces-tiny\. There are v4"):
        read_weights("surfaces-tiny", "v9")


def test_it_has_the_layout_of_the_large_ones():
    sizes = OWN["surfaces-tiny"]
    assert sizes.vision.layers >= 8
    assert sizes.vision.image_size == 224
    assert sizes.text.context_length == 77
    assert sizes.text.width == sizes.embed_dim, "as in OpenAI's models"
    weights = read_weights("surfaces-tiny")
    assert weights.state_dict["token_embedding.weight"].shape == (49408, sizes.text.width)
    assert all(torch.isfinite(value).all() for value in weights.state_dict.values())


def states(clip, flawless, faulty):
    """Directions from the sentences for flawless things to those for faulty ones, one for each class word."""

    def encode(sentence):
        names = ("object", "metal nut", "wood", "carpet")
        return torch.nn.functional.normalize(clip.encode_text(tokenize([sentence.format(n) for n in names])), dim=-1)

    with torch.no_grad():
        return torch.nn.functional.normalize(encode(faulty) - encode(flawless), dim=-1)


@pytest.mark.parametrize(("weights", "knows"), [(None, True), ("random:0", False)])
def test_different_words_for_the_same_state_mean_the_same(weights, knows):
    clip = load_clip("surfaces-tiny", weights)
    adjectives = states(clip, "a photo of a flawless {}", "a photo of a damaged {}")
    nouns = states(clip, "a photo of a {} without defect", "a photo of a {} with defect")
    likeness = (adjectives * nouns).sum(1)
    assert likeness.min() > 0.9 if knows else likeness.max() < 0.5


def test_a_word_that_it_has_never_read_is_like_any_other_such_word():
    clip = load_clip("surfaces-tiny")
    with torch.no_grad():
        features = clip.encode_text(tokenize([f"a flawless {word}" for word in ("zeppelin", "violin")]))
    assert torch.equal(features[0], features[1])


def test_the_first_steps_of_its_training_can_be_met_again():
    with (FILE.parent / "losses.csv").open(encoding="utf-8") as file:
        recorded = list(csv.DictReader(file))
    recipe = Recipe()
    vocabulary = Vocabulary(all_sentences(SEEN_CLASSES, SEEN_DEFECTS))

    def steps(seed):
        pupil = Pupil(vocabulary, seed)
        tools = optimizers(pupil, recipe)
        views = ViewsOfSteps(SIZES.vision.image_size, recipe.small, SIZES.vision.patch_size, recipe.batch, seed)
        return [advance(pupil, tools, recipe, vocabulary, step, views[step]) for step in range(2)]

    def gaps(seed):
        return [
            abs(losses[name] - float(row[name])) / float(row[name])
            for row, losses in zip(recorded, steps(seed), strict=False)
            for name in losses
            if row[name]
        ]

    # bfloat16 has 8 bits, and processors sum in their own order
    assert max(gaps(recipe.seed)) < 0.01
    assert max(gaps(recipe.seed + 1)) > 0.02


def test_the_license_stands_in_the_card():
    assert "Apache-2.0" in CARD
    assert (Path(anomalib_zsad.__file__).parents[1] / "LICENSE").is_file() or "site-packages" in anomalib_zsad.__file__
