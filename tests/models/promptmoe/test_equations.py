# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""PromptMoE against its equations, written term by term in float64."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from anomalib_zsad.clip.tokenizer import EOT, SOS, word_ids
from anomalib_zsad.losses import load_balance_loss, orthogonality_loss
from anomalib_zsad.models.promptmoe.components import PromptMixture
from anomalib_zsad.models.promptmoe.config import PromptMoEConfig
from anomalib_zsad.models.promptmoe.torch_model import PromptMoEModel

TINY = {"backbone": "tiny-random", "image_size": 112}


def build(**options) -> PromptMoEModel:
    torch.manual_seed(3)
    model = PromptMoEModel(PromptMoEConfig.resolve({**TINY, **options}))
    with torch.no_grad():  # far enough from the initial values that attention and routing are not flat
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.double()


def softmax(values: list[float]) -> list[float]:
    top = max(values)
    exponents = [math.exp(value - top) for value in values]
    return [exponent / sum(exponents) for exponent in exponents]


def naive_mixture(mixture: PromptMixture, visual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eqs. 2 and 3 for one image: ``visual`` (1 + L, D_x) to segment (M, D) and logits (E,)."""
    state = {key: value.detach().numpy() for key, value in mixture.state_dict().items()}
    query, key, value = state["queries"], visual @ state["key.weight"].T, visual @ state["value.weight"].T
    head = query.shape[1] // mixture.heads
    output = np.zeros_like(query)
    for n in range(len(query)):
        for h in range(mixture.heads):
            part = slice(h * head, (h + 1) * head)
            attention = softmax([query[n, part] @ key[i, part] / math.sqrt(head) for i in range(len(key))])
            output[n, part] = sum(a * value[i, part] for i, a in enumerate(attention))
    r = output.mean(axis=0)
    hidden = np.maximum(state["router.0.weight"] @ r + state["router.0.bias"], 0)
    logits = state["router.2.weight"] @ hidden + state["router.2.bias"]
    chosen = sorted(range(len(logits)), key=lambda j: -logits[j])[: mixture.top_k]
    weights = softmax([logits[j] for j in chosen])
    return sum(w * state["experts"][j] for w, j in zip(weights, chosen, strict=True)), logits


@pytest.mark.parametrize("features", ["value_attention", "projection"])
def test_forward_follows_the_equations(features: str) -> None:
    model = build(patch_features=features, class_name="metal nut", smoothing_sigma=2.0)
    images = torch.randn(2, 3, 112, 112, dtype=torch.float64)
    clip = model.load_clip()
    prediction = model.eval()(images)
    output = model.train()(images)
    tau, size = model.config.temperature, images.shape[-1]
    word = clip.text.embed(word_ids("metal nut")).numpy()
    sos, eot = clip.text.embed([SOS]).numpy(), clip.text.embed([EOT]).numpy()
    context = model.context.detach().numpy()

    for i in range(len(images)):
        path = model.layers[0] if features == "value_attention" else None
        seen = clip.visual(images[i : i + 1], taps=model.layers, value_path_from=path)
        global_feature = clip.visual.project(seen.cls)[0].numpy()
        total = np.zeros((size, size))
        for number, (patches, mix_n, mix_a) in enumerate(zip(seen.patches, model.normal, model.anomalous, strict=True)):
            if features == "value_attention":
                tokens = clip.visual.project(patches)[0].numpy()
                visual = np.concatenate([global_feature[None], tokens])
            else:
                tokens = model.projections[number](patches)[0].detach().numpy()
                visual = np.concatenate([seen.cls.numpy(), patches[0].numpy()])
            segment_n, logits_n = naive_mixture(mix_n, visual)
            segment_a, logits_a = naive_mixture(mix_a, visual)
            np.testing.assert_allclose(output.routing[i, number].detach(), [logits_n, logits_a], atol=1e-9)
            prompts = [
                np.concatenate([sos, segment_n, word, context, eot]),
                np.concatenate([sos, segment_n, segment_a, word, context, eot]),
            ]
            text = np.stack([
                clip.text(torch.from_numpy(prompt)[None], len(prompt) - 1)[0].detach().numpy() for prompt in prompts
            ])
            text /= np.linalg.norm(text, axis=1, keepdims=True)
            cosine = tokens / np.linalg.norm(tokens, axis=1, keepdims=True) @ text.T
            grid = torch.from_numpy(cosine.T.reshape(1, 2, clip.visual.grid, clip.visual.grid))
            up = torch.nn.functional.interpolate(grid, size=(size, size), mode="bilinear", align_corners=False)
            layer_map = (up[0] / tau).softmax(dim=0)[1].numpy()
            np.testing.assert_allclose(output.layer_maps[i, number].detach(), layer_map, atol=1e-9)
            total += layer_map
        mean = total / len(model.layers)
        unit = global_feature / np.linalg.norm(global_feature)
        image_probability = softmax([unit @ state / model.config.image_temperature for state in text])[1]
        score = 0.5 * (mean.max() + image_probability)
        assert abs(score - output.score[i].item()) < 1e-9
        assert abs(score - prediction.pred_score[i].item()) < 1e-9
        np.testing.assert_allclose(prediction.anomaly_map[i, 0].detach(), gaussian_filter(mean, 2.0), atol=1e-6)


@pytest.mark.parametrize("supervision", ["mean", "per_layer"])
def test_losses_follow_equation_8(supervision: str) -> None:
    model = build(map_supervision=supervision).train()
    images = torch.randn(3, 3, 112, 112, dtype=torch.float64)
    output = model(images)
    labels, masks = torch.tensor([True, False, True]), torch.zeros(3, 112, 112, dtype=torch.bool)
    masks[0, 10:40, 20:90] = True
    masks[2, 60:65, 60:65] = True
    terms = model.losses(output, labels, masks, torch.ones(3, dtype=torch.bool))
    got = {key: value.item() for key, value in terms.items()}

    score, target = output.score.detach().numpy(), masks.numpy()
    bce = -np.mean([math.log(s) if y else math.log(1 - s) for s, y in zip(score, labels, strict=True)])
    maps = output.layer_maps.detach().numpy()
    maps = [maps.mean(axis=1)] if supervision == "mean" else [maps[:, k] for k in range(maps.shape[1])]
    focal = dice = 0.0
    for m in maps:
        true = np.where(target, m, 1 - m)
        focal += np.mean(-((1 - true) ** 2) * np.log(true))
        for p, y in ((m, target), (1 - m, ~target)):
            dice += np.mean([
                1 - (2 * (p[i] * y[i]).sum() + 1) / (p[i].sum() + y[i].sum() + 1) for i in range(len(images))
            ])
    share = np.exp(output.routing.detach().numpy())
    share = (share / share.sum(-1, keepdims=True)).mean(axis=0)
    balance = 0.01 * sum(8 * (share[k, s] ** 2).sum() for k in range(4) for s in range(2))
    decouple = 0.0
    for mixture in (*model.normal, *model.anomalous):
        mean = mixture.experts.detach().numpy().mean(axis=1)
        mean /= np.linalg.norm(mean, axis=1, keepdims=True)
        decouple += 0.005 * ((mean @ mean.T - np.eye(8)) ** 2).sum()

    wanted = {"image": bce, "balance": balance, "decouple": decouple, "focal": focal, "dice": dice}
    assert set(got) == set(wanted)
    for key, value in wanted.items():
        # the focal term keeps its logarithm finite with 1e-5 inside
        assert got[key] == pytest.approx(value, rel=2e-4 if key == "focal" else 1e-9), key


def test_images_without_a_mask_train_the_image_terms_only() -> None:
    model = build().train()
    output = model(torch.randn(2, 3, 112, 112, dtype=torch.float64))
    labels, masks = torch.tensor([True, False]), torch.zeros(2, 112, 112, dtype=torch.bool)
    masks[0, :50] = True
    none = model.losses(output, labels, masks, torch.tensor([False, False]))
    assert set(none) == {"image", "balance", "decouple"}
    some = model.losses(output, labels, masks, torch.tensor([True, False]))
    alone = model.losses(type(output)(*(value[:1] for value in output)), labels[:1], masks[:1], torch.tensor([True]))
    assert some["dice"].item() == pytest.approx(alone["dice"].item(), rel=1e-12)


def test_routing_mixes_exactly_k_experts() -> None:
    model = build(top_k=3)
    mixture = model.normal[0]
    with torch.no_grad():
        mixture.experts.copy_(torch.eye(8, dtype=torch.float64)[:, None, :].expand(8, 5, 8).repeat(1, 1, 8))
    segment, logits = mixture(torch.randn(4, 9, 64, dtype=torch.float64))
    weights = segment[:, 0, :8]
    assert ((weights > 0).sum(dim=1) == 3).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(4, dtype=torch.float64))
    assert (weights.argsort(dim=1)[:, -3:].sort().values == logits.argsort(dim=1)[:, -3:].sort().values).all()


def test_extremes_of_the_auxiliary_losses() -> None:
    collapsed = torch.full((5, 8), -50.0)
    collapsed[:, 2] = 50.0
    assert load_balance_loss(torch.zeros(5, 8)).item() == pytest.approx(1.0)
    assert load_balance_loss(collapsed).item() == pytest.approx(8.0)
    assert orthogonality_loss(torch.eye(8, 20)).item() == pytest.approx(0.0, abs=1e-12)
    assert orthogonality_loss(torch.ones(8, 20)).item() == pytest.approx(56.0, rel=1e-6)


def test_class_words_per_image_equal_one_word_at_a_time() -> None:
    model = build(class_name=None).eval()
    images = torch.randn(3, 3, 112, 112, dtype=torch.float64)
    names = ["hazelnut", "printed circuit board", "screw"]
    together = model(images, class_names=names)
    for i, name in enumerate(names):
        alone = model(images[i : i + 1], class_names=[name])
        torch.testing.assert_close(together.pred_score[i : i + 1], alone.pred_score)
        torch.testing.assert_close(together.anomaly_map[i : i + 1], alone.anomaly_map)
