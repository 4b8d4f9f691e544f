# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""The routing table against a naive recomputation, and its picture."""

import logging
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from anomalib.data.utils import read_image
from anomalib.engine import Engine
from lightning.pytorch import Callback
from PIL import Image

from anomalib_zsad.models.promptmoe.components import PromptMixture
from anomalib_zsad.visualization import RoutingPicture
from anomalib_zsad.visualization.routing_figure import DPI, draw_routing
from tests.visualization.conftest import BROKEN, GOOD, QUIET, make_model

CLASSES = {"MVTecAD/bottle": "mvtec/bottle", "cable": "mvtec/cable", "bottle": "other"}


@pytest.fixture(scope="module")
def table(run):
    return pd.read_csv(run.results / "routing.csv", dtype={"class": str})


def hooks(model):
    mixtures = [module for module in model.modules() if isinstance(module, PromptMixture)]
    return sum(len(mixture._forward_hooks) for mixture in mixtures)


def naive(model, folder):
    """Mean weight and frequency by (layer, state, expert), from the routers' logits image by image."""
    weight, frequency = defaultdict(float), defaultdict(float)
    paths = sorted((folder / "test").rglob("*.png"))
    model.model.train()
    for path in paths:
        image = read_image(path, as_tensor=True)[None]
        with torch.no_grad():
            routing = model.model(model.pre_processor.transform(image)).routing[0].double()
        for layer, both in zip(model.model.layers, routing, strict=True):
            for state, logits in zip(("normal", "anomalous"), both.tolist(), strict=True):
                chosen = sorted(range(len(logits)), key=lambda j: -logits[j])[: model.config.top_k]
                total = sum(math.exp(logits[j]) for j in chosen)
                for j in chosen:
                    weight[layer, state, j + 1] += math.exp(logits[j]) / total / len(paths)
                    frequency[layer, state, j + 1] += 1 / len(paths)
    model.model.eval()
    return weight, frequency


@pytest.mark.parametrize("name", CLASSES)
def test_table_equals_a_naive_recomputation(run, table, name):
    weight, frequency = naive(run.model, run.data / CLASSES[name])
    rows = table[table["class"] == name]
    assert len(rows) == len(run.model.model.layers) * 2 * run.model.config.num_experts
    assert (rows.images == GOOD + BROKEN).all()
    assert (rows.method == "PromptMoE").all()
    for row in rows.itertuples():
        key = row.layer, row.state, row.expert
        assert row.weight == pytest.approx(weight[key], abs=2e-5)  # float32 against batches of another size
        assert row.frequency == pytest.approx(frequency[key], abs=1e-12)


def test_weights_sum_to_one_and_choices_to_top_k(run, table):
    sums = table.groupby(["class", "layer", "state"])[["weight", "frequency"]].sum()
    assert len(sums) == (len(CLASSES) + 1) * len(run.model.model.layers) * 2
    assert np.allclose(sums.weight, 1, atol=1e-6)
    assert np.allclose(sums.frequency, run.model.config.top_k)


def test_last_rows_are_the_mean_over_the_classes(table):
    mean = table[table["class"] == "mean"].set_index(["layer", "state", "expert"])
    others = table[table["class"] != "mean"].groupby(["layer", "state", "expert"])
    assert np.allclose(mean.weight, others.weight.mean().reindex(mean.index))
    assert (mean.images == 3 * (GOOD + BROKEN)).all()
    assert table["class"].iloc[-1] == "mean"


def test_picture_lies_beside_the_metrics(run, table):
    assert (run.results / "metrics.csv").is_file()
    with Image.open(run.results / "routing.png") as picture:
        picture.load()
        size = picture.size
    assert size == tuple(int(side * DPI) for side in draw_routing(table, title(run)).get_size_inches())


def title(run):
    return " | ".join([*run.model.describe().values(), "ZeroShot", "MVTecAD+bottle"])


def test_hooks_are_there_during_the_test_and_at_no_other_time(target, tmp_path):
    counts = {}

    class Watch(Callback):
        def on_test_start(self, trainer, pl_module):
            counts["before"] = hooks(pl_module)

        def on_test_batch_start(self, trainer, pl_module, *args):
            counts["during"] = hooks(pl_module)

    model = make_model(visualizer=False)
    Engine(default_root_dir=tmp_path, callbacks=[Watch(), RoutingPicture()], **QUIET).test(model, datamodule=target())
    assert counts == {"before": 0, "during": 2 * len(model.model.layers)}
    assert hooks(model) == 0


def test_hooks_are_gone_after_a_test_that_failed(target, tmp_path):
    class Fault(Callback):
        def on_test_batch_end(self, trainer, pl_module, *args):
            raise ZeroDivisionError

    model = make_model(visualizer=False)
    engine = Engine(default_root_dir=tmp_path, callbacks=[Fault(), RoutingPicture()], **QUIET)
    with pytest.raises(ZeroDivisionError):
        engine.test(model, datamodule=target())
    assert hooks(model) == 0


def test_a_fault_of_the_picture_does_not_fail_the_test(target, tmp_path, caplog):
    class Occupy(Callback):
        def on_test_start(self, trainer, pl_module):
            (Path(trainer.default_root_dir) / "routing.csv").mkdir(parents=True)

    model = make_model(visualizer=False)
    with caplog.at_level(logging.ERROR):
        engine = Engine(default_root_dir=tmp_path, callbacks=[Occupy(), RoutingPicture()], **QUIET)
        (metrics,) = engine.test(model, datamodule=target())
    assert "image_AUROC" in metrics
    assert "no picture of the routing" in caplog.text
    assert hooks(model) == 0


def routing(classes, layers, experts, top_k):
    """A table of random routers over twenty images."""
    rng = np.random.default_rng(0)
    rows = []
    for name in classes:
        for layer in layers:
            for state in ("normal", "anomalous"):
                logits = rng.normal(size=(20, experts))
                chosen = np.argsort(-logits, axis=1).argsort(axis=1) < top_k
                weight = np.where(chosen, np.exp(logits), 0)
                weight /= weight.sum(axis=1, keepdims=True)
                for expert in range(experts):
                    values = weight[:, expert].mean(), chosen[:, expert].mean()
                    rows.append((name, layer, state, expert + 1, *values))
    return pd.DataFrame(rows, columns=["class", "layer", "state", "expert", "weight", "frequency"])


@pytest.mark.parametrize(
    ("classes", "layers", "experts"),
    [
        (["screw"], [24], 4),
        (["screw"], [6, 12, 18, 24], 8),
        (["a_rather_long_name_of_a_class", "b", "mean"], [12, 24], 16),
        ([f"class {number}" for number in range(30)] + ["mean"], [6, 12, 18, 24], 16),
        (["$a$", "^_{", "中"], [1], 1),
    ],
)
@pytest.mark.filterwarnings("ignore:Glyph")
def test_picture_holds_everything_at_any_size(classes, layers, experts, tmp_path):
    figure = draw_routing(routing(classes, layers, experts, min(experts, 4)), "A | title | of $ome | length " * 2)
    figure.savefig(tmp_path / "routing.png")
    with Image.open(tmp_path / "routing.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    width, height = figure.get_size_inches()
    assert pixels.shape == (int(height * DPI), int(width * DPI))
    for border in (pixels[:8], pixels[-8:], pixels[:, :8], pixels[:, -8:]):
        assert (border == 255).all()  # nothing is cut off
    panels = [axes for axes in figure.axes if axes.get_title(loc="left").startswith("layer")]
    assert len(panels) == 2 * len(layers)
    inches = [axes.get_window_extent().size / DPI for axes in panels]
    assert np.allclose(inches, inches[0])
    assert inches[0][0] / experts >= 0.21 - 1e-9  # an expert's tile stays large enough to see
