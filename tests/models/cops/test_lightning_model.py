# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What is particular to CoPS as an anomalib model; what all methods share is tested in ``test_every_model.py``."""

from __future__ import annotations

import hashlib

import pytest
import torch
from anomalib import LearningType
from torch.optim import Adam

from anomalib_zsad.adapters import AdapterError
from anomalib_zsad.models.cops import CoPS, convert

TINY = {"backbone": "tiny-random", "image_size": 112}


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A file in the released format, with the sizes of the small backbone."""
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
    path = tmp_path_factory.mktemp("released") / "epoch_10.pth"
    torch.save({"prompt_learner": tensors}, path)
    return path


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
    rules = [{}, {"rules": "official", "official_target": "visa"}, {"rules": "official", "official_target": "other"}]
    scores = []
    for rule in rules:
        model = CoPS(**TINY, weights=released, **rule).eval()
        assert model.learning_type is LearningType.ZERO_SHOT
        model.configure_model()
        scores.append(model(images()).pred_score)
        assert torch.isfinite(scores[-1]).all()
    assert torch.equal(scores[0], scores[2])  # trained with 5 x 5, the official value of every set but VisA
    assert not torch.equal(scores[0], scores[1])


def test_released_weights_do_not_train_on(released):
    model = CoPS(**TINY, weights=released).train()
    with pytest.raises(RuntimeError, match="published CoPS files leave it out"):
        model.model(torch.zeros(1, 3, 112, 112))


def test_a_known_file_brings_its_neighbourhood(released, monkeypatch):
    assert CoPS(**TINY, weights=released).config.neighbourhood == 5
    digest = hashlib.sha256(released.read_bytes()).hexdigest()
    monkeypatch.setitem(convert._RELEASED, digest, convert.Training("MVTec AD", 3))
    assert CoPS(**TINY, weights=released).config.neighbourhood == 3
    assert CoPS(**TINY, weights=released, neighbourhood=1).config.neighbourhood == 1
    assert CoPS.convert(released).origin == {"released_checkpoint": "epoch_10.pth", "data": "MVTec AD"}


def test_a_file_that_does_not_tell_its_neighbourhood_is_named(released, tmp_path, monkeypatch, caplog):
    def told(path, **options):
        caplog.clear()
        CoPS(**TINY, weights=path, **options)
        return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

    converted = CoPS.convert(released).save(tmp_path / "cops.safetensors")
    for path in (released, converted):
        (message,) = told(path)
        assert message.startswith(f"{path} is neither of the two published files")
        assert "say --model.neighbourhood 3" in message
        assert not told(path, neighbourhood=3)
        assert not told(path, rules="official", official_target="visa")  # brings its own
    digest = hashlib.sha256(released.read_bytes()).hexdigest()
    monkeypatch.setitem(convert._RELEASED, digest, convert.Training("VisA", 5))
    assert not told(released)
    assert not told(CoPS(**TINY, weights=released).save_adapter(tmp_path / "saved.safetensors"))


@torch.no_grad()
def test_a_converted_file_scores_as_the_released_one(released, tmp_path):
    direct = CoPS(**TINY, weights=released).eval()
    path = CoPS.convert(released).save(tmp_path / "cops.safetensors")
    assert torch.equal(CoPS(**TINY, weights=path).eval()(images()).pred_score, direct(images()).pred_score)


def test_other_files_are_refused(released, tmp_path):
    class Code:
        def __reduce__(self):
            return (tmp_path.joinpath("executed").touch, ())

    torch.save({"prompt_learner": Code()}, tmp_path / "code.pth")
    (tmp_path / "cut.pth").write_bytes(released.read_bytes()[:1000])
    torch.save({"MyModel": {}}, tmp_path / "other.pth")
    for name, message in (("code", "nothing in it was executed"), ("cut", "damaged"), ("other", "prompt_learner")):
        with pytest.raises(AdapterError, match=message):
            CoPS(**TINY, weights=tmp_path / f"{name}.pth")
    with pytest.raises(AdapterError, match="of another shape"):
        CoPS(weights=released)  # of the small width, for ViT-L
    assert not (tmp_path / "executed").exists()


def test_the_number_of_samples_may_differ_from_the_adapters(released):
    few, more = (CoPS(**TINY, weights=released, num_samples=count).model.prior for count in (3, 12))
    assert torch.equal(few, more[:3])


@torch.no_grad()
def test_export_under_official_rules(released, tmp_path):
    model = CoPS(**TINY, weights=released, rules="official", official_target="visa")
    exported = torch.load(model.to_torch(tmp_path), weights_only=False)["model"].eval()
    assert torch.equal(exported(images()).pred_score, model.eval()(images()).pred_score)
