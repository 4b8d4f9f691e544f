# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""CoPS against its equations, written naively in float64."""

from __future__ import annotations

import math

import pytest
import scipy.ndimage
import torch

from anomalib_zsad.clip.tokenizer import tokenize
from anomalib_zsad.models.cops.components import (
    ClassVAE,
    PrototypeExtractor,
    distance_weight,
    neighbourhood_mean,
    prototype_distances,
)
from anomalib_zsad.models.cops.config import OFFICIAL_RULES, CoPSConfig
from anomalib_zsad.models.cops.torch_model import CoPSModel

SIZE, PATCH, GRID = 70, 14, 5


def build(**options):
    torch.manual_seed(0)
    model = CoPSModel(CoPSConfig.resolve({"backbone": "tiny-random", "image_size": SIZE, **options}))
    with torch.no_grad():
        for parameter in model.parameters():  # large enough that every part moves the result
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.load_clip()
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def images():
    return torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def output(model, images):
    noise = torch.randn(len(images), 64, generator=torch.Generator().manual_seed(2))
    return model.train()(images, noise), model.eval()


@pytest.fixture(scope="module")
def truth():
    """Masks of four images: a normal one, blobs across patch borders, and one that is anomalous all over."""
    masks = torch.zeros(4, SIZE, SIZE, dtype=torch.bool)
    masks[1, 3:31, 20:24] = True
    masks[2, 0, 0] = True
    masks[3] = True
    return torch.tensor([False, True, True, True]), masks


def layer_norm(x, norm):
    centred = x - x.mean()
    return centred / torch.sqrt(centred.square().mean() + norm.eps) * norm.weight.double() + norm.bias.double()


def test_extractor():
    torch.manual_seed(0)
    block, heads, width = PrototypeExtractor(24, 12), 12, 24
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    queries, patches = torch.randn(2, 3, width), torch.randn(2, 7, width)
    got = block(queries, patches)
    weight, bias = block.attn.in_proj_weight.double(), block.attn.in_proj_bias.double()
    linear = lambda x, layer: layer.weight.double() @ x + layer.bias.double()  # noqa: E731
    for image in range(2):
        tokens = [layer_norm(patch, block.ln_1) for patch in patches[image].double()]
        for side in range(2):
            for number, query in enumerate(queries[side].double()):
                q = weight[:width] @ layer_norm(query, block.ln_1) + bias[:width]
                keys = [weight[width : 2 * width] @ token + bias[width : 2 * width] for token in tokens]
                values = [weight[2 * width :] @ token + bias[2 * width :] for token in tokens]
                heard = []
                for head in range(heads):
                    part = slice(head * width // heads, (head + 1) * width // heads)
                    logits = torch.stack([q[part] @ key[part] / math.sqrt(width / heads) for key in keys])
                    share = logits.exp() / logits.exp().sum()
                    heard.append(sum(s * value[part] for s, value in zip(share, values, strict=True)))
                x = query + linear(torch.cat(heard), block.attn.out_proj)
                hidden = linear(layer_norm(x, block.ln_2), block.c_fc)
                want = x + linear(hidden / (1 + torch.exp(-1.702 * hidden)), block.c_proj)
                torch.testing.assert_close(got[image, side, number].double(), want, rtol=1e-5, atol=1e-5)


def test_neighbourhood_counts_the_zeros_outside():
    patches = torch.randn(2, GRID**2, 3)
    got = neighbourhood_mean(patches, 3).reshape(2, GRID, GRID, 3)
    grid = patches.double().reshape(2, GRID, GRID, 3)
    for row in range(GRID):
        for column in range(GRID):
            near = grid[:, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            torch.testing.assert_close(got[:, row, column].double(), near.sum(dim=(1, 2)) / 9, rtol=1e-5, atol=1e-6)
    assert torch.equal(neighbourhood_mean(patches, 1), patches)


def test_distances_are_those_to_the_nearest_prototype():
    patches, prototypes = torch.randn(2, 9, 8), torch.randn(2, 2, 3, 8)
    got = prototype_distances(patches, prototypes)
    for image in range(2):
        for number, patch in enumerate(patches[image].double()):
            for side in range(2):
                want = min(
                    1 - patch @ other / patch.norm() / other.norm() for other in prototypes[image, side].double()
                )
                assert got[image, number, side] == pytest.approx(want.item(), abs=1e-6)


def test_weight_of_a_flat_image_is_finite():
    assert torch.isfinite(distance_weight(torch.full((1, 4, 2), 0.3), 0.26)).all()


def test_prompts(model):
    """One prompt at a time, from the tokens of its text on, deep tokens written in place."""
    config, tower = model.config, model.clip.text
    prototypes = torch.randn(2, 2, config.num_prototypes, 64)
    bias = torch.randn(1, 3, 64)
    got = model.encode_prompts(prototypes, bias)
    ids = tokenize(" ".join(["X"] * 14) + ".")
    deep = model.deep_tokens.half().float()

    def write(block, x):
        if 1 <= block <= len(deep):
            x = x.clone()
            x[:, 1:5] = deep[block - 1]
        return x

    for image in range(2):
        for side in range(2):
            for sample in range(3):
                vectors = model.prompts[side].clone()
                vectors[6:12] += prototypes[image, 1 - side]  # the other class's, as released
                vectors[12:] += bias[0, sample]
                prompt = tower.embed(ids)
                prompt[:, 1:15] = vectors
                want = tower(prompt, 16, before_block=write)[0]
                torch.testing.assert_close(got[image, side, sample], want / want.norm(), rtol=0, atol=2e-6)


def test_prototypes_can_go_to_their_own_class(model):
    straight = build(swap_prototypes=False)
    prototypes, bias = torch.randn(1, 2, 6, 64), torch.randn(1, 1, 64)
    assert torch.equal(straight.encode_prompts(prototypes, bias), model.encode_prompts(prototypes.flip(1), bias))


@torch.no_grad()
def test_inference(model, images):
    """Map and score from the features on, with nearest up-sampling and scipy's Gaussian."""
    got = model(images)
    feature, patches = model.encode(images)
    rule = model.config.rule
    assert rule == (5, 0.26, 0.9)
    patches = neighbourhood_mean(patches, 5)
    prototypes = model.extractor(model.queries, patches)
    text_each = model.encode_prompts(prototypes, model.vae.decoder(model.prior)[None]).double()
    distances = prototype_distances(patches, prototypes).double()
    cosine = lambda a, b: a @ b / a.norm() / b.norm()  # noqa: E731
    for image in range(len(images)):
        text = [sum(text_each[image, side]) / 10 for side in range(2)]
        anomalous = lambda x, text=text: torch.stack([cosine(x.double(), t) / 0.07 for t in text]).softmax(0)[1]  # noqa: E731
        away_n, away_a = ((d - d.min()) / (d.max() - d.min()) for d in (distances[image, :, 0], distances[image, :, 1]))
        weight = rule.alpha * away_n + (1 - rule.alpha) * (1 - away_a)
        weighted = torch.stack([anomalous(patch) for patch in patches[image]]) * weight
        pixels = weighted.reshape(GRID, GRID).repeat_interleave(PATCH, 0).repeat_interleave(PATCH, 1)
        want = torch.from_numpy(scipy.ndimage.gaussian_filter(pixels.numpy(), 4))
        torch.testing.assert_close(got.anomaly_map[image, 0].double(), want, rtol=0, atol=2e-6)
        score = 0.9 * anomalous(feature[image]) + 0.1 * weighted.max()
        assert got.pred_score[image] == pytest.approx(score.item(), abs=2e-6)


@torch.no_grad()
def test_every_image_is_alone(model, images):
    together = model(images)
    for number, image in enumerate(images):
        alone = model(image[None])
        torch.testing.assert_close(alone.anomaly_map[0], together.anomaly_map[number], rtol=0, atol=2e-6)
        torch.testing.assert_close(alone.pred_score[0], together.pred_score[number], rtol=0, atol=2e-6)


@torch.no_grad()
def test_scores_repeat_whatever_the_global_generator(model, images):
    torch.manual_seed(1)
    first = model(images)
    torch.manual_seed(2)
    other = build()  # seeds globally, too
    other.load_state_dict(model.state_dict())
    torch.manual_seed(3)
    second = other(images)
    assert torch.equal(first.anomaly_map, second.anomaly_map)
    assert torch.equal(first.pred_score, second.pred_score)


def test_fewer_samples_are_the_first_of_more():
    assert torch.equal(build(num_samples=3).prior, build().prior[:3])
    assert not torch.equal(build(noise_seed=1).prior, build().prior)
    assert abs(build(num_samples=200).prior.mean()) < 0.05
    assert abs(build(num_samples=200).prior.std() - 1) < 0.05


@torch.no_grad()
def test_ranges_and_shapes(model, images):
    got = model(images)
    assert got.anomaly_map.shape == (4, 1, SIZE, SIZE)
    assert got.pred_score.shape == (4,)
    for values in (got.anomaly_map, got.pred_score):
        assert values.min() >= 0
        assert values.max() <= 1
    shown = build(distance_maps=True)(images)
    for maps in (shown.normal_distance_map, shown.anomalous_distance_map):
        assert maps.shape == (4, 1, SIZE, SIZE)
        assert maps.min() >= 0
        assert maps.max() <= 2


@torch.no_grad()
def test_distance_maps_show_the_distances(images):
    model = build(smoothing_sigma=0, distance_maps=True)
    _, patches = model.encode(images)
    patches = neighbourhood_mean(patches, 5)
    distances = prototype_distances(patches, model.extractor(model.queries, patches))
    found = model(images)
    maps = torch.cat([found.normal_distance_map, found.anomalous_distance_map], dim=1)
    shown = maps[:, :, ::PATCH, ::PATCH].flatten(2).mT
    assert torch.equal(shown, distances)


def test_losses(output, truth):
    """Term by term on full-size maps, as the method defines them."""
    (result, model), (labels, masks) = output, truth
    model = build(reconstruction=True)
    got = model.losses(result, labels, masks, torch.ones(4, dtype=torch.bool))
    feature, mean, log_var, bias = (part.double() for part in result[1:])
    distances, probability, logits = (part.double() for part in result.alignment)

    want = dict.fromkeys(got, 0.0)
    for image in range(4):
        target = int(labels[image])
        want["image"] -= logits[image].log_softmax(0)[target] / 4
        want["kl"] -= (1 + log_var[image] - mean[image] ** 2 - log_var[image].exp()).sum() / 2 / 4
        for other in range(4):
            want["reconstruction"] += (feature[image] - bias[other]).square().mean() / 16
        pixels = probability[image].reshape(GRID, GRID, 2).repeat_interleave(PATCH, 0).repeat_interleave(PATCH, 1)
        mask = masks[image].double()
        hot = torch.stack([1 - mask, mask], dim=-1).clamp(1e-5, 1 - 1e-5)
        p = (hot * pixels).sum(-1) + 1e-5
        want["focal"] += 4 * (-((1 - p) ** 2) * p.log()).mean() / 4
        for name, side, y in (("dice_anomalous", 1, mask), ("dice_normal", 0, 1 - mask)):
            x = pixels[..., side]
            want[name] += 4 * (1 - (2 * (x * y).sum() + 1) / (x.sum() + y.sum() + 1)) / 4
    touched = torch.stack([
        masks[:, row : row + PATCH, column : column + PATCH].flatten(1).any(1)
        for row in range(0, SIZE, PATCH)
        for column in range(0, SIZE, PATCH)
    ], dim=1)  # fmt: skip
    want["gather"] = distances[..., 0][~touched].mean()
    want["scatter"] = distances[..., 1][touched].mean()
    assert set(got) == set(want)
    for name, value in got.items():
        assert value.item() == pytest.approx(want[name].item(), rel=1e-5), name


def test_images_without_mask_train_the_image_terms_only(output, truth):
    (result, model), (labels, masks) = output, truth
    some = torch.tensor([True, True, False, False])
    part = model.losses(result, labels, masks, some)
    first = type(result)(type(result.alignment)(*(x[:2] for x in result.alignment)), *(x[:2] for x in result[1:]))
    alone = model.losses(first, labels[:2], masks[:2], some[:2])
    for name in ("focal", "dice_anomalous", "dice_normal", "gather", "scatter"):
        assert part[name].item() == pytest.approx(alone[name].item(), rel=1e-6)
    assert set(model.losses(result, labels, masks, ~some & some)) == {"image", "kl"}


def test_one_kind_of_patches_only(output, truth):
    (result, model), (labels, masks) = output, truth
    known = torch.ones(4, dtype=torch.bool)
    assert model.losses(result, labels, torch.zeros_like(masks), known)["scatter"] == 0
    assert model.losses(result, labels, torch.ones_like(masks), known)["gather"] == 0


def test_every_parameter_learns_and_clip_does_not(images, truth):
    model = build(reconstruction=True).train()
    losses = model.losses(model(images), *truth, torch.ones(4, dtype=torch.bool))
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert not name.startswith("clip.")
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name
    assert not model.clip.training


def test_the_extractor_learns_from_distances_only(images, truth):
    model = build().train()
    losses = model.losses(model(images), *truth, torch.ones(4, dtype=torch.bool))
    sum(value for name, value in losses.items() if name not in {"gather", "scatter"}).backward()
    assert model.queries.grad is None
    assert all(parameter.grad is None for parameter in model.extractor.parameters())


def test_training_lowers_the_loss(images, truth):
    model = build().train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.5, 0.999))
    history = []
    for _ in range(6):
        loss = sum(model.losses(model(images), *truth, torch.ones(4, dtype=torch.bool)).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    assert history[-1] < 0.8 * history[0]


def test_state_dict_holds_what_was_learned_and_no_more(model):
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


def test_without_encoder_training_says_so(images):
    model = build().train()
    assert isinstance(model.vae, ClassVAE)
    torch.nn.init.constant_(model.vae.mean.bias, torch.nan)
    with pytest.raises(RuntimeError, match="no VAE encoder"):
        model(images)
    assert torch.isfinite(model.eval()(images).pred_score).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neighbourhood": 4}, "use 3 or 5"),
        ({"rules": "official"}, "official_target='visa' or 'other'"),
        ({"official_target": "visa"}, "Use rules='official'"),
        ({"num_heads": 12}, r"use one of \[1, 2, 4, 8, 16, 32\]"),
        ({"deep_layers": 4}, "use 0..3"),
        ({"deep_tokens": 15}, "more than a prompt's 14 vectors"),
        ({"context_tokens": 70}, "does not fit the 77 positions"),
        ({"image_size": 75}, "use 70 or 84"),
        ({"num_samples": 0}, "num_samples=0"),
    ],
)
def test_bad_values_are_named_with_the_fix(options, message):
    with pytest.raises(ValueError, match=message):
        CoPSConfig.resolve({"backbone": "tiny-random", "image_size": SIZE, **options})


def test_rules():
    resolve = lambda **options: CoPSConfig.resolve({"backbone": "tiny-random", "image_size": SIZE, **options})  # noqa: E731
    assert resolve(neighbourhood=3).rule == (3, 0.26, 0.9)
    for target, rule in OFFICIAL_RULES.items():
        assert resolve(neighbourhood=1, rules="official", official_target=target).rule == rule


def test_defaults_are_the_released_sizes():
    config = CoPSConfig.resolve({})
    assert (config.backbone, config.image_size) == ("ViT-L-14-336", 518)
    assert (config.num_heads, config.deep_layers, config.prompt_tokens) == (12, 8, 14)
    assert sum(parameter.numel() for parameter in CoPSModel(config).parameters()) == 4_783_104 + 3 * 768 * 769


def test_no_deep_tokens(images):
    model = build(deep_layers=0)
    assert torch.isfinite(model(images[:1]).pred_score).all()
    assert [name for name, value in model.named_parameters() if not value.requires_grad] == ["deep_tokens"]
