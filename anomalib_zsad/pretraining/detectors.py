# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What finds defects: text prompts alone, trained methods, and controls that know less."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import save_file
from torch import Tensor

from anomalib_zsad.clip.model import Clip
from anomalib_zsad.clip.random_weights import random_weights
from anomalib_zsad.clip.tokenizer import tokenize
from anomalib_zsad.clip.weights import clip_config
from anomalib_zsad.functional import gaussian_smooth, to_grid, topk_mean, upsample
from anomalib_zsad.models.base import quarter_layers
from anomalib_zsad.preprocessing import ClipPreProcessor
from anomalib_zsad.pretraining.picture_sets import Batch
from anomalib_zsad.pretraining.recipe import dct_patches
from anomalib_zsad.pretraining.texts import ANOMALOUS_STATES, NORMAL_STATES

Detect = Callable[[Tensor, Sequence[str]], tuple[Tensor, Tensor]]
"""Pictures ``(B, 3, S, S)`` in [0, 1] and their class words -> scores ``(B,)`` and maps ``(B, S, S)``."""

PHOTOS = ("{}", "a photo of a {}", "a close-up photo of a {}")
SMOOTHING = 4.0  # standard deviation in pixels, of every map
TOP = 0.004  # share of a map's pixels whose mean is its score

ARGUMENTS: dict[str, dict[str, object]] = {
    "PromptMoE": {"warmup_epochs": 0.3, "learning_rate": 5e-3},
    "CoPS": {},
    "BayesPFL": {"epochs": 2, "first_stage_epochs": 1, "learning_rate": 2e-3},
    "DAPO": {},
    "PromptAD": {"anomaly_repeats": 1, "learning_rate": 1e-3},
}
"""Methods with what differs from their recipes, which are made for more steps.

Learning rates are those of ``benchmarks/learning_rates.py`` with the best mean of image and pixel AUROC on validation
pictures of seen classes; no class, defect or picture that is tested took part."""


def blur_difference(images: Tensor, words: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The naive control: how far a picture is from its own blur, in any color. It has learned nothing."""
    del words
    blurred = gaussian_smooth(images, images.shape[-1] / 28)
    return _finish((images - blurred).abs().amax(1))


def text_alone(clip: Clip) -> Detect:
    """Patches against sentences for the flawless and the faulty thing; nothing is trained.

    The map is the mean over four taps of the scaled difference of the two similarities; the score is the mean of the
    map's highest pixels and the class token's own difference.
    """
    size, taps = clip.image_size, quarter_layers(clip.config.vision.layers)
    prepare = ClipPreProcessor(size)

    def axis(word: str) -> Tensor:
        means = []
        for states in (NORMAL_STATES, ANOMALOUS_STATES):
            sentences = [photo.format(state.format(word)) for photo in PHOTOS for state in states]
            means.append(F.normalize(F.normalize(clip.encode_text(tokenize(sentences)), dim=-1).mean(0), dim=-1))
        return means[1] - means[0]

    axes: dict[str, Tensor] = {}

    @torch.no_grad()
    def detect(images: Tensor, words: Sequence[str]) -> tuple[Tensor, Tensor]:
        for word in set(words) - axes.keys():
            axes[word] = axis(word)
        direction = torch.stack([axes[word] for word in words])
        scale = torch.exp(cast("Tensor", clip.logit_scale))
        seen = clip.visual(prepare(images), taps=taps)
        image = F.normalize(clip.visual.project(seen.cls), dim=-1)
        patches = F.normalize(clip.visual.project(torch.stack(seen.patches)), dim=-1)
        grid = to_grid((scale * torch.einsum("tblc,bc->tbl", patches, direction)).mean(0))
        score, maps = _finish(upsample(grid, images.shape[-1]))
        return 0.5 * (score + scale * (image * direction).sum(-1)), maps

    return detect


def linear_adapter(clip: Clip, training: Iterator[Batch], ridge: float = 1e-3) -> Detect:
    """Least squares from the tokens of four taps to the mask, in closed form; both kinds of patches weigh the same."""
    taps = quarter_layers(clip.config.vision.layers)
    prepare, patch = ClipPreProcessor(clip.image_size), clip.config.vision.patch_size

    def features(images: Tensor) -> Tensor:
        tokens = torch.cat([F.layer_norm(t, t.shape[-1:]) for t in clip.visual(prepare(images), taps=taps).patches], -1)
        return torch.cat([tokens, torch.ones_like(tokens[..., :1])], -1).double()

    width = 1 + len(taps) * clip.config.vision.width
    moments = {side: torch.zeros(width, width, dtype=torch.float64) for side in (-1, 1)}  # flawless, faulty
    sums = {side: torch.zeros(width, dtype=torch.float64) for side in (-1, 1)}
    counts = {-1: 0, 1: 0}
    with torch.no_grad():
        for batch in training:
            tokens, masks = features(batch.images).flatten(0, 1), batch.masks
            faulty = F.max_pool2d(cast("Tensor", masks).float()[:, None], patch).flatten() > 0
            for side, rows in ((-1, tokens[~faulty]), (1, tokens[faulty])):
                moments[side] += rows.T @ rows
                sums[side] += rows.sum(0)
                counts[side] += len(rows)
    total = sum(moments[side] / counts[side] for side in counts) + ridge * torch.eye(width, dtype=torch.float64)
    solution = torch.linalg.solve(total, sums[1] / counts[1] - sums[-1] / counts[-1])

    @torch.no_grad()
    def detect(images: Tensor, words: Sequence[str]) -> tuple[Tensor, Tensor]:
        del words
        return _finish(upsample(to_grid((features(images) @ solution).float()), images.shape[-1]))

    return detect


def train_briefly(
    method: str,
    backbone: str,
    pretrained: str | None = None,
    *,
    seed: int,
    images: int,
    epochs: int,
    size: int,
    val_images: int = 16,
    **arguments: object,
) -> Any:
    """A method after (``epochs=0``: before) training on seen classes with seen defects, through anomalib's engine.

    Its ``arguments`` win over :data:`ARGUMENTS`; ``val_images`` calibrate it.
    """
    from anomalib.engine import Engine

    import anomalib_zsad

    model = getattr(anomalib_zsad, method)(
        backbone=backbone, pretrained=pretrained, image_size=size, seed=seed, visualizer=False, evaluator=False,
        **ARGUMENTS.get(method, {}) | arguments,
    )  # fmt: skip
    if epochs:
        data = anomalib_zsad.SyntheticSurfaces(
            train_images=images, val_images=val_images, test_images=16, image_size=size, seed=1 + seed, num_workers=0
        )
        with tempfile.TemporaryDirectory() as folder:
            engine = Engine(
                max_epochs=epochs, default_root_dir=folder, logger=False, accelerator="cpu", enable_progress_bar=False
            )
            engine.fit(model, datamodule=data)
    return model


def trained(
    method: str,
    backbone: str,
    pretrained: str | None,
    seed: int,
    images: int,
    epochs: int,
    size: int,
    **arguments: Any,
) -> Detect:
    """What a method says after :func:`train_briefly`."""
    model = train_briefly(method, backbone, pretrained, seed=seed, images=images, epochs=epochs, size=size, **arguments)
    model.configure_model()
    prepare = ClipPreProcessor(size)

    @torch.no_grad()
    def detect(pictures: Tensor, words: Sequence[str]) -> tuple[Tensor, Tensor]:
        del words
        predictions = model.model(prepare(pictures))
        return predictions.pred_score, predictions.anomaly_map[:, 0]

    model.eval()
    return detect


def _finish(maps: Tensor) -> tuple[Tensor, Tensor]:
    maps = gaussian_smooth(maps, SMOOTHING)
    return topk_mean(maps, round(TOP * maps.shape[-1] ** 2)), maps


def dct_tower(backbone: str, folder: Path, seed: int) -> str:
    """A file with a random tower whose first layer is the one that the training starts from."""
    config = clip_config(backbone)
    weights = random_weights(config, seed) | {"visual.conv1.weight": dct_patches(config.vision)}
    path = folder / f"dct-random-{seed}.safetensors"
    save_file(weights, path, {"activation": "gelu"})
    return str(path)
