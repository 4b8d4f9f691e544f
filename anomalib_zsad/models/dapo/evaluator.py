# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The evaluator of a test run that also measures how well kinds of defect are told apart."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from anomalib.data import AnomalibDataModule, AnomalibDataset
from anomalib.data.utils import LabelName
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from pandas import DataFrame
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from anomalib_zsad.data.datasets import ZeroShotDataset, parts_of
from anomalib_zsad.data.defect_tables import number_of, read_kinds, table_of, words_in
from anomalib_zsad.data.sources import word_of
from anomalib_zsad.functional import upsample
from anomalib_zsad.metrics import PerClassEvaluator
from anomalib_zsad.metrics.evaluator import class_names
from anomalib_zsad.metrics.gather import gather
from anomalib_zsad.metrics.multi_type import TypeCounts, image_type_metrics
from anomalib_zsad.metrics.scores import EXACT_PIXELS

logger = logging.getLogger(__name__)

NORMAL = "normal"
PIXEL = tuple(f"type_{name}{rest}" for rest in ("", "_defects") for name in ("AUROC", "AP", "F1"))
IMAGE = ("image_type_top1", "image_type_chance", "image_type_F1")
TITLES = {
    "Kinds of defect at pixels: one against the rest, F1 of the likeliest": ["class", "kinds", "typed_images", *PIXEL],
    "Kinds of defect of images: a measure of ours, the method has none": ["class", "kinds", "typed_images", *IMAGE],
}


@dataclass
class Product:
    """What is counted of one class of the target.

    Attributes:
        columns (tuple[int, ...]): Places of its kinds among the model's words, in that order.
        numbers (dict[str, int | None]): By image path, the number of its kind from 1, 0 for normal; ``None`` leaves the
            image out.
        unnamed (tuple[str, ...]): Kinds that the model has no word for.
        pixels (TypeCounts): Of all pixels.
        scores (list[list[float]]): Image-level scores of the kinds, for each anomalous image.
        kinds (list[int]): Their true kinds.
    """

    columns: tuple[int, ...]
    numbers: dict[str, int | None]
    unnamed: tuple[str, ...] = ()
    pixels: TypeCounts = field(init=False)
    scores: list[list[float]] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start with no pixels."""
        self.pixels = TypeCounts(1 + len(self.columns))

    def add(self, grid: Tensor, number: int, mask: Tensor | None) -> None:
        """Take in an image.

        Args:
            grid (Tensor): ``(layers, K + 1, g, g)`` probabilities of the normal state and all words of the model.
            number (int): True kind.
            mask (Tensor | None): ``(H, W)`` true where defective; ``None`` where unknown.
        """
        own = grid[:, [0, *(1 + column for column in self.columns)]].float()
        own = (own / own.sum(dim=1, keepdim=True)).mean(dim=0)  # as if the softmax had been over these only
        if number:
            self.scores.append(own[1:].amax(dim=(-2, -1)).tolist())
            self.kinds.append(number)
        if mask is not None:
            maps = upsample(own, mask.shape[-1], align_corners=True).flatten(1).T
            self.pixels.add(maps.cpu().numpy(), (number * mask.bool().flatten()).cpu().numpy())

    def merge(self, other: "Product") -> None:
        """Add what another process has counted."""
        self.pixels.merge(other.pixels)
        self.scores += other.scores
        self.kinds += other.kinds

    def row(self) -> dict[str, float]:
        """The metrics, NaN where undefined. Naming one kind out of one is no feat: its image level is undefined."""
        found = self.pixels.metrics()
        both, defects = found.macro(), found.macro(normal=False)
        row = dict(zip(PIXEL, (*both.values(), *defects.values()), strict=True))
        if len(self.columns) > 1 and self.kinds:
            image = image_type_metrics(np.array(self.scores), self.kinds)
            values = (image["top1"], 1 / len(self.columns), image["macro_f1"])
        else:
            values = (np.nan,) * 3
        return row | dict(zip(IMAGE, values, strict=True))


class DefectTypeEvaluator(PerClassEvaluator):
    """:class:`~anomalib_zsad.metrics.PerClassEvaluator`, and how well kinds of defect are told apart.

    For each class of the target, pixels and images are named out of the kinds that *this class* can have (its list in
    the data set's table, else the kinds in its test split): the softmax is over these and the normal state. Pixels have
    one-vs-rest AUROC and AP and the F1 of the likeliest class. Images have ours: the kind with the highest probability
    at any patch. ``type_*`` is a mean over the kinds and normal, as published, ``type_*_defects`` over the kinds alone,
    ``image_type_*`` is ours. Printed by class and by kind, and written with full precision to ``defect_types.csv``
    and ``defect_types_by_kind.csv`` beside ``metrics.csv``; the means over classes go to the loggers and into
    ``trainer.callback_metrics``. What ``Engine.test`` returns are the six metrics that every model has: anomalib's
    benchmark makes one table of it, which takes models with the same metrics only.

    Images of unknown or several kinds, and of kinds that are none of the model's words, are left out, and so are
    classes of which no tested image has a known kind.

    Args:
        candidates ("product" | "all"): Name out of the kinds of the class, or of all words of the model, which is
            harder. Defaults to ``"product"``.
        thresholds (int | None): See :class:`~anomalib_zsad.metrics.PerClassEvaluator`.
        exact_pixels (int): See there.
    """

    def __init__(
        self,
        candidates: Literal["product", "all"] = "product",
        thresholds: int | None = None,
        exact_pixels: int = EXACT_PIXELS,
    ) -> None:
        super().__init__(thresholds, exact_pixels)
        if candidates not in {"product", "all"}:
            msg = f"candidates must be 'product' or 'all', got {candidates!r}."
            raise ValueError(msg)
        self.candidates = candidates
        self.products: dict[str, Product] = {}
        self.types: DataFrame | None = None

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Learn which kinds the classes of the target have."""
        super().on_test_epoch_start(trainer, pl_module)
        words: Sequence[str] = pl_module.model.words  # type: ignore[union-attr,assignment]
        samples = _samples(getattr(trainer, "datamodule", None))
        self.types = None
        self.products = {} if samples is None else products(samples, words, every=self.candidates == "all")

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect what any evaluator does, and the probabilities of the kinds."""
        super().on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        if not self.products or batch.image_path is None:
            return
        for index, (name, path) in enumerate(zip(class_names(batch, trainer), batch.image_path, strict=True)):
            product = self.products.get(name)
            number = product.numbers.get(path) if product else None
            if product is None or number is None:
                continue
            product.add(batch.state_grid[index], number, batch.gt_mask[index] if batch.has_mask[index] else None)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute, print, write and log."""
        super().on_test_epoch_end(trainer, pl_module)
        self.products, *others = gather(self.products)
        for other in others:
            for name, product in other.items():
                self.products[name].merge(product)
        lines = remarks(self.products)
        self.products = {name: one for name, one in self.products.items() if one.kinds}
        if self.products:
            lines.append(f"full precision: {Path(trainer.default_root_dir) / 'defect_types*.csv'}")
            self._report(trainer, pl_module)
        if trainer.is_global_zero:
            for line in lines:
                Console().print(line, markup=False, highlight=False, soft_wrap=True)

    def _report(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print, write and log what was counted."""
        self.types = table_by_class(self.products)
        if trainer.is_global_zero:
            root = Path(trainer.default_root_dir)
            words: Sequence[str] = pl_module.model.words  # type: ignore[union-attr,assignment]
            constants = pl_module.describe() | {"candidates": self.candidates}  # type: ignore[operator]
            by_kind = table_by_kind(self.products, words)
            self.types.assign(**constants).to_csv(root / "defect_types.csv", index=False)
            by_kind.assign(**constants).to_csv(root / "defect_types_by_kind.csv", index=False)
            console = Console()
            for title, columns in TITLES.items():
                console.print(_layout(self.types[columns], title))
            console.print(_layout(by_kind, "The same at pixels by kind, mean over classes"))
        means = {str(name): float(value) for name, value in self.types.iloc[-1][[*PIXEL, *IMAGE]].dropna().items()}
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in means.items()})
        for logged in trainer.loggers:
            logged.log_metrics(means, step=trainer.global_step)


def products(samples: DataFrame, words: Sequence[str], *, every: bool = False) -> dict[str, Product]:
    """Kinds of each class, and the kind of each image; without classes that have none of the model's words.

    Args:
        samples (DataFrame): Of a :class:`~anomalib_zsad.data.ZeroShotDataset`.
        words (Sequence[str]): The model's words.
        every (bool): Let all words be candidates of each class. Defaults to ``False``.
    """
    kinds = words_in(samples)
    found: dict[str, Product] = {}
    for category, rows in samples[samples.label_index != LabelName.UNKNOWN].groupby("category", sort=False):
        pairs = zip(rows.image_path, rows.defect_type, strict=True)
        own = {path: kinds.get((str(category), kind), NORMAL) for path, kind in pairs}
        table = table_of(rows.dataset.iloc[0])
        listed = table.kinds_of(str(category).rpartition("/")[2]) if table else ()
        places = {word: number_of(word, words) for word in listed or own.values() if word not in {None, NORMAL}}
        known = range(1, 1 + len(words)) if every else sorted({place for place in places.values() if place})
        numbers: dict[str | None, int] = {word: 1 + list(known).index(place) for word, place in places.items() if place}
        if numbers:
            found[str(category)] = Product(
                columns=tuple(place - 1 for place in known),
                numbers={path: (numbers | {NORMAL: 0}).get(word) for path, word in own.items()},
                unnamed=tuple(word for word, place in places.items() if not place),
            )
        elif places:
            logger.warning(
                "The kinds of defect of %s (%s) are none of the model's and not evaluated. Give them as defect_types.",
                category,
                ", ".join(places),
            )
    return found


def _samples(datamodule: Any) -> DataFrame | None:
    """Samples of the test split with class and kind of defect."""
    data = getattr(datamodule, "test_data", None)
    if isinstance(data, ZeroShotDataset):
        return data.samples
    if not isinstance(datamodule, AnomalibDataModule) or not isinstance(data, AnomalibDataset):
        return None
    read_kinds(data)
    name = datamodule.name
    return ZeroShotDataset(parts_of(data, name, datamodule.category or name, word_of(datamodule))).samples


def table_by_class(counted: Mapping[str, Product]) -> DataFrame:
    """One row per class and their mean, fractions."""
    rows = [
        {"class": name, "kinds": len(one.columns), "typed_images": len(one.kinds)} | one.row()
        for name, one in counted.items()
    ]
    table = pd.DataFrame(rows)
    mean = table[[*PIXEL, *IMAGE]].mean()
    return pd.concat([table, mean.to_frame().T.assign(**{"class": "mean"})], ignore_index=True)[list(table.columns)]


def table_by_kind(counted: Mapping[str, Product], words: Sequence[str]) -> DataFrame:
    """One-vs-rest values of each kind, and of the normal state, averaged over the classes that have it; fractions."""
    values: dict[str, list[tuple[float, ...]]] = {}
    for one in counted.values():
        metrics = one.pixels.metrics()
        names = [NORMAL, *(words[column] for column in one.columns)]
        for name, *row in zip(names, metrics.auroc, metrics.ap, metrics.f1, strict=True):
            values.setdefault(name, []).append(tuple(row))
    rows = [
        {"kind": name, "classes": len(rows)} | dict(zip(PIXEL[:3], pd.DataFrame(rows).mean(), strict=True))
        for name, rows in values.items()
    ]
    return pd.DataFrame(rows)


def remarks(counted: Mapping[str, Product]) -> list[str]:
    """What was left out."""
    lines = []
    for name, one in counted.items():
        left = sum(number is None for number in one.numbers.values())
        if left:
            lines.append(f"{name}: {left} images of unknown or several kinds, or of kinds without a word, are left out")
        if one.unnamed:
            lines.append(f"{name}: no word of the model for {', '.join(one.unnamed)} (give it in defect_types)")
    return lines


def _layout(table: DataFrame, title: str) -> Table:
    """Lay out for a terminal, fractions in percent with one decimal."""
    laid = Table(title=title)
    for column in table.columns:
        numeric = not isinstance(table[column].iloc[0], str)
        header = str(column).removeprefix("image_").removeprefix("type_").replace("_", "\n")
        laid.add_column(header, justify="right" if numeric else "left")
    for _, row in table.iterrows():
        laid.add_row(*(_cell(column, value) for column, value in row.items()))
    return laid


def _cell(column: Any, value: Any) -> str:
    if isinstance(value, str):
        return escape(value)
    if pd.isna(value):
        return "-"
    return f"{100 * value:.1f}" if column in {*PIXEL, *IMAGE} else f"{int(value)}"
