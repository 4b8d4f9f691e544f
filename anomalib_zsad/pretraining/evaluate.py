# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What a small CLIP is worth: text prompts alone, a linear adapter and trained methods, beside controls that know less.

Everything is trained on the classes and defects that ``SyntheticSurfaces`` calls seen, and tested at the backbone's
native size on the four pairings of seen and unseen ones and, where they lie at hand, on real photographs. Three
controls stand beside every figure: the naive one (how much a picture differs from its own blur), a random tower, and a
random tower whose first layer is the one that the training starts from.
"""

from __future__ import annotations

import functools
import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from anomalib_zsad.clip.model import Clip
from anomalib_zsad.clip.random_weights import random_weights
from anomalib_zsad.clip.tokenizer import tokenize
from anomalib_zsad.clip.weights import clip_config, load_clip, read_weights
from anomalib_zsad.data.photographs import Photographs
from anomalib_zsad.data.synthetic_surfaces import Split, SyntheticSurfacesDataset
from anomalib_zsad.data.words import OBJECT
from anomalib_zsad.functional import gaussian_smooth, to_grid, topk_mean, upsample
from anomalib_zsad.metrics import evaluate
from anomalib_zsad.metrics.report import METRICS
from anomalib_zsad.models.base import quarter_layers
from anomalib_zsad.preprocessing import ClipPreProcessor
from anomalib_zsad.pretraining.recipe import dct_patches
from anomalib_zsad.pretraining.texts import ANOMALOUS_STATES, NORMAL_STATES

Detect = Callable[[Tensor, Sequence[str]], tuple[Tensor, Tensor]]
"""Pictures ``(B, 3, S, S)`` in [0, 1] and their class words -> scores ``(B,)`` and maps ``(B, S, S)``."""

PHOTOS = ("{}", "a photo of a {}", "a close-up photo of a {}")
SMOOTHING = 4.0  # standard deviation in pixels, of every map
TOP = 0.004  # share of a map's pixels whose mean is its score

ARGUMENTS: dict[str, dict[str, object]] = {
    "PromptMoE": {"warmup_epochs": 0.3},
    "CoPS": {},
    "BayesPFL": {"epochs": 2, "first_stage_epochs": 1, "learning_rate": 2e-3},
    "DAPO": {},
    "PromptAD": {"anomaly_repeats": 1},
}
"""Methods with what differs from their recipes, which are made for more steps.

The rate of BayesPFL is that of ``benchmarks/learning_rates.py`` with the best mean of image and pixel AUROC on
validation pictures of seen classes; no class, defect or picture that is tested took part."""


class Batch(NamedTuple):
    """Some pictures of a set: ``(B, 3, S, S)``, labels ``(B,)``, masks ``(B, S, S)`` or none, class words."""

    images: Tensor
    labels: Tensor
    masks: Tensor | None
    words: list[str]


@dataclass(frozen=True)
class PictureSet:
    """Pictures to test on.

    Attributes:
        name (str): Heading of its columns.
        count (int): Number of pictures.
        batches (Callable[[], Iterator[Batch]]): The pictures, the same at every call.
    """

    name: str
    count: int
    batches: Callable[[], Iterator[Batch]]


# --- test sets --------------------------------------------------------------------------------------------------------


def generated_sets(count: int, size: int, batch_size: int = 16, split: Split = "test") -> list[PictureSet]:
    """Seen and unseen classes times seen and unseen defects, ``count`` pictures each, half of them flawless."""

    def draw(classes: str, defects: str) -> Iterator[Batch]:
        data = SyntheticSurfacesDataset(count, classes, defects, image_size=size, split=split)
        return _batches(data, batch_size)

    groups = ("seen", "unseen")
    return [
        PictureSet(f"{classes} classes, {defects} defects", count, lambda c=classes, d=defects: draw(c, d))  # type: ignore[misc]
        for classes in groups
        for defects in groups
    ]


def _batches(data: SyntheticSurfacesDataset, batch_size: int) -> Iterator[Batch]:
    for start in range(0, len(data), batch_size):
        items = [data[i] for i in range(start, min(start + batch_size, len(data)))]
        yield Batch(
            torch.stack([torch.as_tensor(item.image) for item in items]),
            torch.tensor([bool(item.gt_label) for item in items]),
            torch.stack([torch.as_tensor(item.gt_mask).bool() for item in items]),
            list(data.samples.class_name[start : start + len(items)]),
        )


def generated_training(count: int, size: int, batch_size: int = 16) -> Iterator[Batch]:
    """Pictures of seen classes with seen defects, none of which is in a test set."""
    data = SyntheticSurfacesDataset(count, "seen", "seen", image_size=size, split="train")
    return _batches(data, batch_size)


def real_sets(root: Path, size: int, batch_size: int = 16) -> list[PictureSet]:
    """Every folder of ``root`` with an ``index.csv`` (``image,label,mask,split,type``), without its ``train`` split.

    Pictures are squeezed to a square, as every method does; the class word is ``object``.

    Raises:
        ValueError: If there is no such folder, or an index lists no pictures.
    """

    def read(photos: Photographs) -> Iterator[Batch]:
        for start in range(0, len(photos), batch_size):
            some = range(start, min(start + batch_size, len(photos)))
            images = [
                Image.open(photos.paths[i]).convert("RGB").resize((size, size), Image.Resampling.BICUBIC) for i in some
            ]
            masks = [torch.from_numpy(photos.mask(i, size).copy()) for i in some]
            yield Batch(
                torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2) / 255,
                torch.from_numpy(photos.labels[some.start : some.stop]),
                torch.stack(masks) if photos.masked else None,
                [OBJECT] * len(some),
            )

    found = [Photographs(path.parent) for path in sorted(root.glob("*/index.csv"))]
    if not found:
        msg = (
            f"No folder in {root} has an index.csv (image,label,mask,split,type; paths relative to that folder). Name "
            "the folder above those of the sets."
        )
        raise ValueError(msg)
    return [PictureSet(photos.folder.name, len(photos), lambda p=photos: read(p)) for photos in found]  # type: ignore[misc]


# --- detectors --------------------------------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class Plan:
    """What is evaluated.

    Attributes:
        backbone (str): Name of the backbone.
        pretrained (str | None): Its weights.
        methods (tuple[str, ...]): Methods to train.
        seeds (tuple[int, ...]): One training each.
        images (int): Generated pictures to train on.
        epochs (int): How often they are seen.
        test_images (int): Pictures in each generated test set.
        real (Path | None): Folder of real test sets.
        image_size (int | None): Side of all pictures; ``None`` is the backbone's native size.
    """

    backbone: str = "surfaces-tiny"
    pretrained: str | None = None
    methods: tuple[str, ...] = tuple(ARGUMENTS)
    seeds: tuple[int, ...] = (0, 1, 2)
    images: int = 640
    epochs: int = 2
    test_images: int = 480
    real: Path | None = None
    image_size: int | None = None

    @property
    def size(self) -> int:
        """Side of all pictures."""
        return self.image_size or clip_config(self.backbone).vision.image_size


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name (str): What it shows.
        seed (int): Seed of the training.
        weights (str): :func:`weights_digest` of its tower; ``-`` without one.
        images (int): Pictures that it was trained on.
        epochs (int): How often they were seen.
        make (Callable[[], Detect]): Makes the detector.
    """

    name: str
    seed: int
    weights: str
    images: int
    epochs: int
    make: Callable[[], Detect]


def weights_digest(backbone: str, pretrained: str | None = None) -> str:
    """First 12 digits of the sha256 of a backbone's weights.

    Raises:
        WeightsNotFoundError: If they are neither on this machine nor within reach.
        ValueError: If there is no such backbone, or they are not its weights.
    """
    return read_weights(backbone, pretrained).sha256[:12]


def rows(plan: Plan, folder: Path) -> list[Row]:
    """All rows; files that they need are written to ``folder``."""
    towers = {
        plan.backbone: plan.pretrained,
        "random tower": "random:0",
        "random tower, DCT layer": dct_tower(plan.backbone, folder, seed=0),
    }
    found = [Row("blur difference", 0, "-", 0, 0, lambda: blur_difference)]
    for tower, weights in towers.items():
        clip = functools.partial(load_clip, plan.backbone, weights, image_size=plan.size)
        digest, images, epochs = weights_digest(plan.backbone, weights), plan.images, plan.epochs
        found += [
            Row(f"text alone, {tower}", 0, digest, 0, 0, lambda clip=clip: text_alone(clip())),  # type: ignore[misc]
            Row(
                f"linear adapter, {tower}",
                0,
                digest,
                images,
                1,
                lambda clip=clip: linear_adapter(clip(), generated_training(plan.images, plan.size)),  # type: ignore[misc]
            ),
        ]
        for method in plan.methods:
            start = functools.partial(trained, method, plan.backbone, weights, images=images, size=plan.size)
            if tower == plan.backbone:
                make = functools.partial(start, seed=0, epochs=0)
                found.append(Row(f"{method} untrained, {tower}", 0, digest, 0, 0, make))
            for seed in plan.seeds if tower == plan.backbone else plan.seeds[:1]:
                make = functools.partial(start, seed=seed, epochs=epochs)
                found.append(Row(f"{method}, {tower}", seed, digest, images, epochs, make))
    return found


# --- the table --------------------------------------------------------------------------------------------------------

OF_ROW = ("weights", "image_size", "images", "epochs")
OF_SET = ("test_images",)
KEY = ("detector", "seed", "test_set", *OF_ROW, *OF_SET)
"""Columns of the table that decide a line's metrics; :class:`Row` and :class:`PictureSet` say what they are."""


def measure(detect: Detect, test: PictureSet) -> dict[str, float]:
    """Six metrics, per class and then the mean, as everywhere in this package."""
    scores, labels, maps, masks, words = [], [], [], [], []
    for batch in test.batches():
        score, anomaly_map = detect(batch.images, batch.words)
        scores.append(score)
        labels.append(batch.labels)
        words += batch.words
        if batch.masks is not None:
            maps.append(anomaly_map)
            masks.append(batch.masks)
    planes = torch.cat(maps) if maps else None
    known = torch.cat(masks) if masks else None
    return evaluate(torch.cat(scores), torch.cat(labels), planes, known, words).mean


def cell(values: Sequence[dict[str, float]]) -> str:
    """``image / pixel`` AUROC in percent; with several runs the mean and the spread (standard deviation) of each."""
    parts = []
    for metric in ("image_AUROC", "pixel_AUROC"):
        found = [100 * value[metric] for value in values if not math.isnan(value.get(metric, math.nan))]
        spread = f"±{statistics.stdev(found):.1f}" if len(found) > 1 else ""
        parts.append(f"{statistics.mean(found):.1f}{spread}" if found else "-")
    return " / ".join(parts)


def markdown(results: pd.DataFrame) -> str:
    """Rows of detectors, columns of test sets; what makes several of one stands behind its name."""
    results = results.assign(
        detector=_told_apart(results, "detector", OF_ROW), test_set=_told_apart(results, "test_set", OF_SET)
    )
    sets = list(dict.fromkeys(results.test_set))
    lines = ["| | " + " | ".join(sets) + " |", "|---" * (len(sets) + 1) + "|"]
    for name in dict.fromkeys(results.detector):
        rows = results[results.detector == name]
        cells = [cell(rows[rows.test_set == one].to_dict("records")) for one in sets]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _told_apart(results: pd.DataFrame, name: str, columns: Sequence[str]) -> pd.Series:
    """Names, each followed by those columns that differ among its lines."""
    texts = results[name]
    for column in columns:
        several = results.groupby(name)[column].transform("nunique") > 1
        texts = texts.where(~several, texts + f", {column} " + results[column].astype(str))
    return texts


def _keys(table: Path) -> set[tuple]:
    """What a table holds already.

    Raises:
        ValueError: If it lacks columns, as those of earlier versions do.
    """
    if not table.exists():
        return set()
    results = pd.read_csv(table, dtype={"weights": str})
    if missing := [column for column in KEY if column not in results]:
        msg = (
            f"{table} has no column {', '.join(missing)}, so that nobody can tell what its figures were measured with. "
            "Add what is missing, or name another file."
        )
        raise ValueError(msg)
    return set(results[list(KEY)].itertuples(index=False, name=None))


def run(plan: Plan, table: Path) -> Iterator[tuple[str, int, str, dict[str, float]]]:
    """Measure every detector on every set; lines that ``table`` holds already are not measured again.

    Args:
        plan (Plan): What to measure.
        table (Path): CSV file, one line for each :data:`KEY`; it is appended to.

    Yields:
        tuple[str, int, str, dict[str, float]]: Detector, seed, test set, metrics.

    Raises:
        ValueError: If there are no real sets where the plan has them, or the table is of another form.
    """
    sets = generated_sets(plan.test_images, plan.size) + (real_sets(plan.real, plan.size) if plan.real else [])
    done = _keys(table)
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(plan, Path(folder)):
            of_row = (row.weights, plan.size, row.images, row.epochs)
            missing = {
                key: one for one in sets if (key := (row.name, row.seed, one.name, *of_row, one.count)) not in done
            }
            if not missing:
                continue
            detect = row.make()
            for key, one in missing.items():
                values = measure(detect, one)
                line = pd.DataFrame([dict(zip(KEY, key, strict=True)) | dict.fromkeys(METRICS) | values])
                line.to_csv(table, mode="a", header=not table.exists(), index=False)
                yield row.name, row.seed, one.name, values
