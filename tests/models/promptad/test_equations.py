# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""PromptAD against its equations, written term by term in float64."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import erf, expit

from anomalib_zsad.clip.tokenizer import tokenize
from anomalib_zsad.models.promptad.components import Branch
from anomalib_zsad.models.promptad.config import PromptADConfig
from anomalib_zsad.models.promptad.loss import deviation_loss
from anomalib_zsad.models.promptad.torch_model import PromptADModel

TINY = {"backbone": "tiny-random", "image_size": 112, "width": 24, "class_name": "metal nut"}
ABLATIONS = [
    {},
    {"interaction": False},
    {"cross_view": False},
    {"cross_view": False, "interaction": False},
    {"branches": "abnormal"},
    {"branches": "normal", "cross_view": False},
]


def build(**options) -> PromptADModel:
    torch.manual_seed(3)
    model = PromptADModel(PromptADConfig.resolve({**TINY, **options}))
    with torch.no_grad():  # far enough from the initial values that maps pass the 0.5 of the interaction
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.double()


def images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 112, 112, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    mean, variance = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias


def naive_block(state: dict[str, np.ndarray], x: np.ndarray, heads: int) -> np.ndarray:
    """A pre-norm transformer block over ``x`` (L, D)."""
    y = norm(x, state["ln_1.weight"], state["ln_1.bias"])
    q, k, v = np.split(y @ state["attn.in_proj_weight"].T + state["attn.in_proj_bias"], 3, axis=1)
    size, seen = x.shape[1] // heads, np.zeros_like(x)
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        for i in range(len(x)):
            logits = np.array([q[i, part] @ k[j, part] / math.sqrt(size) for j in range(len(x))])
            weights = np.exp(logits - logits.max())
            seen[i, part] = weights / weights.sum() @ v[:, part]
    x = x + seen @ state["attn.out_proj.weight"].T + state["attn.out_proj.bias"]
    y = norm(x, state["ln_2.weight"], state["ln_2.bias"]) @ state["mlp.c_fc.weight"].T + state["mlp.c_fc.bias"]
    return x + 0.5 * y * (1 + erf(y / math.sqrt(2))) @ state["mlp.c_proj.weight"].T + state["mlp.c_proj.bias"]


class NaiveBranch:
    """The branch of section 3 for one image."""

    def __init__(self, branch: Branch, heads: int) -> None:
        self.state = {key: value.detach().numpy() for key, value in branch.state_dict().items()}
        self.heads = heads

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def film(self, x: np.ndarray, text: np.ndarray) -> np.ndarray:
        return np.stack([self.linear("scale", text) * row + self.linear("shift", text) for row in x])

    def block(self, i: int, x: np.ndarray) -> np.ndarray:
        prefix = f"blocks.{i}."
        state = {key.removeprefix(prefix): value for key, value in self.state.items() if key.startswith(prefix)}
        return naive_block(state, x, self.heads)

    def intra(self, q: np.ndarray) -> np.ndarray:
        return np.array([self.linear("score", row)[0] for row in q])

    def cross(self, q: np.ndarray, other: np.ndarray) -> np.ndarray:
        if "prototype.weight" not in self.state:
            return np.zeros(len(q))
        phi = self.linear("prototype", other)
        return np.array([sum(phi[d] * row[d] for d in range(len(phi))) for row in q])


def naive_maps(
    model: PromptADModel, tokens: list[np.ndarray], t_nor: np.ndarray, t_abn: np.ndarray, v_nor=None
) -> list:
    """Maps of both branches behind each block for one image; Eqs. 1 to 4."""
    heads = model.config.num_heads
    branches = {name: NaiveBranch(branch, heads) for name, branch in model.branches.items()}
    own = {"abnormal": t_abn, "normal": t_nor}
    q: dict[str, np.ndarray] = {}
    maps: list[dict[str, np.ndarray]] = []
    for i, x in enumerate(tokens):
        current = {}
        for name, branch in branches.items():
            reduced = branch.linear(f"reduce.{i}", x)
            if i == 0:
                entering = branch.film(reduced, own[name])
            else:
                soft = np.ones(len(x))
                if model.config.interaction and len(branches) == 2:
                    s = maps[-1]["normal" if name == "abnormal" else "abnormal"]
                    soft = expit(np.maximum(s - 0.5, 0))  # Eqs. 3 and 4
                entering = q[name] * soft[:, None] + reduced
            current[name] = branch.block(i, entering)
        q = current
        found = {}
        if "abnormal" in q:  # Eq. 1
            branch = branches["abnormal"]
            found["abnormal"] = branch.intra(q["abnormal"]) - branch.cross(
                q["abnormal"], t_nor if v_nor is None else v_nor
            )
        if "normal" in q:  # Eq. 2
            branch = branches["normal"]
            found["normal"] = branch.cross(q["normal"], t_abn) - branch.intra(q["normal"])
        maps.append(found)
    return maps


def naive_texts(model: PromptADModel) -> tuple[np.ndarray, np.ndarray]:
    clip = model.load_clip()
    texts = [clip.encode_text(tokenize(prompt))[0].numpy() for prompt in model.prompts()]
    return tuple(text / np.sqrt((text**2).mean()) for text in texts)


def naive_score(values: np.ndarray, fraction: float) -> float:
    k = math.ceil(fraction * len(values))
    return sum(sorted(values, reverse=True)[:k]) / k


@pytest.mark.parametrize("options", ABLATIONS, ids=lambda options: "-".join(map(str, options.values())) or "paper")
def test_forward_follows_the_equations(options: dict) -> None:
    model = build(smoothing_sigma=2.0, top_fraction=0.07, margin=3.0, **options)
    batch = images(2)
    clip = model.load_clip()
    output = model.train()(batch)
    prediction = model.eval()(batch)
    t_nor, t_abn = naive_texts(model)
    order = [name for name in ("abnormal", "normal") if name in model.branches]
    passed = 0
    for i in range(len(batch)):
        tokens = [patch[0].numpy() for patch in clip.visual(batch[i : i + 1], taps=model.view["taps"]).patches]
        assert len(tokens) == 3
        maps = naive_maps(model, tokens, t_nor, t_abn)
        for number, found in enumerate(maps):
            for place, name in enumerate(order):
                np.testing.assert_allclose(output.maps[i, number, place].detach(), found[name], atol=1e-6)
                score = naive_score(found[name], 0.07)
                assert output.scores[i, number, place].item() == pytest.approx(score, abs=1e-6)
                passed += (found[name] > 0.5).sum()
        final = sum(maps[-1].values())
        assert prediction.pred_score[i].item() == pytest.approx(expit(naive_score(final, 0.07) / 6), abs=1e-6)
        grid = torch.from_numpy(final.reshape(1, 1, clip.visual.grid, clip.visual.grid))
        up = torch.nn.functional.interpolate(grid, size=(112, 112), mode="bilinear", align_corners=False)[0, 0]
        wanted = expit(gaussian_filter(up.numpy(), 2.0) / 6)
        np.testing.assert_allclose(prediction.anomaly_map[i, 0].detach(), wanted, atol=1e-6)
    assert passed > 0  # some locations take part in the interaction


def test_reference_images_replace_the_normality_prototype_and_nothing_else() -> None:
    model = build().eval()
    batch, good = images(2), images(3)[1:]
    clip = model.load_clip()
    embedding = model.embed(good)
    features = clip.encode_image(good).numpy()
    mean = np.mean([feature / np.linalg.norm(feature) for feature in features], axis=0)
    wanted = mean / np.sqrt((mean**2).mean())
    np.testing.assert_allclose(embedding, wanted, atol=1e-6)

    before = model(batch)
    model.references = {None: embedding}
    prediction = model(batch)
    t_nor, t_abn = naive_texts(model)
    for i in range(2):
        tokens = [patch[0].numpy() for patch in clip.visual(batch[i : i + 1], taps=model.view["taps"]).patches]
        final = sum(naive_maps(model, tokens, t_nor, t_abn, v_nor=wanted)[-1].values())
        assert prediction.pred_score[i].item() == pytest.approx(expit(naive_score(final, 0.1) / 10), abs=1e-6)
    model.train()
    assert torch.equal(model.prototypes([None], model.texts([None])), model.texts([None])[:, 0])  # training uses words
    model.eval().references = {}
    torch.testing.assert_close(model(batch).pred_score, before.pred_score)


def test_deviation_loss_term_by_term() -> None:
    scores = torch.linspace(-9, 9, 24, dtype=torch.float64).reshape(4, 3, 2)
    labels = torch.tensor([False, True, True, False])
    got = deviation_loss(scores, labels, margin=5.0)
    for index in np.ndindex(*scores.shape):
        deviation, y = (scores[index].item() - 0.0) / 1.0, float(labels[index[0]])
        wanted = (1 - y) * max(0, 5 + deviation) + y * max(0, 5 - deviation)
        assert got[index].item() == pytest.approx(wanted, abs=1e-12)


def test_deviation_loss_is_zero_exactly_beyond_the_margins() -> None:
    labels = torch.tensor([False, True])
    assert deviation_loss(torch.tensor([-5.0, 5.0]), labels).sum() == 0
    assert deviation_loss(torch.tensor([-5.001, 70.0]), labels).sum() == 0
    assert deviation_loss(torch.tensor([-4.999, 5.0]), labels)[0] > 0
    assert deviation_loss(torch.tensor([-5.0, 4.999]), labels)[1] > 0
    assert deviation_loss(torch.tensor([-1.0, 1.0]), labels, margin=1.0).sum() == 0


def test_losses_add_up_over_blocks_and_branches() -> None:
    model = build(mask_supervision=True).train()
    output = model(images())
    labels, masks = torch.tensor([True, False, True]), torch.zeros(3, 112, 112, dtype=torch.bool)
    masks[0, 10:40, 20:90] = True
    has_mask = torch.tensor([True, True, False])
    got = {key: value.item() for key, value in model.losses(output, labels, masks, has_mask).items()}

    deviation = 0.0
    for number in range(3):
        for branch in range(2):
            for i in range(3):
                s = naive_score(output.maps[i, number, branch].detach().numpy(), 0.1)
                deviation += (max(0, 5 - s) if labels[i] else max(0, 5 + s)) / 3
    focal = dice = 0.0
    for i in range(2):
        final = output.maps[i, -1].sum(dim=0).reshape(1, 1, 8, 8)
        up = torch.nn.functional.interpolate(final, size=(112, 112), mode="bilinear", align_corners=False)[0, 0]
        p, y = expit(up.detach().numpy() / 10), masks[i].numpy()
        true = np.where(y, p, 1 - p) + 1e-5
        focal += np.mean(-((1 - true) ** 2) * np.log(true)) / 2
        for q, z in ((p, y), (1 - p, ~y)):
            dice += (1 - (2 * (q * z).sum() + 1) / (q.sum() + z.sum() + 1)) / 2
    assert got == {key: pytest.approx(value, rel=1e-9) for key, value in
                   {"deviation": deviation, "focal": focal, "dice": dice}.items()}  # fmt: skip


def test_masks_do_not_train_unless_asked_for() -> None:
    masks, has_mask = torch.ones(2, 112, 112), torch.ones(2, dtype=torch.bool)
    labels = torch.tensor([True, False])
    model = build().train()
    assert set(model.losses(model(images(2)), labels, masks, has_mask)) == {"deviation"}
    model = build(mask_supervision=True).train()
    assert set(model.losses(model(images(2)), labels, masks, ~has_mask)) == {"deviation"}


def test_gradients_of_the_loss_agree_with_differences() -> None:
    model = build().train()
    batch, labels = images(2), torch.tensor([True, False])

    def loss() -> torch.Tensor:
        return model.losses(model(batch), labels, torch.empty(0), torch.zeros(2, dtype=torch.bool))["deviation"]

    loss().backward()
    for name, parameter in model.named_parameters():
        if not name.endswith(("score.weight", "scale.bias", "prototype.bias", "reduce.1.bias")):
            continue
        with torch.no_grad():
            flat, step = parameter.view(-1), 1e-6
            flat[0] += step
            up = loss()
            flat[0] -= 2 * step
            down = loss()
            flat[0] += step
        assert ((up - down) / (2 * step)).item() == pytest.approx(parameter.grad.view(-1)[0].item(), rel=1e-4, abs=1e-6)


def test_pooling_takes_a_tenth_of_the_tokens_rounded_up() -> None:
    assert build().count == math.ceil(0.1 * 64)
    assert PromptADModel(PromptADConfig.resolve({})).count == math.ceil(0.1 * 22 * 22)
    assert build(top_fraction=1.0).count == 64
