# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Every method in every format that anomalib exports: what it costs, what it gains, and how far it is from Lightning.

A cell is a method in a format. It is exported by anomalib's engine, as ``anomalib export`` does, and measured in a
process of its own (:mod:`anomalib_zsad.benchmark.deploy_cell`). Finished cells lie in the output folder and are not
measured again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess  # noqa: S404 - starts this interpreter
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from anomalib.engine import Engine

import anomalib_zsad
from anomalib_zsad.benchmark.cells import named
from anomalib_zsad.benchmark.deploy_cell import Measured, Task
from anomalib_zsad.benchmark.progress import duration
from anomalib_zsad.benchmark.results import write_whole
from anomalib_zsad.clip.weights import weights_digest
from anomalib_zsad.data.photographs import Photographs
from anomalib_zsad.metrics.ranking import Ranking
from anomalib_zsad.pretraining.detectors import ARGUMENTS, train_briefly

LIGHTNING = "Lightning"
FORMATS = {
    LIGHTNING: None,
    "torch": ("torch", None),
    "onnx": ("onnx", None),
    "openvino f32": ("openvino", None),
    "openvino FP16": ("openvino", "FP16"),
    "openvino INT8": ("openvino", "INT8"),
    "openvino INT8_PTQ": ("openvino", "INT8_PTQ"),
    "openvino INT8_ACQ": ("openvino", "INT8_ACQ"),
}
"""Name -> anomalib's export type and compression."""
NO_GRAPH = (LIGHTNING, "torch")
FREE, FIXED = "any", "fixed"
ACQ_METRIC = "AUROC"


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        data (Path): Folder with real images and an ``index.csv`` (``image,label,mask,split,type``); its ``train`` split
            is left out.
        output (Path): Folder of adapters, cells and tables.
        adapters (dict[str, Path]): Adapter of a method; others are trained briefly on ``SyntheticSurfaces``.
        methods (tuple[str, ...]): Methods to measure.
        formats (tuple[str, ...]): Out of :data:`FORMATS`.
        batches (tuple[str, ...]): ``any``, graphs that take any number of images of any size, or ``fixed``, those
            that take one image of the model's size.
        images (int | None): Measure on no more than so many images, evenly spread over the index.
        precision (str): OpenVINO's arithmetic while the clock runs.
        backbone (str): Backbone of the trained ones.
        image_size (int): Side of their images.
        train_images (int): Generated pictures that they see in each of two epochs.
        calibration_images (int): Generated pictures that INT8_PTQ and INT8_ACQ take ranges of; ACQ has a third more to
            hold its metric on.
    """

    data: Path
    output: Path
    adapters: dict[str, Path] = field(default_factory=dict)
    methods: tuple[str, ...] = tuple(anomalib_zsad.MODELS)
    formats: tuple[str, ...] = tuple(FORMATS)
    batches: tuple[str, ...] = (FREE, FIXED)
    images: int | None = None
    precision: str = "f32"
    backbone: str = "surfaces-tiny"
    image_size: int = 112
    train_images: int = 640
    calibration_images: int = 64

    def cells(self) -> list[tuple[str, str]]:
        """Formats with their batches; Lightning, which all others are compared with, is the first."""
        pairs = [
            (name, batch) for batch in self.batches for name in FORMATS
            if name in self.formats and not (batch == FIXED and name in NO_GRAPH)
        ]  # fmt: skip
        return [(LIGHTNING, FREE), *(pair for pair in pairs if pair[0] != LIGHTNING)]

    def adapter(self, method: str) -> Path:
        """The given adapter of a method, or the file of its training, named after all that decides it."""
        if method in self.adapters:
            return self.adapters[method]
        facts = {
            "weights": self._weights,
            "settings": ARGUMENTS.get(method),
            "version": anomalib_zsad.__version__,
        }
        label = f"{method}-{self.backbone}-{self.image_size}px-{self.train_images}-pictures"
        return self.output / "adapters" / f"{named(label, facts)}.safetensors"

    @cached_property
    def _weights(self) -> str:
        try:
            return weights_digest(self.backbone)
        except (OSError, ValueError):  # the training will say why there are none
            return ""


@dataclass(frozen=True)
class Row:
    """A measured cell, or the reason why there is none.

    Attributes:
        method (str): Name of the method.
        format (str): One of :data:`FORMATS`.
        batch (str): ``any`` or ``fixed``.
        score_difference (float | None): Largest difference of a score from Lightning's.
        map_difference (float | None): Largest difference of a pixel of a map.
        size (int | None): Bytes of the file or files.
        images_per_second (float | None): One image at a time.
        cpu_seconds (float | None): Of all threads, for an image.
        precision (str): Arithmetic while the clock ran.
        memory (int | None): Peak bytes of a process that scores images one at a time.
        image_auroc (float | None): On the real images; ``None`` if it is not defined.
        pixel_auroc (float | None): The same for pixels.
        facts (dict[str, Any]): What the file says of itself.
        reason (str): Why there is no figure.
    """

    method: str
    format: str
    batch: str
    score_difference: float | None = None
    map_difference: float | None = None
    size: int | None = None
    images_per_second: float | None = None
    cpu_seconds: float | None = None
    precision: str = ""
    memory: int | None = None
    image_auroc: float | None = None
    pixel_auroc: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


def auroc(scores: np.ndarray, truth: np.ndarray | None) -> float | None:
    """Area under the ROC curve; ``None`` without both kinds, or for scores that are not finite."""
    if truth is None or truth.all() or not truth.any() or not np.isfinite(scores).all():
        return None
    return Ranking.exact(scores[~truth], scores[truth]).auroc()


class Subject:
    """A method with its adapter, ready to be exported.

    Args:
        plan (Plan): What is measured.
        method (str): Name of the method.
        say (Callable[[str], None]): Takes lines of progress.
    """

    def __init__(self, plan: Plan, method: str, say: Callable[[str], None]) -> None:
        self.plan, self.method, self._say = plan, method, say
        self.adapter = plan.adapter(method)
        self._graphs: dict[str, Path | Exception] = {}
        self._folder = TemporaryDirectory()

    @cached_property
    def model(self) -> Any:
        """The method with its adapter, which is trained if none was given and none is there."""
        if not self.adapter.is_file() and self.method not in self.plan.adapters:
            self._train()
        model = getattr(anomalib_zsad, self.method)(weights=self.adapter, visualizer=False)
        model.configure_model()
        return model

    @property
    def checksum(self) -> str:
        """Of the adapter; a cell belongs to one."""
        return hashlib.sha256(self.adapter.read_bytes()).hexdigest() if self.adapter.is_file() else ""

    def _train(self) -> None:
        plan = self.plan
        self._say(f"{self.method}: training on {plan.train_images} generated pictures, twice")
        model = train_briefly(
            self.method, plan.backbone, seed=0, images=plan.train_images, epochs=2, size=plan.image_size,
            val_images=max(plan.train_images // 6, 16),
        )  # fmt: skip
        model.save_adapter(self.adapter)

    @contextmanager
    def _engine(self) -> Generator[Engine]:
        quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        with TemporaryDirectory() as folder:
            yield Engine(accelerator="cpu", devices=1, default_root_dir=folder, **quiet)

    def export(self, name: str, batch: str) -> Path:
        """Make the file of a cell. Both kinds of graph are traced once, whatever they become."""
        if name == LIGHTNING:
            _ = self.model
            return self.adapter
        kind, compression = FORMATS[name]  # type: ignore[misc]
        if kind == "torch":
            return self._export(kind, batch)
        if batch not in self._graphs:
            try:
                self._graphs[batch] = self._export("onnx", batch)
            except Exception as error:  # noqa: BLE001 - it is the reason of every cell that needs this graph
                self._graphs[batch] = error
        graph = self._graphs[batch]
        if isinstance(graph, Exception):
            raise graph
        if kind == "onnx":
            return graph
        self.model.to_onnx = lambda *_, **__: graph  # where anomalib's to_openvino starts
        try:
            return self._export(kind, batch, compression)
        finally:
            del self.model.to_onnx

    def _export(self, kind: str, batch: str, compression: str | None = None) -> Path:
        from anomalib.deploy import CompressionType

        chosen: dict[str, Any] = {}
        if compression is not None:
            chosen["compression_type"] = CompressionType[compression]
        if compression in {"INT8_PTQ", "INT8_ACQ"}:
            count = self.plan.calibration_images
            chosen["datamodule"] = anomalib_zsad.SyntheticSurfaces(
                train_images=count, val_images=max(count // 3, 2), test_images=2, num_workers=0,
                image_size=self.model.config.image_size,
            )  # fmt: skip
        if compression == "INT8_ACQ":
            chosen["metric"] = ACQ_METRIC
        if batch == FIXED:
            chosen |= {"input_size": (self.model.config.image_size,) * 2, "onnx_kwargs": {"dynamic_axes": None}}
        root = Path(self._folder.name) / batch / (compression or kind)
        with self._engine() as engine:
            path = engine.export(self.model, kind, export_root=root, **chosen)
        assert path is not None
        return path

    def close(self) -> None:
        """Delete the exported files."""
        self._folder.cleanup()


class Runner:
    """Measures the cells of a plan, one after the other.

    Args:
        plan (Plan): What to measure.
        say (Callable[[str], None]): Takes lines of progress. Defaults to printing.
    """

    def __init__(self, plan: Plan, say: Callable[[str], None] = print) -> None:
        self.plan, self._say = plan, say
        self.photos = Photographs(plan.data, plan.images)
        self._index = hashlib.sha256((plan.data / "index.csv").read_bytes()).hexdigest()

    def run(self) -> list[Row]:
        """Measure what is missing; rows in the order of the plan."""
        rows: list[Row] = []
        total, began, measured = len(self.plan.methods) * len(self.plan.cells()), time.monotonic(), 0
        for method in self.plan.methods:
            subject = Subject(self.plan, method, self._say)
            self._forget_predictions(method)  # an interrupted run's may be those of another adapter
            for name, batch in self.plan.cells():
                row = self._kept(subject, name, batch)
                state = "measured before"
                if row is None:
                    row = self._measure(subject, name, batch)
                    measured += 1
                    left = (time.monotonic() - began) / measured * (total - len(rows) - 1)
                    state = f"{duration(left)} left" if left else "done"
                rows.append(row)
                self._say(
                    f"[{len(rows)}/{total}] {method} {name}, batch {batch}: {row.reason or _figures(row)} | {state}"
                )
            subject.close()
            self._forget_predictions(method)
        return rows

    def _forget_predictions(self, method: str) -> None:
        shutil.rmtree(self._predictions(method), ignore_errors=True)

    def _measure(self, subject: Subject, name: str, batch: str) -> Row:
        about: dict[str, Any] = {"method": subject.method, "format": name, "batch": batch}
        reference = self._predictions(subject.method) / LIGHTNING
        try:
            if name != LIGHTNING and not (reference / "scores.npy").is_file():
                self._score(subject, LIGHTNING, FREE)
            measured, size = self._score(subject, name, batch)
            row = Row(
                **about, size=size, precision="f32" if name in NO_GRAPH else self.plan.precision,
                images_per_second=measured.images_per_second, cpu_seconds=measured.cpu_seconds, memory=measured.memory,
                facts=measured.facts, **self._compared(self._predictions(subject.method) / name, reference),
            )  # fmt: skip
        except Exception as error:  # whatever it is, it is the reason
            logging.getLogger(__name__).debug("%s", about, exc_info=True)
            text = str(error).strip() or type(error).__name__
            row = Row(**about, reason="not measured: " + " ".join(text.split())[-300:])
        content = {"key": self._key(subject), "row": asdict(row)}
        write_whole(self._file(subject, name, batch), json.dumps(content, indent=1))
        return row

    def _score(self, subject: Subject, name: str, batch: str) -> tuple[Measured, int]:
        path = subject.export(name, batch)
        siblings = {path, path.with_suffix(".bin"), path.with_name(path.name + ".data")}
        task = Task(
            str(path), [str(photo) for photo in self.photos.paths], str(self._predictions(subject.method) / name),
            subject.method if name == LIGHTNING else "", self.plan.precision,
        )  # fmt: skip
        process = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "anomalib_zsad.benchmark.deploy_cell"],
            input=json.dumps(asdict(task)), capture_output=True, text=True, check=False,
            env={**os.environ, "TRUST_REMOTE_CODE": "1"},  # for the torch file that was written a moment ago
        )  # fmt: skip
        if process.returncode:
            raise RuntimeError(process.stderr.strip().splitlines()[-1] if process.stderr.strip() else "it was killed")
        measured = Measured(**json.loads(process.stdout.splitlines()[-1]))
        return measured, sum(file.stat().st_size for file in siblings if file.is_file())

    def _compared(self, folder: Path, reference: Path) -> dict[str, Any]:
        scores, wanted = (np.load(one / "scores.npy") for one in (folder, reference))
        maps, wanted_maps = (np.load(one / "maps.npy", mmap_mode="r") for one in (folder, reference))
        side, photos = maps.shape[-1], self.photos
        masks = np.stack([photos.mask(i, side) for i in range(len(photos))]) if photos.masked else None
        return {
            "score_difference": float(np.abs(scores - wanted).max()),
            "map_difference": max(float(np.abs(a - b).max()) for a, b in zip(maps, wanted_maps, strict=True)),
            "image_auroc": auroc(scores, photos.labels),
            "pixel_auroc": auroc(np.asarray(maps), masks),
        }

    # ---- what is kept --------------------------------------------------------------------------------------------

    def _predictions(self, method: str) -> Path:
        return self.plan.output / "predictions" / method

    def _file(self, subject: Subject, name: str, batch: str) -> Path:
        return self.plan.output / "cells" / f"{subject.method} {name} {batch}.json".replace(" ", "-")

    def _key(self, subject: Subject) -> dict[str, Any]:
        """What a cell depends on besides its name."""
        return {
            "adapter": subject.checksum,
            "data": [str(self.photos), str(self.plan.data.resolve()), self._index],
            "precision": self.plan.precision,
            "calibration_images": self.plan.calibration_images,
            "versions": versions(),
        }

    def _kept(self, subject: Subject, name: str, batch: str) -> Row | None:
        """The finished cell; what could not be measured is tried again."""
        path = self._file(subject, name, batch)
        if not path.is_file():
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        row = Row(**content["row"])
        return row if content["key"] == self._key(subject) and not row.reason else None


def versions() -> Mapping[str, str]:
    """Of what computes."""
    return {name: version(name) for name in ("torch", "openvino", "nncf", "anomalib", "anomalib-zsad")}


def _figures(row: Row) -> str:
    assert row.size is not None
    return (
        f"score {row.score_difference:.1e}, map {row.map_difference:.1e}, {row.size / 1e6:.1f} MB, "
        f"{row.images_per_second:.1f} images/s"
    )
