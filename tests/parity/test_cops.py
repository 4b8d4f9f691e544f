# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""CoPS against values of the published code; tolerances are those of the golden README."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file

from anomalib_zsad.clip.tokenizer import tokenize, word_ids
from anomalib_zsad.models.cops.components import distance_weight, neighbourhood_mean
from anomalib_zsad.models.cops.config import CoPSConfig
from anomalib_zsad.models.cops.convert import convert_official
from anomalib_zsad.models.cops.torch_model import CoPSModel

TARGET = {"mvtec": "other", "visa": "visa"}
SOURCE = {"mvtec": {"neighbourhood": 3, "reconstruction": True}, "visa": {"neighbourhood": 5, "reconstruction": False}}
TERMS = {"image": "image", "focal": "focal", "dice_a": "dice_anomalous", "dice_n": "dice_normal", "gather": "gather",
         "scatter": "scatter", "kl": "kl", "recon": "reconstruction"}  # fmt: skip


@pytest.fixture(scope="module")
def clip(build_clip):
    return build_clip(activation="quick_gelu", positions="bilinear")


@pytest.fixture(scope="module")
def published(golden_dir):
    return torch.load(golden_dir / "cops_official.pth", weights_only=True)


@pytest.fixture(scope="module")
def with_encoder(golden_dir, published):
    encoder = {key: value.float() for key, value in load_file(golden_dir / "cops_vae_encoder.safetensors").items()}
    return {"prompt_learner": published["prompt_learner"] | encoder}


@pytest.fixture(scope="module")
def build(clip, clip_sizes, published, golden):
    """``build(checkpoint, **options)``: the model at the sizes of the stored values."""
    learner = published["prompt_learner"]
    deep = sum(key.startswith("compound_prompts_text.") for key in learner)

    class StoredSizes(CoPSConfig):
        sizes = property(lambda self: clip_sizes[0])

    def make(checkpoint=None, **options):
        config = StoredSizes(
            backbone="stored", image_size=clip_sizes[1], num_prototypes=len(learner["t_n"]), deep_layers=deep,
            deep_tokens=len(learner["compound_prompts_text.0"]), num_samples=len(golden["test_mvtec_0_z"]), **options,
        )  # fmt: skip
        model = CoPSModel(config.fitted(clip_sizes[0])).eval()
        model.clip = clip
        if checkpoint is not None:
            model.load_state_dict(convert_official(checkpoint))
        return model

    return make


@pytest.fixture(scope="module")
def features(golden, build, published):
    """Frozen features of the stored images, computed once."""
    model = build(published)
    return {kind: model.encode(golden[f"{kind}_images"]) for kind in ("test", "train")}


@pytest.fixture(scope="module")
def image_numbers(golden):
    """Numbers i of the stored test images."""
    return range(len(golden["test_images"]))


def published_names(tensors):
    """Our names to the published ones, written out apart from ``convert_official``."""
    named = {}
    for key, value in tensors.items():
        if key == "prompts":
            named |= {"ctx_pos": value[0][None, None], "ctx_neg": value[1][None, None]}
        elif key == "queries":
            named |= {"t_n": value[0], "t_a": value[1]}
        elif key == "deep_tokens":
            named |= {f"compound_prompts_text.{index}": row for index, row in enumerate(value)}
        else:
            for ours, theirs in (("vae.decoder.", "vae_decoder.net."), ("vae.hidden.", "vae_encoder.net.0."),
                                 ("vae.", "vae_encoder."), ("extractor.c_", "extractor.mlp.c_")):  # fmt: skip
                key = theirs + key.removeprefix(ours) if key.startswith(ours) else key
            named[key] = value
    return named


def stored(golden, key, first):
    """A value that is the same for both targets or sources is stored with the first only."""
    return key if key in golden else key.replace(*first)


def test_positions(golden, clip):
    golden.compare(clip.visual.positional_embedding, "clip_positional_embedding_resized", 1e-6)


def test_prompt_tokens(golden, build):
    ids = golden["prompt_tokens"]
    count = build().config.prompt_tokens
    golden.compare(tokenize(" ".join(["X"] * count) + ".", len(ids))[0], "prompt_tokens", mode="exact")
    # ours: start, the vectors, the same full stop, end
    assert ids[1 + count] == word_ids(".")[0]


def test_features(golden, features, image_numbers):
    feature, patches = features["test"]
    for i in image_numbers:
        golden.compare(feature[i : i + 1], f"test_mvtec_{i}_feat", 1e-5)
        golden.compare(patches[i : i + 1], f"test_mvtec_{i}_patch_raw", 1e-5)
    golden.compare(features["train"][0], "train_visa_feat", 1e-5)
    golden.compare(features["train"][1], "train_visa_patch_raw", 1e-5)


@pytest.mark.parametrize("target", ["mvtec", "visa"])
@torch.no_grad()
def test_inference(golden, build, published, features, image_numbers, target):
    model = build(published, rules="official", official_target=TARGET[target])
    sharp = build(published, rules="official", official_target=TARGET[target], smoothing_sigma=0)
    rule = model.config.rule
    for i in image_numbers:
        key = f"test_{target}_{i}_"
        feature, patches = (part[i : i + 1] for part in features["test"])
        patches = neighbourhood_mean(patches, rule.neighbourhood)
        golden.compare(patches, key + "patch_avg", 1e-5)

        prior = golden[f"test_mvtec_{i}_z"][:, 0]
        bias = model.vae.decoder(prior)
        golden.compare(bias, f"test_mvtec_{i}_class_bias", 1e-5)
        prototypes = model.extractor(model.queries, patches)
        text_each = model.encode_prompts(prototypes, bias[None])
        golden.compare(prototypes[:, 0], key + "proto_n", 1e-5)
        golden.compare(prototypes[:, 1], key + "proto_a", 1e-5)
        golden.compare(text_each, key + "text_each", 1e-5)
        golden.compare(F.normalize(text_each.mean(dim=2), dim=-1), key + "text", 1e-5)

        alignment = model.align(feature, patches, bias[None])
        golden.compare(alignment.distances[..., 0], key + "dist_n", 1e-5)
        golden.compare(alignment.distances[..., 1], key + "dist_a", 1e-5)
        golden.compare(alignment.probability, key + "patch_prob", 1e-5)
        weight = distance_weight(alignment.distances, rule.alpha)
        golden.compare(alignment.probability * weight[..., None], key + "patch_weighted", 1e-5)
        golden.compare(alignment.image_logits.softmax(dim=-1)[:, 1], key + "image_prob", 1e-5)

        image = golden["test_images"][i : i + 1]
        model.prior = prior
        result = model(image)
        golden.compare(result.anomaly_map[0, 0], key + "anomaly_map", 1e-5)
        golden.compare(result.pred_score, key + "score", 1e-5)
        golden.compare(sharp._infer(alignment).anomaly_map[0, 0], key + "map_raw", 1e-5)


@torch.no_grad()
def test_deep_tokens_are_rounded_to_half(golden, build, published, features):
    model = build(published, rules="official", official_target="other")
    model.deep_tokens.copy_(golden["deepfp32_tokens"])
    model.prior = golden["deepfp32_z"][:, 0]
    feature, patches = (part[:1] for part in features["test"])
    patches = neighbourhood_mean(patches, model.config.rule.neighbourhood)
    bias = model.vae.decoder(model.prior)[None]
    text_each = model.encode_prompts(model.extractor(model.queries, patches), bias)
    golden.compare(text_each, "deepfp32_text_each", 1e-5)
    golden.compare(F.normalize(text_each.mean(dim=2), dim=-1), "deepfp32_text", 1e-5)
    alignment = model.align(feature, patches, bias)
    golden.compare(alignment.probability, "deepfp32_patch_prob", 1e-5)
    golden.compare(alignment.image_logits.softmax(dim=-1)[:, 1], "deepfp32_image_prob", 1e-5)
    result = model(golden["test_images"][:1])
    golden.compare(result.anomaly_map[0, 0], "deepfp32_anomaly_map", 1e-5)
    golden.compare(result.pred_score, "deepfp32_score", 1e-5)

    unrounded = build(published, rules="official", official_target="other", half_tokens=False)
    unrounded.load_state_dict(model.state_dict())
    unrounded.prior = model.prior
    gap = (unrounded(golden["test_images"][:1]).anomaly_map - result.anomaly_map).abs().max()
    assert gap > 1e-5  # the case does tell the two apart


def train_step(model, golden, noise):
    """Loss terms as published: unweighted, and the total."""
    masks = golden["train_masks"][:, 0]
    output = model.train()(golden["train_images"], noise)
    losses = model.losses(output, golden["train_labels"], masks, torch.ones(len(masks), dtype=torch.bool))
    total = sum(losses.values())
    terms = {name: losses.get(ours, torch.zeros(())) for name, ours in TERMS.items()}
    for name in ("focal", "dice_a", "dice_n"):
        terms[name] /= model.config.patch_weight
    return output, terms, total


@pytest.mark.parametrize("source", ["visa", "mvtec"])
def test_training(golden, build, with_encoder, features, source):
    model = build(with_encoder, **SOURCE[source])
    key, first = f"train_{source}_", ("train_mvtec_", "train_visa_")
    output, terms, total = train_step(model, golden, golden["train_visa_eps"][0])
    total.backward()

    golden.compare(output.mean, "train_visa_vae_mean", 1e-5)
    golden.compare(output.log_var, "train_visa_vae_logvar", 1e-5)
    golden.compare(output.bias, "train_visa_class_bias", 1e-5)
    golden.compare(output.alignment.distances[..., 0], key + "dist_n", 1e-5)
    golden.compare(output.alignment.distances[..., 1], key + "dist_a", 1e-5)
    golden.compare(output.alignment.probability, key + "patch_prob", 1e-5)
    golden.compare(output.alignment.image_logits, key + "image_logit", 5e-5)
    with torch.no_grad():
        patches = neighbourhood_mean(features["train"][1], model.config.neighbourhood)
        prototypes = model.extractor(model.queries, patches)
        text_each = model.encode_prompts(prototypes, output.bias[:, None])
    golden.compare(patches, key + "patch_avg", 1e-5)
    golden.compare(prototypes[:, 0], key + "proto_n", 1e-5)
    golden.compare(prototypes[:, 1], key + "proto_a", 1e-5)
    golden.compare(text_each, key + "text_each", 1e-5)
    golden.compare(F.normalize(text_each.mean(dim=2), dim=-1), key + "text", 1e-5)

    masks, size = golden["train_masks"][:, 0].float(), model.sizes.vision.patch_size
    golden.compare(F.max_pool2d(masks, size).flatten(1), "train_visa_mask_patch", mode="exact")
    for name, value in terms.items():
        golden.compare(value, stored(golden, key + f"loss_{name}", first), 1e-5)
    golden.compare(terms["focal"] + terms["dice_a"] + terms["dice_n"], key + "loss_patch", 1e-5)
    golden.compare(total, key + "loss_total", 1e-5)

    gradients = published_names({name: parameter.grad for name, parameter in model.named_parameters()})
    assert set(golden[key + "grad_names"]) == set(gradients)
    golden.compare(
        [gradients[name].norm().item() for name in golden[key + "grad_names"]],
        key + "grad_norms",
        1e-3,
        "E",
        floor=1e-6,
    )
    for name, gradient in gradients.items():
        if key + f"grad[{name}]" in golden:
            golden.compare(gradient, key + f"grad[{name}]", 3e-3 if name.startswith("compound") else 5e-4, "R")


def test_optimiser_steps(golden, build, with_encoder):
    model = build(with_encoder, **SOURCE["mvtec"])
    before = {name: value.detach().clone() for name, value in published_names(dict(model.named_parameters())).items()}
    optimiser = torch.optim.Adam(model.parameters(), lr=model.config.learning_rate, betas=(0.5, 0.999))
    history = []
    for noise in golden["steps_eps"]:
        _, terms, total = train_step(model, golden, noise[0])
        history.append([total.item(), *(value.item() for value in terms.values())])
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    golden.compare(history, "steps_loss", 5e-5)
    after = published_names(dict(model.named_parameters()))
    changes = [(after[name] - before[name]).norm().item() for name in golden["steps_param_names"]]
    assert set(golden["steps_param_names"]) == set(after)
    golden.compare(changes, "steps_param_change_norms", 2e-3, "E")
    for name, value in after.items():
        if f"steps_param[{name}]" in golden:
            golden.compare(value, f"steps_param[{name}]", 1e-4)


def test_initialisation(golden, build):
    """Names and shapes are exact; of random weights mean and spread agree within five standard errors of each other."""
    ours = published_names(dict(build().named_parameters()))
    names, shapes, moments = golden["init_names"], golden["init_shapes"], golden["init_mean_std"]
    unused = ("projector.", "projector_cls.", "extractor_.")  # never trained, never saved
    assert set(ours) == {name for name in names if not name.startswith(unused)}
    for name, shape, (mean, std) in zip(names, shapes, moments.tolist(), strict=True):
        if name.startswith(unused):
            continue
        value = ours[name].detach().double()
        assert str(tuple(value.shape)) == shape, name
        if std == 0:
            assert (value == mean).all(), name
            continue
        error = std / value.numel() ** 0.5
        assert abs(value.mean() - mean) < 5 * 2**0.5 * error, name
        assert abs(value.std() - std) < 5 * error, name


def test_every_stored_key_is_read(unread_keys):
    assert not unread_keys
