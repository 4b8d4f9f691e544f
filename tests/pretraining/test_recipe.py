# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The recipe of the small CLIP."""

import json
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from anomalib_zsad.clip.weights import OWN, load_clip
from anomalib_zsad.pretraining.recipe import (
    FEATURE_LENGTH,
    SIZES,
    Pupil,
    Recipe,
    _balanced,
    _contrast,
    advance,
    dct_patches,
    reduced,
    train,
    write,
    write_backbone,
)
from anomalib_zsad.pretraining.texts import Vocabulary, all_sentences
from anomalib_zsad.pretraining.views import FOREIGN, SEEN_CLASSES, SEEN_DEFECTS, ViewsOfSteps

SMALL = Recipe(batch=8, schedule=((0, 0.5), (1, 1.0), (40, 0.0)))


def losses(folder):
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    return folder, train(SMALL, folder, until=4, workers=0)


def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(straight, tmp_path):
    folder, whole = straight
    train(SMALL, tmp_path, until=2, workers=0)
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"step": 2, "loss": 0.0}\n')  # a step that was logged, but not saved
    resumed = train(SMALL, tmp_path, until=4, workers=0)
    assert losses(tmp_path) == losses(folder)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_folder_of_another_recipe_is_refused(straight):
    folder, _ = straight
    with pytest.raises(ValueError, match="another recipe"):
        train(replace(SMALL, seed=8), folder, until=5, workers=0)


def test_what_is_written_is_what_was_trained(straight, tmp_path):
    _, pupil = straight
    path = write_backbone(pupil, SMALL, tmp_path / "clip.safetensors")
    clip = load_clip("surfaces-tiny", str(path))
    views = ViewsOfSteps(224, 112, 14, 8, 7)[4]
    with torch.no_grad():
        cls, *_ = pupil.see(views.images)
        mean, std = (
            torch.tensor([0.48145466, 0.4578275, 0.40821073]),
            torch.tensor([0.26862954, 0.26130258, 0.27577711]),
        )
        normalized = (views.images / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
        ours = clip.visual(normalized).cls
    assert F.cosine_similarity(cls, ours).min() > 0.999  # half precision


def test_sizes_are_those_of_the_backbone_but_for_the_joint_width():
    assert OWN["surfaces-tiny"] == replace(SIZES, embed_dim=SIZES.text.width)


def test_a_narrower_joint_space_changes_no_inner_product():
    rng = torch.Generator().manual_seed(0)
    towers = {"text_projection": torch.randn(6, 9, generator=rng), "visual.proj": torch.randn(8, 9, generator=rng)}
    text, image = torch.randn(5, 6, generator=rng), torch.randn(7, 8, generator=rng)
    narrow = reduced(towers)
    assert narrow["text_projection"].shape == (6, 6)
    expected = (image @ towers["visual.proj"]) @ (text @ towers["text_projection"]).T
    found = (image @ narrow["visual.proj"]) @ (text @ narrow["text_projection"]).T
    assert torch.allclose(found, expected, atol=1e-4)
    assert torch.allclose(
        (text @ narrow["text_projection"]).norm(dim=1), (text @ towers["text_projection"]).norm(dim=1)
    )


def test_sentences_of_a_step_fit_its_views():
    views = ViewsOfSteps(224, 112, 14, 16, 7)[0]
    sentences = write(views, SMALL, 0)
    assert len(set(sentences.texts)) == len(sentences.texts)
    assert len(sentences.kinds) == len(SEEN_DEFECTS)
    for index, (name, kind) in enumerate(zip(views.classes, views.defects, strict=True)):
        twins = [j for j in range(16) if (views.classes[j], views.defects[j]) == (name, kind)]
        assert {sentences.caption[j] for j in twins} == {sentences.caption[index]}
        assert sentences.normal[index] != sentences.anomalous[index]


def test_a_patch_of_no_known_kind_is_faulty_but_asked_for_no_kind():
    vocabulary = Vocabulary(all_sentences(SEEN_CLASSES, SEEN_DEFECTS))
    pupil = Pupil(vocabulary, 7).eval()
    views = ViewsOfSteps(224, 112, 14, 8, 7)[0]
    faulty = [index for index, kind in enumerate(views.defects) if kind]
    unnamed = faulty[0]
    relabelled = views._replace(defects=[FOREIGN if i == unnamed else kind for i, kind in enumerate(views.defects)])
    uncovered = views.coverage.clone()
    uncovered[unnamed] = 0.04  # neither faulty nor flawless

    sentences = write(views, SMALL, 0)

    def terms(labels):
        with torch.no_grad():
            return pupil(pupil.see(views.images), labels, sentences, *vocabulary.encode(sentences.texts))

    before, found, without = terms(views), terms(relabelled), terms(views._replace(coverage=uncovered))
    for name in ("state", "dense", "pool"):
        assert found[name] == pytest.approx(before[name].item(), abs=1e-6), name
    assert found["kind"] == pytest.approx(without["kind"].item(), abs=1e-5)
    assert found["kind"] != pytest.approx(before["kind"].item(), abs=1e-5)


def test_contrast_equals_the_sum_over_pairs():
    rng = np.random.default_rng(0)
    logits, own = rng.normal(size=(5, 7)), np.array([2, 4, 2, 6, 4])
    used = [2, 4, 6]
    shown = np.exp(logits[:, used])
    image = np.mean([-np.log(shown[i, used.index(own[i])] / shown[i].sum()) for i in range(5)])
    text = np.mean([
        np.mean([-np.log(shown[i, c] / shown[:, c].sum()) for i in range(5) if own[i] == used[c]]) for c in range(3)
    ])
    found = _contrast(torch.from_numpy(logits), torch.from_numpy(own))
    assert found.item() == pytest.approx((image + text) / 2, rel=1e-6)


def test_balanced_cross_entropy_weighs_both_kinds_alike():
    logits = torch.tensor([3.0, -1.0, 0.5, 2.0])
    faulty, clear = torch.tensor([True, False, False, False]), torch.tensor([False, True, True, False])
    expected = 0.5 * (np.log1p(np.exp(-3.0)) + np.mean(np.log1p(np.exp([-1.0, 0.5]))))
    assert _balanced(logits, faulty, clear).item() == pytest.approx(expected, rel=1e-6)


def test_the_patch_layer_starts_as_orthogonal_cosines():
    filters = dct_patches(SIZES.vision).flatten(1).double()
    gram = filters @ filters.T
    assert torch.allclose(gram, gram[0, 0] * torch.eye(len(gram), dtype=torch.float64), atol=1e-6)
    assert filters[0].std() == pytest.approx(0, abs=1e-7), "the first one is the mean"


def test_learning_rate_is_straight_between_the_steps_of_its_schedule():
    recipe = Recipe(schedule=[[0, 0.1], [9, 1], [70, 1], [100, 0]])
    assert recipe.steps == 100
    rates = [recipe.rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert rates[10:70] == [1.0] * 60
    assert rates[85] == pytest.approx(0.5)
    assert 0 < rates[99] < 0.05
    assert recipe.lasting(200).schedule == ((0, 0.1), (18, 1.0), (140, 1.0), (200, 0.0))


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("step", [0, 1, 4])  # pieces, pieces behind the value path, whole pictures
def test_pictures_seen_side_by_side_train_as_those_seen_at_once(monkeypatch, threads, step):
    monkeypatch.setattr("torch.autocast", lambda *_args: nullcontext())  # float32: rounding does not hide an error
    vocabulary = Vocabulary(all_sentences(SEEN_CLASSES, SEEN_DEFECTS))
    views = ViewsOfSteps(224, 112, 14, 8 if step != 4 else 32, 7)[step]

    def once(threads):
        pupil = Pupil(vocabulary, 7)
        tools = [torch.optim.SGD(pupil.parameters(), lr=0.0)]
        tools[0].param_groups[0]["full"] = 1.0
        losses = advance(pupil, tools, SMALL, vocabulary, step, views, threads)
        return losses, pupil.state_dict()

    (together, expected), (apart, found) = once(1), once(threads)
    assert apart == pytest.approx(together, abs=2e-4)
    start = Pupil(vocabulary, 7).state_dict()
    for name, value in expected.items():
        step_taken = (value - start[name]).norm()
        assert (found[name] - value).norm() <= 1e-3 * step_taken + 1e-7, name
    assert (expected["visual.conv1.weight"] - start["visual.conv1.weight"]).norm() > 0


def test_image_features_are_as_long_as_they_are_meant_to_be(straight, tmp_path):
    _, pupil = straight
    clip = load_clip("surfaces-tiny", str(write_backbone(pupil, SMALL, tmp_path / "clip.safetensors")))
    views = ViewsOfSteps(224, 112, 14, 8, 7)[0]
    with torch.no_grad():
        features = pupil.see(views.images)[0] @ clip.visual.proj
    assert features.square().mean().sqrt().item() == pytest.approx(FEATURE_LENGTH, rel=1e-2)


def test_seed_decides_the_first_weights():
    vocabulary = Vocabulary(all_sentences(SEEN_CLASSES, SEEN_DEFECTS))
    first, again, other = (Pupil(vocabulary, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["class_head.weight"], other["class_head.weight"])
