# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The parts of BayesPFL against naive loops in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from anomalib_zsad.models.bayes_pfl.components import (
    AttentionPooling,
    ContextDistribution,
    Posterior,
    ResidualCrossAttention,
    StateDistribution,
    planar_flows,
)
from anomalib_zsad.models.bayes_pfl.loss import dice, focal_loss, orthogonality, regularisation

WIDTH, FLOWS, SAMPLES, IMAGES = 6, 3, 4, 2


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(5)


def excite(module: torch.nn.Module) -> torch.nn.Module:
    """Weights far enough from their initial values that no softmax is flat."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module.double()


def naive_flows(z: np.ndarray, u: np.ndarray, w: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flow by flow; the Jacobian ``I + u (1 - tanh^2) w^T`` is written out and its determinant computed."""
    jacobian = np.eye(len(z))
    logs = 0.0
    for k in range(len(u)):
        t = math.tanh(w[k] @ z + bias[k])
        jacobian = np.eye(len(z)) + np.outer(u[k], (1 - t * t) * w[k])
        logs += math.log(abs(np.linalg.det(jacobian)) + 1e-5)
        z = u[k] * t + z
    return z, logs


def test_flows_and_their_determinants() -> None:
    z, u, w = (torch.randn(IMAGES, n, WIDTH, dtype=torch.float64) for n in (SAMPLES, FLOWS, FLOWS))
    bias = torch.randn(IMAGES, FLOWS, dtype=torch.float64)
    end, logdet = planar_flows(z, u, w, bias)
    for i in range(IMAGES):
        for r in range(SAMPLES):
            want, want_log = naive_flows(z[i, r].numpy(), u[i].numpy(), w[i].numpy(), bias[i].numpy())
            np.testing.assert_allclose(end[i, r], want, rtol=1e-12)
            np.testing.assert_allclose(logdet[i, r], want_log, rtol=1e-9)


def naive_mlp(layers: torch.nn.Sequential, x: np.ndarray) -> np.ndarray:
    for layer in (0, 2, 4):
        x = layers[layer].weight.detach().numpy() @ x + layers[layer].bias.detach().numpy()
        x = x if layer == 4 else np.log1p(np.exp(x))
    return x


def test_context_is_conditioned_on_the_image() -> None:
    part = excite(ContextDistribution(WIDTH, 4, FLOWS))
    image = torch.randn(IMAGES, WIDTH, dtype=torch.float64)
    noise = torch.randn(1, SAMPLES, WIDTH, dtype=torch.float64)
    got = part(image, noise)
    for i in range(IMAGES):
        x = image[i].numpy()
        mean, h = naive_mlp(part.encoder.mean, x), naive_mlp(part.encoder.log_variance, x)
        u, w, bias = (
            (layer.weight @ image[i] + layer.bias).detach().numpy().reshape(FLOWS, -1)
            for layer in (part.u, part.w, part.bias)
        )
        np.testing.assert_allclose(got.variance[i].detach(), np.exp(h / 2), rtol=1e-12)
        for r in range(SAMPLES):
            z = mean + np.exp(h / 4) * noise[0, r].numpy()
            want, want_log = naive_flows(z, u, w, bias[:, 0])
            np.testing.assert_allclose(got.start[i, r].detach(), z, rtol=1e-12)
            np.testing.assert_allclose(got.end[i, r].detach(), want, rtol=1e-10)
            np.testing.assert_allclose(got.logdet[i, r].detach(), want_log, rtol=1e-7)


def test_states_share_the_encoder_and_not_the_flows() -> None:
    part = excite(StateDistribution(WIDTH, 4, FLOWS))
    noise = torch.randn(2, SAMPLES, WIDTH, dtype=torch.float64)
    got = part(noise)
    for side in range(2):
        x = part.condition[side].detach().numpy()
        mean, h = naive_mlp(part.encoder.mean, x), naive_mlp(part.encoder.log_variance, x)
        flows = (value[side].detach().numpy() for value in (part.u, part.w, part.bias))
        z = mean + np.exp(h / 4) * noise[side, 1].numpy()
        np.testing.assert_allclose(got.end[side, 1].detach(), naive_flows(z, *flows)[0], rtol=1e-10)


def test_residual_cross_attention() -> None:
    heads, width, tokens, texts = 2, 5, 7, 3
    part = excite(ResidualCrossAttention(2, width, WIDTH, heads))
    patches = torch.randn(1, tokens, width, dtype=torch.float64)
    text = torch.nn.functional.normalize(torch.randn(1, texts, WIDTH, dtype=torch.float64), dim=-1)
    keys = part.project(1, patches)
    got = part(text, keys)[0].detach().numpy()

    g = patches[0].numpy() @ part.projections[1].weight.detach().numpy().T
    g /= np.linalg.norm(g, axis=1, keepdims=True)
    np.testing.assert_allclose(keys[0].detach(), g, rtol=1e-12)
    for t in range(texts):
        query = part.query.weight.detach().numpy() @ text[0, t].numpy() + part.query.bias.detach().numpy()
        found = np.zeros(WIDTH)
        for h in range(heads):
            cut = slice(h * WIDTH // heads, (h + 1) * WIDTH // heads)
            logits = np.array([query[cut] @ g[n, cut] / math.sqrt(WIDTH) for n in range(tokens)])
            weights = np.exp(logits) / np.exp(logits).sum()
            found[cut] = sum(weights[n] * g[n, cut] for n in range(tokens))
        want = found + text[0, t].numpy()
        np.testing.assert_allclose(got[t], want / np.linalg.norm(want), rtol=1e-10)


def test_attention_pooling() -> None:
    part = excite(AttentionPooling(2, 4, WIDTH))
    layers = tuple(torch.randn(1, 5, 4, dtype=torch.float64) for _ in range(2))
    linear = {name: value.detach().numpy() for name, value in part.named_parameters()}
    tokens = [
        linear["reduce.weight"] @ np.concatenate([layer[0, n].numpy() for layer in layers]) + linear["reduce.bias"]
        for n in range(5)
    ]
    weights = np.exp([(linear["score.weight"] @ token + linear["score.bias"])[0] for token in tokens])
    pooled = sum(w * token for w, token in zip(weights / weights.sum(), tokens, strict=True))
    want = linear["output.weight"] @ pooled + linear["output.bias"]
    np.testing.assert_allclose(part(layers)[0].detach(), want, rtol=1e-10)


def test_segmentation_losses() -> None:
    logits = 3 * torch.randn(2, 3, 4, 4, dtype=torch.float64)
    masks = torch.rand(2, 4, 4) > 0.7
    got_focal, got_dice = focal_loss(logits, masks), dice(logits, masks)
    for layer in range(3):
        sums = {True: 0.0, False: 0.0}
        overlap = total = 0.0
        for index in np.ndindex(2, 4, 4):
            b, h, w = index
            p = 1 / (1 + math.exp(-logits[b, layer, h, w].item()))
            anomalous = bool(masks[index])
            true = p if anomalous else 1 - p
            sums[anomalous] -= (1 - true) ** 2 * math.log(true + 1e-8)
            overlap += p * anomalous
            total += p + anomalous
        number = int(masks.sum())
        want = sums[True] / (number + 1e-8) + sums[False] / (masks.numel() - number + 1e-8)
        assert got_focal[layer].item() == pytest.approx(want, rel=1e-6)
        assert got_dice[layer].item() == pytest.approx(1 - (2 * overlap + 1e-5) / (total + 1e-5), rel=1e-9)


def test_focal_loss_of_a_batch_without_foreground_is_finite() -> None:
    logits = torch.tensor([-80.0, 80.0]).reshape(1, 1, 1, 2).requires_grad_()
    loss = focal_loss(logits, torch.zeros(1, 1, 2, dtype=torch.bool)).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_divergences() -> None:
    def posterior(rows: int) -> Posterior:
        draw = [torch.randn(rows, 1, WIDTH, dtype=torch.float64) for _ in range(2)]
        mean = torch.randn(rows, WIDTH, dtype=torch.float64)
        variance = torch.rand(rows, WIDTH, dtype=torch.float64) + 0.1
        return Posterior(mean, variance, *draw, torch.randn(rows, 1, dtype=torch.float64))

    def naive(part: Posterior, i: int) -> float:
        total = 0.0
        for c in range(WIDTH):
            mean, variance = part.mean[i, c].item(), part.variance[i, c].item()
            start, end = part.start[i, 0, c].item(), part.end[i, 0, c].item()
            total += -0.5 * (math.log(variance) + (start - mean) ** 2 / variance) + 0.5 * end**2
        return total

    context, state = posterior(5), posterior(2)
    got, got_state = regularisation(context, state)
    want = sum(naive(context, i) - context.logdet[i, 0].item() for i in range(5)) / 5
    assert got.item() == pytest.approx(want, rel=1e-12)
    for side in range(2):
        want = naive(state, side) - state.logdet[side, 0].item() / 5
        assert got_state[side].item() == pytest.approx(want, rel=1e-12)


def test_orthogonality_is_a_mean_that_counts_the_diagonal() -> None:
    text = torch.nn.functional.normalize(torch.randn(2, 2, 3, WIDTH, dtype=torch.float64), dim=-1)
    want = 0.0
    for b, bank, i, j in np.ndindex(2, 2, 3, 3):
        want += (text[b, bank, i] @ text[b, bank, j]).item() ** 2 * (i != j) / 9 / 2
    assert orthogonality(text).item() == pytest.approx(want, rel=1e-12)
    alike = torch.ones(1, 2, 3, WIDTH)
    assert orthogonality(alike).item() == pytest.approx(2 * 6 / 9)
