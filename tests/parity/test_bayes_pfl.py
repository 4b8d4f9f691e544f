# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Bayes-PFL against values of its published code. Tolerances are those that come with the values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from anomalib_zsad.clip import Clip, ClipConfig
from anomalib_zsad.clip.tokenizer import tokenize, word_ids
from anomalib_zsad.functional import gaussian_smooth, topk_mean
from anomalib_zsad.models.bayes_pfl.components import Posterior
from anomalib_zsad.models.bayes_pfl.config import BayesPFLConfig
from anomalib_zsad.models.bayes_pfl.convert import convert_official, official_names
from anomalib_zsad.models.bayes_pfl.loss import dice, focal_loss, orthogonality, regularisation
from anomalib_zsad.models.bayes_pfl.schedule import parameter_groups, stage_factor
from anomalib_zsad.models.bayes_pfl.torch_model import BayesPFLModel, BayesPFLOutput, ImageFeatures, Noise
from anomalib_zsad.models.bayes_pfl.words import class_word, official_scores

STAGES = (1, 2)
DEAD = ("_decoder.", ".p_mu.")  # in the checkpoint, in no output and no loss


@pytest.fixture(scope="module")
def official(golden_dir: Path) -> dict[str, Tensor]:
    return torch.load(golden_dir / "bayes_pfl_official.pth", weights_only=True)["MyModel"]


@pytest.fixture(scope="module")
def config(golden, clip_sizes: tuple[ClipConfig, int], official: Mapping[str, Tensor]) -> BayesPFLConfig:
    sizes, image_size = clip_sizes

    class StoredConfig(BayesPFLConfig):
        @property
        def sizes(self) -> ClipConfig:
            return sizes

    prompts, context, _ = official["prompt_context"].shape
    return StoredConfig(
        backbone="stored",
        image_size=image_size,
        num_samples=len(golden["test_s1_0_eps_context"]),
        num_prompts=prompts,
        context_tokens=context,
        state_tokens=official["prompt_state_normal"].shape[1],
        num_flows=official["PFL_normal.amor_u"].shape[1],
    ).fitted(sizes)


@pytest.fixture
def model(config: BayesPFLConfig, official: Mapping[str, Tensor], shared_clip: Clip) -> BayesPFLModel:
    """A new model with the published weights; the frozen towers are shared."""
    model = BayesPFLModel(config)
    model.load_state_dict(convert_official({"MyModel": official}))
    model.clip = shared_clip
    return model


@pytest.fixture(scope="module")
def shared_clip(build_clip: Callable[..., Clip]) -> Clip:
    return build_clip(activation="gelu", positions=BayesPFLModel.positions)


@pytest.fixture(scope="module")
def count(golden) -> int:
    """Number of test images."""
    return len(golden["test_images"])


def official_view(ours: Mapping[str, Tensor], official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under the published names and shapes."""
    layers = sum(key.startswith("RCA.linear_proj.") for key in official)
    view = {}
    for key, names in official_names(layers).items():
        if key in ours:
            parts = ours[key] if len(names) == 2 else ours[key][None]
            view.update({name: part.reshape(official[name].shape) for name, part in zip(names, parts, strict=True)})
    return view


def unique(official: Mapping[str, Tensor]) -> set[str]:
    """Names of the checkpoint without its aliases."""
    return {key for key in official if ".encoder." not in key and ".decoder." not in key}


# ---- before the learned part -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["test", "train"])
def test_class_names_become_prompts(golden, split: str) -> None:
    names = golden[f"{split}_class_names"]
    golden.compare([f"X {class_word(name)}" for name in names], f"{split}_prompt_strings", mode="exact")
    golden.compare(tokenize([f"X {class_word(name)}" for name in names]), f"{split}_tokens", mode="exact")


def test_more_class_names(golden) -> None:
    names = golden["name_table_names"]
    golden.compare([f"X {class_word(name)}" for name in names], "name_table_prompt_strings", mode="exact")
    golden.compare(tokenize([f"X {class_word(name)}" for name in names]), "name_table_tokens", mode="exact")
    for name, row in zip(names, golden["name_table_tokens"].tolist(), strict=True):
        assert row[2 : 2 + len(word_ids(class_word(name)))] == word_ids(class_word(name))


def test_positions(golden, shared_clip: Clip) -> None:
    golden.compare(shared_clip.visual.positional_embedding, "clip_positional_embedding_resized", 1e-6)


# ---- test time -------------------------------------------------------------------------------------------------------


def prepare(model: BayesPFLModel, golden, stage: int, image: int) -> tuple[ImageFeatures, list[str]]:
    """Put stored noise in place; features and class name of one image."""
    model.eval()
    model.stage.fill_(stage)
    model.noise_context = golden[f"test_s{stage}_{image}_eps_context"]
    # The draws of later images are stored, but the published code samples the state distributions once.
    stored = [golden[f"test_s{stage}_{image}_eps_{side}"] for side in ("normal", "abnormal")]
    first = [golden[f"test_s{stage}_0_eps_{side}"] for side in ("normal", "abnormal")]
    assert all(late.shape == early.shape for late, early in zip(stored, first, strict=True))
    model.noise_state = torch.stack(first)
    return model.look(golden["test_images"][image : image + 1]), [golden["test_class_names"][image]]


@pytest.mark.parametrize("stage", STAGES)
@torch.no_grad()
def test_inference(golden, model: BayesPFLModel, count: int, stage: int) -> None:
    for image in range(count):
        features, names = prepare(model, golden, stage, image)
        key = f"test_s{stage}_{image}"
        text, context, state = model.speak(features.image, model.noise, names)
        logits = model.image_logits(features, text)
        prediction = model.predict(golden["test_images"][image : image + 1], names)
        if stage == 1:  # stored once for both stages
            golden.compare(features.image, f"{key}_feat", 1e-5)
            golden.compare(torch.stack(features.patches), f"{key}_tokens", 1e-5)
            golden.compare(prediction.layer_maps[0], f"{key}_layer_maps", 3e-5)
        golden.compare(context.end[0], f"{key}_zk_context", 3e-4)
        golden.compare(state.end[0], f"{key}_zk_n", 3e-4)
        golden.compare(state.end[1], f"{key}_zk_a", 3e-4)
        golden.compare(text.flatten(1, 2), f"{key}_text", 5e-5)
        golden.compare(logits.flatten(1), f"{key}_logits_image", 2e-4)
        golden.compare(prediction.text_score[0], f"{key}_text_prob", 1e-5)
        golden.compare(prediction.anomaly_map[0], f"{key}_anomaly_map", 1e-5)


@pytest.mark.parametrize("stage", STAGES)
@torch.no_grad()
def test_scores(golden, model: BayesPFLModel, count: int, stage: int) -> None:
    found = []
    for image in range(count):
        _, names = prepare(model, golden, stage, image)
        found.append(model.predict(golden["test_images"][image : image + 1], names))
    raw, text = torch.cat([one.anomaly_map for one in found]), torch.cat([one.text_score for one in found])
    golden.compare(gaussian_smooth(raw, model.config.smoothing_sigma), f"test_s{stage}_smoothed_maps", 1e-5)
    golden.compare(topk_mean(raw, 2000), f"test_s{stage}_top2000", 1e-5)
    golden.compare(topk_mean(raw, 20), f"test_s{stage}_top20", 1e-5)
    golden.compare(official_scores(text, topk_mean(raw, 2000)), f"test_s{stage}_final_scores", 1e-4)
    golden.compare(official_scores(text, topk_mean(raw, 20)), f"test_s{stage}_final_scores_top20", 1e-4)


@torch.no_grad()
def test_forward_is_the_same_for_a_batch(golden, model: BayesPFLModel, count: int) -> None:
    """One forward pass of all images, each with its class word, gives the maps of the images one by one."""
    for image in range(count):
        _, _ = prepare(model, golden, 1, image)
        batch = model(golden["test_images"], golden["test_class_names"])
        smooth = golden["test_s1_smoothed_maps"][image]
        assert (batch.anomaly_map[image, 0] - smooth).abs().max() < 1e-5


# ---- training --------------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """A training pass and its terms, unweighted sums over layers, weight of the divergences included."""

    output: BayesPFLOutput
    divergences: tuple[Tensor, Tensor]
    terms: dict[str, Tensor]
    losses: dict[str, Tensor]


def step(model: BayesPFLModel, golden, stage: int, eps: Tensor, pair: int) -> Step:
    """One pass over the training batch; ``eps``: a row for each image, then normal, then anomalous."""
    model.train()
    model.stage.fill_(stage)
    noise = Noise(eps[:-2, None], eps[-2:, None])
    output = model.train_step(model.look(golden["train_images"]), noise, pair, golden["train_class_names"])
    masks = golden["train_masks"][:, 0]
    losses = model.losses(output, golden["train_labels"], masks, torch.ones(len(masks), dtype=torch.bool))
    divergences = regularisation(output.context, output.state)
    terms = {
        "cls": losses["image"],
        "kl": model.config.divergence_weight * sum(term.sum() for term in divergences),
        "ort": orthogonality(output.text),
        "total": sum(losses.values()),
    }
    if output.layer_logits is not None:
        terms |= {"focal": focal_loss(output.layer_logits, masks).sum(), "dice": dice(output.layer_logits, masks).sum()}
    return Step(output, divergences, terms, losses)


def stored_noise(golden) -> Tensor:
    return torch.cat([golden[f"train_s1_eps_{side}"] for side in ("context", "normal", "abnormal")])


def test_training_forward(golden, model: BayesPFLModel) -> None:
    done = step(model, golden, 1, stored_noise(golden), int(golden["train_s1_index_prompt"]))
    output = done.output
    golden.compare(model.look(golden["train_images"]).image, "train_s1_feat", 1e-5)
    rows = {"context": slice(None), "normal": slice(0, 1), "abnormal": slice(1, 2)}
    for side, row in rows.items():
        found = Posterior(*(value[row] for value in (output.context if side == "context" else output.state)))
        golden.compare(found.mean, f"train_s1_mu_{side}", 1e-5)
        golden.compare(found.variance, f"train_s1_var_{side}", 1e-5)
        golden.compare(found.start[:, 0], f"train_s1_z0_{side}", 1e-5)
        golden.compare(found.end[:, 0], f"train_s1_zk_{side}", 3e-4)
        golden.compare(found.logdet[:, 0], f"train_s1_logdet_{side}", 3e-4)
    context, state = (model.config.divergence_weight * term for term in done.divergences)
    for side, value in {"context": context, "normal": state[0], "abnormal": state[1]}.items():
        golden.compare(value, f"train_s1_kl_{side}", 1e-5)
    golden.compare(output.text.flatten(1, 2), "train_s1_text", 5e-5)
    golden.compare(torch.sigmoid(output.layer_logits).transpose(0, 1), "train_s1_maps", 3e-5)


@pytest.mark.parametrize("stage", STAGES)
def test_losses(golden, model: BayesPFLModel, stage: int) -> None:
    pair = int(golden[f"train_s{stage}_index_prompt"])
    done = step(model, golden, stage, stored_noise(golden), pair)
    golden.compare(done.output.image_logits.flatten(1), f"train_s{stage}_logits_image", 2e-4)
    # Stage 2 trains on the image term alone and does not compute the maps; their terms do not depend on the stage.
    terms = step(model, golden, 1, stored_noise(golden), pair).terms | done.terms
    for name in ("cls", "focal", "dice", "kl", "ort", "total"):
        golden.compare(terms[name], f"train_s{stage}_loss_{name}", 1e-5)


def test_reconstruction_term(golden, official: Mapping[str, Tensor]) -> None:
    """The published code computes it with its decoders but uses it nowhere, so the model has neither."""
    x = golden["train_s1_zk_context"]
    for layer in (0, 2, 4):
        weight, bias = (official[f"context_decoder.weight_mean.module.{layer}.{kind}"] for kind in ("weight", "bias"))
        x = F.linear(x if layer == 0 else F.softplus(x), weight, bias)
    x = F.linear(x, official["PFL_context.p_mu.0.weight"], official["PFL_context.p_mu.0.bias"])
    error = (x - golden["train_s1_feat"]) ** 2
    golden.compare(error.sum(dim=1).mean(), "train_s1_rec", 1e-5)


@pytest.mark.parametrize("stage", STAGES)
def test_gradients(golden, model: BayesPFLModel, official: Mapping[str, Tensor], stage: int) -> None:
    model.requires_grad_(requires_grad=True)  # the published code computes all gradients in both stages
    done = step(model, golden, stage, stored_noise(golden), int(golden[f"train_s{stage}_index_prompt"]))
    done.terms["total"].backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    gradients = official_view(found, official)
    names = golden[f"train_s{stage}_grad_names"]
    assert set(names) <= set(gradients)
    assert all(not gradients[name].any() for name in set(gradients) - set(names))
    norms = torch.stack([gradients[name].double().norm() for name in names])
    golden.compare(norms, f"train_s{stage}_grad_norms", 5e-4, "E", floor=1e-6)
    for key in golden:
        if key.startswith(f"train_s{stage}_grad["):
            golden.compare(gradients[key.split("[")[1][:-1]], key, 5e-4, "R")


def test_three_optimiser_steps(golden, model: BayesPFLModel, official: Mapping[str, Tensor]) -> None:
    model.enter_stage(1)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = Adam(parameter_groups(model), betas=(0.5, 0.999))
    schedule = LambdaLR(optimizer, lambda count: stage_factor(count, total=10, warmup_share=0.1))
    losses, rates = [], []
    for eps, pair in zip(golden["steps_eps"], golden["steps_index"].tolist(), strict=True):
        rates.append([group["lr"] for group in optimizer.param_groups])
        terms = step(model, golden, 1, eps, pair).terms
        losses.append([terms[name].item() for name in ("total", "cls", "focal", "dice", "kl", "ort")])
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        schedule.step()
    golden.compare(losses, "steps_loss", 5e-5)
    golden.compare(torch.tensor(rates, dtype=torch.float64), "steps_lr", 1e-12)

    after = {name: parameter.detach() for name, parameter in model.named_parameters()}
    change = official_view({name: (after[name] - before[name]).double() for name in after}, official)
    names = golden["steps_param_names"]
    # The weights that the model does not have cannot change, and the stored values say that they did not.
    norms = [0.0 if any(part in name for part in DEAD) else change[name].norm().item() for name in names]
    golden.compare(norms, "steps_param_change_norms", 5e-3, "E")
    for key in golden:
        if key.startswith("steps_param["):
            golden.compare(official_view(after, official)[key.split("[")[1][:-1]], key, 3e-4)


# ---- what surrounds the values ---------------------------------------------------------------------------------------


def test_initialisation(golden, config: BayesPFLConfig, official: Mapping[str, Tensor]) -> None:
    """Same tensors, same distributions: means and deviations within 5 standard errors of two independent samples."""
    torch.manual_seed(0)
    fresh = official_view(dict(BayesPFLModel(config).named_parameters()), official)
    stored = zip(golden["init_names"], golden["init_shapes"], golden["init_mean_std"].tolist(), strict=True)
    for name, shape, (mean, deviation) in stored:
        assert shape == str(tuple(official[name].shape)), name
        if any(part in name for part in DEAD):
            continue
        value = fresh[name].detach().double()
        number, spread = value.numel(), max(deviation, value.std(correction=0).item())
        assert abs(value.mean().item() - mean) <= 5 * spread * (2 / number) ** 0.5 + 1e-7, name
        assert abs(value.std(correction=0).item() - deviation) <= 5 * spread / number**0.5 + 1e-7, name


def test_checkpoint_has_the_stored_names(golden, model: BayesPFLModel, official: Mapping[str, Tensor]) -> None:
    assert set(golden["init_names"]) == unique(official)
    view = official_view(dict(model.named_parameters()), official)
    assert set(view) == {name for name in unique(official) if not any(part in name for part in DEAD)}
    assert all(torch.equal(view[name], official[name].float()) for name in view)


def test_every_stored_key_is_read(unread_keys: list[str]) -> None:
    assert not unread_keys
