# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Which experts PromptMoE's routers choose for which class (the activation analysis of the paper)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from anomalib.data import ImageBatch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from anomalib_zsad.metrics.evaluator import class_names as classes_of
from anomalib_zsad.metrics.gather import gather
from anomalib_zsad.visualization.routing_figure import draw_routing

logger = logging.getLogger(__name__)

STATES = ("normal", "anomalous")


def _harmless(method: Callable[..., None]) -> Callable[..., None]:
    """Log what goes wrong and stop watching: a picture must not cost a test run."""

    @wraps(method)
    def guarded(self: RoutingPicture, *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception:
            logger.exception("There will be no picture of the routing.")
            self.stop()

    return guarded


class RoutingPicture(Callback):
    """Write ``routing.png`` and ``routing.csv`` beside the metrics of a test run.

    Forward hooks on the routers see what the test's own forward passes route. They are there from the start of the test
    epoch to its end, and at no other time; nothing is kept in the model. For each class (as in the metric table), layer
    and state the files have, by expert,

    * ``weight``: the mean routing weight after the softmax over the ``top_k`` experts (Eq. 3), 0 for those not chosen;
      over the experts it sums to 1;
    * ``frequency``: the share of images for which the expert is among the ``top_k``; it sums to ``top_k``.

    Experts are counted from 1, layers are the image tower's 1-based blocks. With several classes the last rows are
    their mean. If anything goes wrong the log says so and the test goes on.

    The module's ``model`` must have ``layers`` and the routers ``normal`` and ``anomalous``, one for each layer
    (:class:`anomalib_zsad.models.promptmoe.PromptMoEModel`).
    """

    def __init__(self) -> None:
        self._hooks: list[RemovableHandle] = []
        self.stop()

    def stop(self) -> None:
        """Remove the hooks and forget what they saw."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._layers: tuple[int, ...] = ()
        self._seen: dict[tuple[int, str], Tensor] = {}  # weights and choices (B, 2, E) of the batch
        self._sums: dict[str, Tensor] = {}  # weights and choices (2, layers x states, E) by class
        self._images: dict[str, int] = {}

    @_harmless
    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach the hooks."""
        del trainer
        self.stop()
        model: Any = pl_module.model
        self._layers = tuple(model.layers)
        for state in STATES:
            for layer, mixture in zip(self._layers, getattr(model, state), strict=True):
                self._hooks.append(mixture.register_forward_hook(partial(self._see, (layer, state))))

    def _see(self, key: tuple[int, str], mixture: Any, inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        del inputs
        logits = output[1].detach().float()
        best, chosen = logits.topk(mixture.top_k, dim=-1)
        nothing = torch.zeros_like(logits)
        weights = nothing.scatter(-1, chosen, best.softmax(dim=-1))
        self._seen[key] = torch.stack([weights, nothing.scatter(-1, chosen, 1.0)], dim=1)

    @_harmless
    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: ImageBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add the batch to its classes."""
        del pl_module, outputs, batch_idx, dataloader_idx
        if not self._hooks:
            return
        places = [self._seen[layer, state] for layer in self._layers for state in STATES]
        self._seen = {}
        for name, image in zip(classes_of(batch, trainer), torch.stack(places, dim=2).cpu().double(), strict=True):
            self._sums[name] = self._sums.get(name, 0) + image
            self._images[name] = self._images.get(name, 0) + 1

    @_harmless
    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the hooks; write picture and table."""
        parts = gather((self._sums, self._images))  # every process takes part, also one that has nothing to say
        layers = self._layers
        self.stop()
        sums: dict[str, Tensor] = {}
        images: dict[str, int] = {}
        for part_sums, part_images in parts:
            for name, total in part_sums.items():
                sums[name] = sums.get(name, 0) + total
                images[name] = images.get(name, 0) + part_images[name]
        if not sums or not trainer.is_global_zero:
            return
        table = _tabulate({name: total / images[name] for name, total in sums.items()}, images, layers)
        constants: dict[str, str] = getattr(pl_module, "describe", dict)()
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        table.assign(**constants).to_csv(folder / "routing.csv", index=False)
        datamodule = getattr(trainer, "datamodule", None)
        data = [getattr(datamodule, "name", ""), getattr(datamodule, "category", "")]
        draw_routing(table, " | ".join(filter(None, [*constants.values(), *data]))).savefig(folder / "routing.png")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove the hooks of a test that was cut short."""
        del trainer, pl_module, exception
        self.stop()


def _tabulate(means: dict[str, Tensor], images: dict[str, int], layers: tuple[int, ...]) -> pd.DataFrame:
    """One row for each class, layer, state and expert."""
    if len(means) > 1:
        means = means | {"mean": torch.stack(list(means.values())).mean(dim=0)}
        images = images | {"mean": sum(images.values())}
    places = [(layer, state) for layer in layers for state in STATES]
    return pd.DataFrame([
        {
            "class": name, "images": images[name], "layer": layer, "state": state, "expert": expert,
            "weight": float(weight), "frequency": float(frequency),
        }
        for name, (weights, frequencies) in means.items()
        for (layer, state), row, often in zip(places, weights, frequencies, strict=True)
        for expert, (weight, frequency) in enumerate(zip(row, often, strict=True), start=1)
    ])  # fmt: skip
