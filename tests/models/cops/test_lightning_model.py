# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What is particular to CoPS as an anomalib model; what all methods share is tested in ``test_every_model.py``."""

from __future__ import annotations

import pytest
import torch
from anomalib import LearningType
from torch.optim import Adam

from anomalib_zsad.adapters import Adapter
from anomalib_zsad.models.cops import CoPS
from anomalib_zsad.models.cops.convert import convert_official

TINY = {"backbone": "tiny-random", "image_size": 112}


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """An adapter made of weights in the released layout, for the small backbone."""
    width, generator = 64, torch.Generator().manual_seed(0)
    square = ("extractor.attn.out_proj", "extractor.mlp.c_fc", "extractor.mlp.c_proj", "vae_decoder.net.0",
              "vae_decoder.net.2")  # fmt: skip
    shapes = {
        "ctx_pos": (1, 1, 14, width), "ctx_neg": (1, 1, 14, width), "t_n": (6, width), "t_a": (6, width),
        "extractor.attn.in_proj_weight": (3 * width, width), "extractor.attn.in_proj_bias": (3 * width,),
        **{f"compound_prompts_text.{index}": (4, width) for index in range(3)},
        **{f"{layer}.weight": (width, width) for layer in square}, **{f"{layer}.bias": (width,) for layer in square},
        **{f"extractor.ln_{i}.{kind}": (width,) for i in (1, 2) for kind in ("weight", "bias")},
    }  # fmt: skip
    tensors = {key: torch.randn(shape, generator=generator) * 0.1 for key, shape in shapes.items()}
    path = tmp_path_factory.mktemp("released") / "cops.safetensors"
    clip = CoPS(**TINY).model.load_clip()
    facts = {"name": clip.name, "activation": clip.activation, "sha256": clip.sha256()}
    config = {"backbone": "tiny-random"}
    return Adapter("CoPS", config, convert_official({"prompt_learner": tensors}), clip=facts).save(path)


def images(count=2):
    return torch.rand(count, 3, 120, 100, generator=torch.Generator().manual_seed(0))


def test_optimiser():
    model = CoPS(**TINY, learning_rate=2e-3)
    optimiser = model.configure_optimizers()
    assert isinstance(optimiser, Adam)
    (group,) = optimiser.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (2e-3, (0.5, 0.999), 0)
    assert {id(value) for value in group["params"]} == {id(value) for value in model.model.parameters()}


def test_official_rules_need_the_target():
    with pytest.raises(ValueError, match="official_target='visa' or 'other'"):
        CoPS(**TINY, rules="official")


@torch.no_grad()
def test_released_weights_score_under_all_rules(released):
    options = {"weights": released, "image_size": 112}
    rules = [{}, {"rules": "official", "official_target": "visa"}, {"rules": "official", "official_target": "other"}]
    scores = []
    for rule in rules:
        model = CoPS(**options, **rule).eval()
        assert model.learning_type is LearningType.ZERO_SHOT
        model.configure_model()
        scores.append(model(images()).pred_score)
        assert torch.isfinite(scores[-1]).all()
    assert torch.equal(scores[0], scores[2])  # trained with 5 x 5, the official value of every set but VisA
    assert not torch.equal(scores[0], scores[1])


def test_released_weights_do_not_train_on(released):
    model = CoPS(weights=released, image_size=112).train()
    with pytest.raises(RuntimeError, match="published CoPS files leave it out"):
        model.model(torch.zeros(1, 3, 112, 112))


def test_the_number_of_samples_may_differ_from_the_adapters(released):
    few, more = (CoPS(weights=released, image_size=112, num_samples=count).model.prior for count in (3, 12))
    assert torch.equal(few, more[:3])


@torch.no_grad()
def test_export_under_official_rules(released, tmp_path):
    model = CoPS(weights=released, image_size=112, rules="official", official_target="visa")
    exported = torch.load(model.to_torch(tmp_path), weights_only=False)["model"].eval()
    assert torch.equal(exported(images()).pred_score, model.eval()(images()).pred_score)
