# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""DAPO against its equations, written term by term in float64."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from anomalib_zsad.clip.tokenizer import EOT, SOS, word_ids
from anomalib_zsad.models.dapo.config import DAPOConfig
from anomalib_zsad.models.dapo.torch_model import DAPOModel

TINY = {"backbone": "tiny-random", "image_size": 112, "num_prompts": 2}
WORDS = ["scratch", "missing screw"]


def build(**options) -> DAPOModel:
    torch.manual_seed(3)
    model = DAPOModel(DAPOConfig.resolve({**TINY, "defect_types": WORDS, **options}))
    model.load_clip()
    with torch.no_grad():  # far enough from the initial values that no softmax is flat
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.double()


def array(value: torch.Tensor) -> np.ndarray:
    return value.detach().numpy()


def softmax(values: np.ndarray) -> np.ndarray:
    exponents = np.exp(values - values.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def layer_norm(x: np.ndarray, norm: torch.nn.LayerNorm) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + norm.eps)
    return centred / spread * array(norm.weight) + array(norm.bias)


def block(x: np.ndarray, layer: torch.nn.Module, causal: bool) -> np.ndarray:
    """One transformer block on ``x`` (L, D), heads in a loop."""
    heads, width = layer.attn.heads, x.shape[1]
    y = layer_norm(x, layer.ln_1)
    q, k, v = np.split(y @ array(layer.attn.in_proj_weight).T + array(layer.attn.in_proj_bias), 3, axis=1)
    merged = np.zeros_like(x)
    for h in range(heads):
        part = slice(h * width // heads, (h + 1) * width // heads)
        logits = q[:, part] @ k[:, part].T / math.sqrt(width // heads)
        if causal:
            logits[np.triu_indices(len(x), 1)] = -np.inf
        merged[:, part] = softmax(logits) @ v[:, part]
    x = x + merged @ array(layer.attn.out_proj.weight).T + array(layer.attn.out_proj.bias)
    hidden = layer_norm(x, layer.ln_2) @ array(layer.mlp.c_fc.weight).T + array(layer.mlp.c_fc.bias)
    gelu = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    return x + gelu @ array(layer.mlp.c_proj.weight).T + array(layer.mlp.c_proj.bias)


def blend(x: np.ndarray, tokens: np.ndarray, index: int) -> np.ndarray:
    """Sec. 2.2: fresh tokens at layer 1, 0.01 of the old output and 0.99 of the fresh ones from then on."""
    count = tokens.shape[1]
    if index == 0:
        return np.concatenate([x[:1], tokens[0], x[1:]])
    if index >= len(tokens):
        return x
    return np.concatenate([x[:1], 0.01 * x[1 : 1 + count] + 0.99 * tokens[index], x[1 + count :]])


def naive_text(model: DAPOModel, words: list[str]) -> np.ndarray:
    """Features (K + 1, C) of the normal state and of the defects, one prompt at a time."""
    clip, prompts = model.load_clip(), model.prompts
    table, positions = array(clip.text.token_embedding.weight), array(clip.text.positional_embedding)
    tokens = array(prompts.tokens)
    depth, count = tokens.shape[:2]
    layers = list(clip.text.transformer.resblocks)
    rows = []
    states = [("flawless object", prompts.normal), *((f"{word} anomaly object", prompts.defect) for word in words)]
    for text, context in states:
        features = []
        for vectors in array(context):
            body = np.concatenate([table[[SOS]], vectors, table[word_ids(text)], table[[EOT]]])
            end = len(body) - 1
            x = np.concatenate([body, table[[0] * (77 - len(body))]]) + positions
            for index, layer in enumerate(layers):
                if model.config.text_behaviour == "released" and index == depth + 1:
                    x = np.concatenate([x[:1], x[1 + count :]])
                x = block(blend(x, tokens, index), layer, causal=model.config.text_behaviour == "corrected")
            inserted = len(x) - 77
            quirk = model.config.text_behaviour == "released" and depth == len(layers)
            read = x[end] if quirk else x[end + inserted]
            features.append(layer_norm(read, clip.text.ln_final) @ array(clip.text.text_projection))
        mean = np.mean(features, axis=0)
        rows.append(mean / np.linalg.norm(mean))
    return np.stack(rows)


@pytest.mark.parametrize(
    "options",
    [
        {"text_behaviour": "released"},
        {"text_behaviour": "corrected"},
        {"text_behaviour": "released", "text_depth": 1},
        {"text_behaviour": "released", "text_depth": 3},
        {"text_behaviour": "corrected", "text_depth": 2},
        {"text_behaviour": "released", "text_tokens": 0},
    ],
    ids=str,
)
def test_text_follows_the_equations(options: dict) -> None:
    model = build(**options).eval()
    np.testing.assert_allclose(array(model.text_features()), naive_text(model, WORDS), atol=1e-6)


def test_released_and_corrected_text_differ_and_read_where_they_say() -> None:
    released, corrected = build(text_behaviour="released"), build()
    corrected.load_state_dict(released.state_dict())
    a, b = released.eval().text_features(), corrected.eval().text_features()
    assert (a - b).abs().max() > 1e-3
    # one sub-token of defect word: the released position is the last context vector, W_5
    clip = released.load_clip()
    seen = {}
    tower = clip.text.forward
    clip.text.forward = lambda prompts, eot, **options: seen.setdefault("eot", eot) and tower(prompts, eot, **options)
    released.name_defects(["scratch"])
    released.text_features()
    inserted = released.prompts.tokens.shape[1]
    (normal_end,), (scratch_end,) = seen["eot"]
    assert normal_end - inserted == 4  # SOS, V_1 .. V_5: V_4
    assert scratch_end - inserted == 5  # W_5


@pytest.mark.parametrize("depth", [None, 3])
def test_forward_follows_the_equations(depth: int | None) -> None:
    model = build(vision_depth=depth, smoothing_sigma=2.0)
    images = torch.randn(2, 3, 112, 112, dtype=torch.float64)
    clip, text, tau, size = model.load_clip(), array(model.eval().text_features()), 0.07, 112
    prediction = model.predict(images)
    types = torch.tensor([2, 0])
    output = model.train()(images, types)
    tower, tokens = clip.visual, array(model.vision_tokens)
    for i in range(len(images)):
        x = array(tower.conv1(images[i : i + 1])[0].flatten(1).T)
        x = np.concatenate([array(tower.class_embedding)[None], x]) + array(tower.positional_embedding)
        x = layer_norm(x, tower.ln_pre)
        maps = []
        for index, layer in enumerate(tower.transformer.resblocks):
            x = block(blend(x, tokens, index), layer, causal=False)
            if index + 1 in model.layers:
                adapter = model.adapters[model.layers.index(index + 1)]
                patches = x[1 + tokens.shape[1] :] @ array(adapter.weight).T + array(adapter.bias)
                patches /= np.linalg.norm(patches, axis=1, keepdims=True)
                maps.append(softmax(patches @ text.T / tau).T.reshape(3, tower.grid, tower.grid))
        feature = layer_norm(x[0], tower.ln_post) @ array(tower.proj)
        feature /= np.linalg.norm(feature)
        mean = text[1:].mean(axis=0)
        logits = np.stack([text[0], mean / np.linalg.norm(mean)]) @ feature / tau
        np.testing.assert_allclose(array(output.logits[i]), logits, atol=1e-6)
        assert abs(prediction.pred_score[i].item() - softmax(logits)[1]) < 1e-6

        grids = torch.from_numpy(np.stack(maps))
        up = torch.nn.functional.interpolate(grids, size=(size, size), mode="bilinear", align_corners=True).numpy()
        own = up[:, types[i]] if types[i] else up[:, 1:].sum(axis=1)
        np.testing.assert_allclose(array(output.normal_maps[i]), up[:, 0], atol=1e-6)
        np.testing.assert_allclose(array(output.type_maps[i]), own, atol=1e-6)
        smooth = gaussian_filter(up[:, 1:].sum(axis=1).mean(axis=0), 2.0)
        np.testing.assert_allclose(array(prediction.anomaly_map[i, 0]), smooth, atol=1e-6)
        kinds = np.mean(maps, axis=0)[1:]
        np.testing.assert_allclose(array(prediction.type_grid[i]), kinds, atol=1e-6)
        np.testing.assert_allclose(array(prediction.type_scores[i]), kinds.max(axis=(1, 2)), atol=1e-6)


def test_losses_follow_the_equation() -> None:
    model = build().train()
    images, types = torch.randn(4, 3, 112, 112, dtype=torch.float64), torch.tensor([2, 0, 1, 0])
    labels = torch.tensor([True, False, True, True])  # the last one is of unknown kind
    masks = torch.zeros(4, 112, 112, dtype=torch.bool)
    masks[0, 10:40, 20:90] = masks[2, 60:65, 60:65] = masks[3, :50] = True
    known = torch.ones(4, dtype=torch.bool)
    got = {key: value.item() for key, value in model.losses(model(images, types), labels, masks, known).items()}

    grids, logits = model._score(images)
    up = torch.nn.functional.interpolate(grids.flatten(0, 1), size=(112, 112), mode="bilinear", align_corners=True)
    up = array(up).reshape(4, len(model.layers), 3, 112, 112)
    target = masks.numpy()
    probability = softmax(array(logits))
    wanted = {"focal": 0.0, "dice": 0.0}
    wanted["image"] = -np.mean([math.log(probability[i, int(labels[i])]) for i in range(4)])
    for layer in range(len(model.layers)):
        focal = np.zeros((4, 112, 112))
        for i in range(4):
            p = up[i, layer]
            own = p[types[i]] if types[i] else p[1:].sum(axis=0)
            true = np.where(target[i], own, p[0]) + 1e-5  # keeps the logarithm finite, as in the released code
            focal[i] = -((1 - true) ** 2) * np.log(true)
            for q, y in ((p[0], ~target[i]), (p[1:].sum(axis=0), target[i])):
                wanted["dice"] += 4 * (1 - (2 * (q * y).sum() + 1) / (q.sum() + y.sum() + 1)) / 4
        wanted["focal"] += 4 * focal.mean()
    assert set(got) == set(wanted)
    for key, value in wanted.items():
        assert got[key] == pytest.approx(value, rel=1e-6), key


def test_images_without_a_mask_train_the_image_branch_only() -> None:
    model = build().train()
    output = model(torch.randn(2, 3, 112, 112, dtype=torch.float64), torch.tensor([1, 0]))
    labels, masks = torch.tensor([True, False]), torch.zeros(2, 112, 112, dtype=torch.bool)
    masks[0, :50] = True
    assert set(model.losses(output, labels, masks, torch.tensor([False, False]))) == {"image"}
    some = model.losses(output, labels, masks, torch.tensor([True, False]))
    alone = model.losses(type(output)(*(value[:1] for value in output)), labels[:1], masks[:1], torch.tensor([True]))
    for key in ("focal", "dice"):
        assert some[key].item() == pytest.approx(alone[key].item(), rel=1e-12)


def test_new_prompts_start_like_token_embeddings() -> None:
    torch.manual_seed(0)
    model = DAPOModel(DAPOConfig.resolve({**TINY, "num_prompts": 400}))
    drawn = model.prompts.normal.detach().clone()
    table = model.load_clip().text.token_embedding.weight
    np.testing.assert_allclose(array(model.prompts.normal), array(drawn * table.std(0) + table.mean(0)), atol=1e-7)
    np.testing.assert_allclose(array(model.prompts.defect).std((0, 1)), array(table.std(0)), rtol=0.1)
    bound = math.sqrt(6 / (3 * 14 * 14 + 64))
    assert 0.95 * bound < model.vision_tokens.abs().max() <= bound
    state = model.state_dict()
    again = DAPOModel(model.config)
    again.load_state_dict(state)
    again.load_clip()
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())
