# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Training of a small CLIP on generated surfaces.

Captions and pictures are matched as in CLIP. What makes it learn in hours on a processor is a second, dense loss: every
patch, behind every tap, is compared with a sentence for the flawless and one for the faulty thing, and the mask says
which of them is right. Heads that are thrown away give the towers a start while the text still says nothing.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

from anomalib_zsad.clip.compact import compact
from anomalib_zsad.clip.config import CLIP_MEAN, CLIP_STD, ClipConfig, TextConfig, VisionConfig
from anomalib_zsad.clip.random_weights import random_weights
from anomalib_zsad.clip.text import TextTower
from anomalib_zsad.clip.vision import VisionTower, resample_positions
from anomalib_zsad.pretraining.texts import Vocabulary, Writer, all_sentences
from anomalib_zsad.pretraining.views import SEEN_CLASSES, SEEN_DEFECTS, STAGE_TWO, Views, ViewsOfSteps

SIZES = ClipConfig(VisionConfig(224, 14, 192, 8, 3), TextConfig(77, 49408, 128, 4, 2), 192)
"""In training; the joint space is :func:`reduced` in the end."""
TAPS = (2, 4, 6, 8)
VALUE_PATH_FROM = 3
COVERED, CLEAR = 0.08, 0.0
"""A patch is faulty from this share of defective pixels on, flawless up to that one, and not asked in between."""


FEATURE_LENGTH = 0.4
"""Root mean square of the numbers in an image feature, of the order of OpenAI's. Similarities do not depend on it."""
SCHEDULE = (
    (0, 0.01), (99, 1.0), (1750, 1.0), (5250, 0.09), (5350, 0.6), (11500, 0.0), (11600, 0.6), (17000, 0.0),
    (17100, 0.6), (22750, 0.0),
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the weights.

    Attributes:
        seed (int): Of the initial weights, the pictures and the sentences.
        batch (int): Views in a step.
        small (int): Side of a piece of a picture in pixels.
        learning_rate (float): Of Adam; the matrices of the blocks take it times ``muon``.
        muon (float): 0 for Adam everywhere.
        weight_decay (float): Of all matrices.
        schedule (tuple[tuple[int, float], ...]): Steps and the share of the learning rate there; straight in between.
    """

    seed: int = 7
    batch: int = 64
    small: int = 112
    learning_rate: float = 1.2e-3
    muon: float = 3.0
    weight_decay: float = 0.05
    schedule: tuple[tuple[int, float], ...] = SCHEDULE

    def __post_init__(self) -> None:
        """Lists, as in JSON, will do."""
        object.__setattr__(self, "schedule", tuple((int(step), float(share)) for step, share in self.schedule))

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return self.schedule[-1][0]

    def rate(self, step: int) -> float:
        """Share of the full learning rate."""
        steps, shares = zip(*self.schedule, strict=True)
        return float(np.interp(step, steps, shares))

    def lasting(self, steps: int) -> Recipe:
        """The same schedule, stretched to ``steps``."""
        knots = [(round(step * steps / self.steps), share) for step, share in self.schedule]
        return replace(self, schedule=tuple(knots))


class Sentences(NamedTuple):
    """Sentences of a step, each one once, and which of them a view is compared with."""

    texts: list[str]
    normal: list[int]
    anomalous: list[int]
    caption: list[int]
    kinds: list[int]


def write(views: Views, recipe: Recipe, step: int) -> Sentences:
    """The sentences for the views of a step."""
    writer = Writer(f"{recipe.seed}/{step}")
    texts: dict[str, int] = {}

    def number(text: str) -> int:
        return texts.setdefault(text, len(texts))

    names = sorted(set(views.classes))
    states = {name: [number(text) for text in writer.states(name)] for name in names}
    shown = sorted(set(zip(views.classes, views.defects, strict=True)))
    captions = {pair: number(writer.caption(*pair)) for pair in shown}
    kinds = [number(text) for text in writer.kinds(names[step % len(names)], SEEN_DEFECTS)]
    return Sentences(
        list(texts),
        [states[name][0] for name in views.classes],
        [states[name][1] for name in views.classes],
        [captions[pair] for pair in zip(views.classes, views.defects, strict=True)],
        kinds,
    )


class Pupil(nn.Module):
    """The two towers with a compact token table, and heads that are thrown away."""

    def __init__(self, vocabulary: Vocabulary, seed: int) -> None:
        super().__init__()
        compact = ClipConfig(SIZES.vision, TextConfig(77, len(vocabulary), 128, 4, 2), SIZES.embed_dim)
        self.visual = VisionTower(compact, "gelu", SIZES.vision.image_size)
        self.text = TextTower(compact, "gelu")
        self.logit_scale = nn.Parameter(torch.zeros(()))
        weights = random_weights(compact, seed)
        weights["visual.conv1.weight"] = dct_patches(SIZES.vision)
        for name, parameter in self.named_parameters():
            parameter.data = weights[name.removeprefix("text.")]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.class_head = nn.Linear(SIZES.vision.width, len(SEEN_CLASSES))
            self.kind_head = nn.Linear(SIZES.vision.width, 1 + len(SEEN_DEFECTS))

    def see(self, images: Tensor, *, value_path: bool = False) -> tuple[Tensor, ...]:
        """Class token ``(B, D)`` and tapped patch tokens ``(B, L, D)`` of pictures of any size, uint8."""
        mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) * 255 for v in (CLIP_MEAN, CLIP_STD))
        side = images.shape[-1]
        with torch.device("meta"):
            tower = VisionTower(SIZES, "gelu", side)
        weights = dict(self.visual.named_parameters())
        positions = resample_positions(weights["positional_embedding"], tower.grid, "bicubic_antialias")
        cls, taps = functional_call(
            tower,
            weights | {"positional_embedding": positions},
            ((images.float() - mean) / std,),
            {"taps": TAPS, "value_path_from": VALUE_PATH_FROM if value_path else None},
        )
        return cls, *taps

    def forward(
        self, seen: tuple[Tensor, ...], views: Views, sentences: Sentences, ids: Tensor, ends: list[int]
    ) -> dict[str, Tensor]:
        """The terms of the loss, from what :meth:`see` saw: the class token, then the taps."""
        device = self.logit_scale.device
        cls, *taps = seen
        texts = self.text(self.text.embed(ids.to(device)), ends)
        scale = self.logit_scale.exp().clamp(max=100)
        cls, last = cls.float(), taps[-1].float()
        image = F.normalize(self.visual.project(cls).float(), dim=-1)  # (B, C)
        patches = F.normalize(self.visual.project(torch.stack(taps)).float(), dim=-1)  # (T, B, L, C)
        texts = F.normalize(texts.float(), dim=-1)  # (N, C)

        coverage = views.coverage.to(device)
        faulty, clear = coverage >= COVERED, coverage <= CLEAR
        anomalous = torch.tensor([bool(kind) for kind in views.defects], device=device)
        kind = torch.tensor(
            [1 + SEEN_DEFECTS.index(k) if k in SEEN_DEFECTS else 0 for k in views.defects], device=device
        )
        name = torch.tensor([SEEN_CLASSES.index(n) for n in views.classes], device=device)

        axis = texts[sentences.anomalous] - texts[sentences.normal]  # (B, C)
        dense = scale * torch.einsum("tblc,bc->tbl", patches, axis)
        state = scale * (image * axis).sum(-1)
        kinds = scale * patches[-1] @ texts[sentences.kinds].T  # (B, L, K)
        named = faulty & (kind > 0)[:, None]  # a foreign patch is of no kind
        at_fault = kind[:, None].expand_as(named)[named]
        token_kinds = self.kind_head(self.visual.ln_post(last))  # (B, L, 1 + K)
        return {
            "contrast": _contrast(scale * image @ texts.T, torch.tensor(sentences.caption, device=device)),
            "state": F.binary_cross_entropy_with_logits(state, anomalous.float()),
            "dense": torch.stack([_balanced(logits, faulty, clear) for logits in dense]).mean(),
            "pool": F.binary_cross_entropy_with_logits(
                dense.mean(0).topk(POOLED, -1).values.mean(-1), anomalous.float()
            ),
            "kind": F.cross_entropy(kinds[named], at_fault - 1),
            "head_kind": 0.5 * (F.cross_entropy(token_kinds[named], at_fault) + _to_zero(token_kinds[clear])),
            "head_class": F.cross_entropy(self.class_head(self.visual.ln_post(cls)), name),
        }


POOLED = 4  # patches that speak for a picture
WEIGHTS = {
    "contrast": 0.3, "state": 1.0, "dense": 2.0, "pool": 1.0, "kind": 0.4, "head_kind": 1.0, "head_class": 0.2,
}  # fmt: skip
FROM_STAGE_TWO = {"pool"}
"""Terms that count from :data:`~anomalib_zsad.pretraining.views.STAGE_TWO` on."""


def _to_zero(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def _balanced(logits: Tensor, faulty: Tensor, clear: Tensor) -> Tensor:
    """Cross entropy in which faulty and flawless patches weigh the same."""
    return 0.5 * (F.softplus(-logits[faulty]).mean() + F.softplus(logits[clear]).mean())


def _contrast(logits: Tensor, own: Tensor) -> Tensor:
    """CLIP's loss among the captions of the step; pictures with the same caption are all right for it."""
    columns, own = own.unique(return_inverse=True)
    logits = logits[:, columns]
    matches = F.one_hot(own, len(columns)).T.float()  # (captions, B)
    to_image = (matches / matches.sum(1, keepdim=True) * -F.log_softmax(logits.T, dim=-1)).sum(1).mean()
    return 0.5 * (F.cross_entropy(logits, own) + to_image)


def dct_patches(size: VisionConfig) -> Tensor:
    """First weights of the patch layer ``(D, 3, p, p)``: low-frequency cosines of brightness and of two opponents."""
    grid = np.arange(size.patch_size)
    basis = np.cos(np.pi * np.outer(grid, 2 * grid + 1) / (2 * size.patch_size))
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    order = sorted(np.ndindex(size.patch_size, size.patch_size), key=lambda uv: (uv[0] ** 2 + uv[1] ** 2, uv))
    opponents = ((1, 1, 1), (1, -1, 0), (1, 1, -2))
    of_color = size.width // 6
    plan = [(0, order[: size.width - 2 * of_color]), (1, order[:of_color]), (2, order[:of_color])]
    filters = [
        np.multiply.outer(np.array(opponents[color]) / np.linalg.norm(opponents[color]), np.outer(basis[u], basis[v]))
        for color, frequencies in plan
        for u, v in frequencies
    ]
    return torch.from_numpy(np.stack(filters)).float() * 0.25


def optimizers(pupil: Pupil, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, Adam for the rest."""
    blocks: list[nn.Parameter] = []
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in pupil.named_parameters():
        if recipe.muon and parameter.ndim == 2 and "resblocks" in name:
            blocks.append(parameter)
        else:
            (matrices if parameter.ndim > 1 else rest).append(parameter)
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    found: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))]
    if blocks:
        rate = recipe.muon * recipe.learning_rate
        found.append(
            torch.optim.Muon(blocks, lr=rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw")
        )
    for optimizer in found:
        for group in optimizer.param_groups:
            group["full"] = group["lr"]
    return found


def train(
    recipe: Recipe,
    folder: Path,
    *,
    until: int | None = None,
    workers: int = 1,
    threads: int = 1,
    device: str = "cpu",
) -> Pupil:
    """Train, from the last saved step if there is one in ``folder``.

    Args:
        recipe (Recipe): What to train.
        folder (Path): Gets ``log.jsonl``, one line for each step, and ``state.pt``.
        until (int | None): Stop before this step; the schedule stays that of ``recipe``.
        workers (int): Processes that draw pictures.
        threads (int): Parts of a step's pictures that the image tower sees side by side.
        device (str): Where to train.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = Vocabulary(all_sentences(SEEN_CLASSES, SEEN_DEFECTS))
    pupil = Pupil(vocabulary, recipe.seed).to(device)
    tools = optimizers(pupil, recipe)
    start = _resume(folder, recipe, pupil, tools)
    end = min(recipe.steps, until or recipe.steps)
    log = folder / "log.jsonl"
    kept = log.read_text(encoding="utf-8").splitlines(keepends=True)[:start] if log.exists() else []
    log.write_text("".join(kept), encoding="utf-8")
    began = time.monotonic()
    with log.open("a", encoding="utf-8") as lines:
        steps = _draw(recipe, range(start, end), workers)
        for step, views in track(steps, "Training", total=end - start):
            losses = advance(pupil, tools, recipe, vocabulary, step, views, threads)
            record = {"step": step, **losses, "seconds": round(time.monotonic() - began, 1)}
            print(json.dumps(record), file=lines, flush=True)
            if (step + 1) % 250 == 0 or step + 1 == end:
                _save(folder, recipe, pupil, tools, step + 1)
    return pupil


def advance(
    pupil: Pupil,
    tools: list[torch.optim.Optimizer],
    recipe: Recipe,
    vocabulary: Vocabulary,
    step: int,
    views: Views,
    threads: int = 1,
) -> dict[str, float]:
    """One step; returns the terms of its loss.

    The image tower sees ``threads`` parts of the pictures side by side. The loss is that of all of them together: its
    gradient by what the tower saw is handed back to each part.
    """
    sentences = write(views, recipe, step)
    ids, ends = vocabulary.encode(sentences.texts)
    for tool in tools:
        for group in tool.param_groups:
            group["lr"] = group["full"] * recipe.rate(step)
    device = pupil.logit_scale.device

    def see(images: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(device.type, torch.bfloat16):  # of this thread alone
            return pupil.see(images.to(device), value_path=step % 4 == 1)

    with ThreadPoolExecutor(threads) as pool, sdpa_kernel(SDPBackend.MATH):  # the fused kernel is slower here
        parts = list(pool.map(see, views.images.chunk(threads)))
        seen = [torch.cat([token.detach() for token in tokens]).requires_grad_() for tokens in zip(*parts, strict=True)]
        with torch.autocast(device.type, torch.bfloat16):
            terms = pupil(seen, views, sentences, ids, ends)
        counted = [name for name in terms if name not in FROM_STAGE_TWO or step >= STAGE_TWO]
        total = torch.stack([WEIGHTS[name] * terms[name] for name in counted]).sum()
        total.backward()
        gradients = zip(*(cast("Tensor", tokens.grad).chunk(threads) for tokens in seen), strict=True)
        list(pool.map(torch.autograd.backward, parts, gradients))
    nn.utils.clip_grad_norm_(pupil.parameters(), 1.0)
    for tool in tools:
        tool.step()
        tool.zero_grad(set_to_none=True)
    losses = {"loss": total.item(), **{name: term.item() for name, term in terms.items()}}
    if not math.isfinite(losses["loss"]):
        msg = f"Loss not finite in step {step}: {losses}; lower learning_rate."
        raise FloatingPointError(msg)
    return {name: round(value, 4) for name, value in losses.items()}


def _draw(recipe: Recipe, steps: range, workers: int) -> Iterator[tuple[int, Views]]:
    loader: DataLoader = DataLoader(_views(recipe), batch_size=None, sampler=steps, num_workers=workers)
    yield from zip(steps, loader, strict=True)


def _views(recipe: Recipe) -> ViewsOfSteps:
    return ViewsOfSteps(SIZES.vision.image_size, recipe.small, SIZES.vision.patch_size, recipe.batch, recipe.seed)


def _save(folder: Path, recipe: Recipe, pupil: Pupil, tools: list[torch.optim.Optimizer], step: int) -> None:
    state = {
        "recipe": asdict(recipe),
        "step": step,
        "pupil": pupil.state_dict(),
        "optimizers": [tool.state_dict() for tool in tools],
    }
    torch.save(state, folder / "state.tmp")
    (folder / "state.tmp").replace(folder / "state.pt")


def _resume(folder: Path, recipe: Recipe, pupil: Pupil, tools: list[torch.optim.Optimizer]) -> int:
    path = folder / "state.pt"
    if not path.exists():
        return 0
    state: dict[str, Any] = torch.load(path, weights_only=True)
    if state["recipe"] | {"schedule": ()} != asdict(recipe) | {"schedule": ()}:
        msg = f"{path} was trained by another recipe ({state['recipe']}); choose another folder."
        raise ValueError(msg)
    pupil.load_state_dict(state["pupil"])
    for tool, values in zip(tools, state["optimizers"], strict=True):
        tool.load_state_dict(values)
    return state["step"]


def write_backbone(pupil: Pupil, recipe: Recipe, path: Path) -> Path:
    """Write the towers, without the heads, as a compact ``.safetensors`` file that ``--model.pretrained`` reads."""
    heads = ("class_head.", "kind_head.")
    towers = {name.removeprefix("text."): value.cpu() for name, value in pupil.state_dict().items()}
    kept = reduced({name: value for name, value in towers.items() if not name.startswith(heads)})
    with torch.no_grad():
        cls, *_ = pupil.see(_views(recipe)[0].images.to(pupil.logit_scale.device))
    kept["visual.proj"] *= FEATURE_LENGTH / (cls.cpu() @ kept["visual.proj"]).square().mean().sqrt()
    ids = Vocabulary(all_sentences(SEEN_CLASSES, SEEN_DEFECTS)).ids
    save_file(compact(kept, ids), path, {"activation": "gelu", "recipe": json.dumps(asdict(recipe))})
    return path


def reduced(towers: dict[str, Tensor]) -> dict[str, Tensor]:
    """Towers whose joint space is as wide as the text tower, as in OpenAI's models.

    Texts span no more dimensions than their tower is wide. With ``Q R`` the decomposition of the transposed text
    projection, ``R^T`` in its place and ``V Q`` in the place of the image projection ``V`` leave every inner product
    of a picture and a text what it was.
    """
    q, r = torch.linalg.qr(towers["text_projection"].T)
    return towers | {"text_projection": r.T.contiguous(), "visual.proj": towers["visual.proj"] @ q}
