# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""BayesPFL without Lightning: noise, stages, rules, uncertainty, configuration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from anomalib_zsad.clip import Clip
from anomalib_zsad.models.bayes_pfl.config import BayesPFLConfig
from anomalib_zsad.models.bayes_pfl.schedule import parameter_groups
from anomalib_zsad.models.bayes_pfl.torch_model import BayesPFLModel, BayesPFLOutput
from anomalib_zsad.models.bayes_pfl.words import official_scores

TINY = {"backbone": "tiny-random", "image_size": 112, "num_samples": 4}
CLASSES = ["metal_nut", "bottle"]


@pytest.fixture(scope="module")
def clip() -> Clip:
    return BayesPFLModel(BayesPFLConfig.resolve(TINY)).load_clip()


@pytest.fixture
def build(clip: Clip):
    def build(**options) -> BayesPFLModel:
        torch.manual_seed(3)
        model = BayesPFLModel(BayesPFLConfig.resolve({**TINY, **options}))
        model.clip = clip if "activation" not in options else None
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return model.eval()

    return build


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))


def training_losses(model: BayesPFLModel, images: torch.Tensor, **replace) -> dict[str, torch.Tensor]:
    masks = torch.zeros(2, 112, 112, dtype=torch.bool)
    masks[1, 20:50, 30:60] = True
    given = {"labels": torch.tensor([False, True]), "masks": masks, "has_mask": torch.tensor([True, True])}
    return model.losses(model.train()(images, CLASSES), **{**given, **replace})


@torch.no_grad()
def test_scores_repeat(build, images: torch.Tensor) -> None:
    first = build()(images, CLASSES)
    torch.manual_seed(99)
    model = build()
    torch.rand(7)
    second, again = model(images, CLASSES), model(images, CLASSES)
    for one in (second, again):
        assert torch.equal(first.pred_score, one.pred_score)
        assert torch.equal(first.anomaly_map, one.anomaly_map)
    assert first.anomaly_map.shape == (2, 1, 112, 112)
    assert first.pred_score.shape == (2,)
    for value in (first.pred_score, first.anomaly_map):
        assert 0 <= value.min() <= value.max() <= 1


@torch.no_grad()
def test_every_image_is_scored_for_itself(build, images: torch.Tensor) -> None:
    model = build()
    together = model(images, CLASSES)
    for i, name in enumerate(CLASSES):
        alone = model(images[i : i + 1], [name])
        torch.testing.assert_close(alone.anomaly_map[0], together.anomaly_map[i], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.pred_score[0], together.pred_score[i], atol=1e-5, rtol=0)


def test_fewer_samples_are_the_first_ones(build) -> None:
    many, few = build(num_samples=10), build(num_samples=3)
    assert torch.equal(many.noise_context[:3], few.noise_context)
    assert torch.equal(many.noise_state[:, :3], few.noise_state)
    assert not torch.equal(many.noise_state[0], many.noise_state[1])
    assert not torch.equal(build(noise_seed=1).noise_context, few.noise_context)


@torch.no_grad()
def test_another_number_of_samples_takes_the_same_weights(build, images: torch.Tensor) -> None:
    model, small = build(num_samples=10), build(num_samples=2)
    small.load_state_dict(model.state_dict())  # strict: the noise is not part of it
    text, _, _ = small.speak(small.look(images).image, small.noise, CLASSES)
    assert text.shape[1:3] == (2, 2 * 3)
    more, _, _ = model.speak(model.look(images).image, model.noise, CLASSES)
    torch.testing.assert_close(more[:, :, :6], text, atol=1e-5, rtol=0)


@pytest.mark.parametrize("stage", [1, 2])
def test_every_parameter_of_a_stage_gets_a_gradient(build, images: torch.Tensor, stage: int) -> None:
    model = build()
    model.enter_stage(stage)
    sum(training_losses(model, images).values()).backward()
    for name, parameter in model.named_parameters():
        late = name.startswith(("pooling.", "image_map."))
        trains = late or name.startswith("text_map.") if stage == 2 else not late
        assert (parameter.grad is not None) == trains, name
        if trains and name != "pooling.score.bias":  # a shift in front of a softmax changes nothing
            assert parameter.grad.abs().max() > 0, name
    assert not list(model.clip.parameters())


def test_stage_2_has_the_image_term_only(build, images: torch.Tensor) -> None:
    model = build()
    assert set(training_losses(model, images)) == {"image", "divergence", "orthogonality", "focal", "dice"}
    model.enter_stage(2)
    assert set(training_losses(model, images)) == {"image"}


@pytest.mark.parametrize("stage", [1, 2])
def test_training_lowers_the_loss(build, images: torch.Tensor, stage: int) -> None:
    model = build()
    model.enter_stage(stage)
    optimizer = torch.optim.Adam(parameter_groups(model), betas=(0.5, 0.999))
    history = []
    for _ in range(12):
        torch.manual_seed(7)  # one pair, one noise: the losses are comparable
        loss = sum(training_losses(model, images).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.95 * history[0]


def test_images_without_a_mask_do_not_enter_the_map_losses(build, images: torch.Tensor) -> None:
    none = torch.tensor([False, False])
    assert set(training_losses(build(), images, has_mask=none)) == {"image", "divergence", "orthogonality"}
    results = []
    for filler in (False, True):
        masks = torch.zeros(2, 112, 112, dtype=torch.bool)
        masks[1, 20:50, 30:60] = True
        masks[0] = filler
        torch.manual_seed(11)
        results.append(training_losses(build(), images, masks=masks, has_mask=torch.tensor([False, True])))
    assert torch.equal(results[0]["focal"], results[1]["focal"])
    assert torch.equal(results[0]["dice"], results[1]["dice"])


def test_training_draws_new_noise_and_pairs(build, images: torch.Tensor) -> None:
    model = build().train()
    outputs: list[BayesPFLOutput] = [model(images, CLASSES) for _ in range(12)]
    assert {output.pair for output in outputs} == {0, 1, 2}
    assert not torch.equal(outputs[0].context.start, outputs[1].context.start)
    assert outputs[0].text.shape == (2, 2, 3, 64)
    assert outputs[0].layer_logits.shape == (2, 4, 112, 112)


@torch.no_grad()
def test_the_stage_decides_the_image_branch(build, images: torch.Tensor) -> None:
    model = build()
    first = model.predict(images, CLASSES)
    model.enter_stage(2)
    second = model.predict(images, CLASSES)
    assert torch.equal(first.anomaly_map, second.anomaly_map)
    assert (first.text_score - second.text_score).abs().max() > 1e-4
    copy = build()
    copy.load_state_dict(model.state_dict())
    assert torch.equal(copy.predict(images, CLASSES).text_score, second.text_score)


@torch.no_grad()
def test_prediction_holds_what_forward_returns(build, images: torch.Tensor) -> None:
    model = build(smoothing_sigma=3.0)
    parts, batch = model.predict(images, CLASSES), model(images, CLASSES)
    smooth = [gaussian_filter(raw.double().numpy(), 3.0) for raw in parts.anomaly_map]
    np.testing.assert_allclose(batch.anomaly_map[:, 0], smooth, atol=2e-6)
    largest = np.sort(parts.anomaly_map.flatten(1).numpy(), axis=1)[:, -round(0.0075 * 112 * 112) :].mean(axis=1)
    np.testing.assert_allclose(batch.pred_score, 0.5 * parts.text_score + 0.5 * torch.tensor(largest), atol=1e-6)
    torch.testing.assert_close(parts.layer_maps.mean(dim=1), parts.anomaly_map)


@torch.no_grad()
def test_uncertainty_is_the_spread_over_the_prompts(build, images: torch.Tensor) -> None:
    model = build(num_samples=3)
    parts = model.predict(images, CLASSES)
    features = model.look(images)
    text, _, _ = model.speak(features.image, model.noise, CLASSES)
    pixel = (slice(None), 40, 71)
    wanted = torch.zeros(2)
    for layer, tokens in enumerate(features.patches):
        values = []
        for prompt in range(3 * 3):  # every pair by itself, both channels up-sampled, softmax behind
            keys = model.attention.project(layer, tokens)
            refined = model.attention(text[:, :, prompt], keys)
            logits = (model.map_scale.exp() * refined @ keys.mT).unflatten(-1, (8, 8))
            logits = torch.nn.functional.interpolate(logits, size=(112, 112), mode="bilinear", align_corners=True)
            values.append(logits.softmax(dim=1)[:, 1][pixel])
        wanted += torch.tensor(np.std(torch.stack(values).numpy(), axis=0)) / len(features.patches)
    torch.testing.assert_close(parts.uncertainty[pixel], wanted, atol=1e-6, rtol=1e-4)
    assert 0 <= parts.uncertainty.min() <= parts.uncertainty.max() <= 0.5
    single = build(num_samples=1, num_prompts=1).predict(images, CLASSES)
    assert not single.uncertainty.any()


@torch.no_grad()
def test_official_rules_take_fewer_pixels_where_defects_are_small(build, images: torch.Tensor) -> None:
    model = build(rules="official")
    parts = model.predict(images, ["bottle", "screw"], small_defects=[True, False])  # words do not matter
    for i, number in enumerate((20, 2000)):
        want = np.sort(parts.anomaly_map[i].flatten().numpy())[-number:].mean()
        assert parts.map_score[i].item() == pytest.approx(want, abs=1e-6)
    assert torch.equal(model.predict(images, ["bottle", "screw"]).map_score[1], parts.map_score[1])


def test_official_scores_scale_both_parts_over_the_set() -> None:
    text, maps = torch.tensor([0.2, 0.4, 0.3]), torch.tensor([0.9, 0.5, 0.7])
    torch.testing.assert_close(official_scores(text, maps), torch.tensor([0.5, 0.5, 0.5]))
    assert not official_scores(torch.ones(3), torch.ones(3)).any()


@torch.no_grad()
def test_class_words(build, images: torch.Tensor) -> None:
    model = build()
    renamed, spoken = model(images, ["pcb1", "metal_nut"]), model(images, ["printed circuit board", "Metal nut"])
    assert torch.equal(renamed.pred_score, spoken.pred_score)
    assert torch.equal(model(images).pred_score, model(images, ["object", "object"]).pred_score)
    fixed = build(class_name="tile")
    assert torch.equal(fixed(images, CLASSES).pred_score, model(images, ["tile", "tile"]).pred_score)


@torch.no_grad()
def test_activation_can_be_chosen(build, images: torch.Tensor) -> None:
    default, exact, quick = build(), build(activation="gelu"), build(activation="quick_gelu")
    maps = [model(images, CLASSES).anomaly_map for model in (default, exact, quick)]
    assert torch.equal(maps[0], maps[1])
    assert not torch.allclose(maps[0], maps[2], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"num_heads": 5}, "num_heads=5"),
        ({"layers": [3, 2]}, "layers"),
        ({"image_size": 113}, "112"),
        ({"context_tokens": 60, "state_tokens": 20}, "77 positions"),
        ({"first_stage_epochs": 30}, "first_stage_epochs=30"),
        ({"rules": "best"}, "rules"),
        ({"backbone": "ViT-H-14"}, None),
    ],
)
def test_configurations_that_cannot_work_are_refused(options: dict, problem: str | None) -> None:
    if problem is None:  # equal widths: fits
        assert BayesPFLConfig.resolve({**TINY, **options}).layers == [8, 16, 24, 32]
        return
    with pytest.raises(ValueError, match=problem):
        BayesPFLConfig.resolve({**TINY, **options})
