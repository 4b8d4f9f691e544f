# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What a method costs on top of the bare CLIP image tower: one process, everything measured in turn.

Every round runs every subject in every way once, and a ratio is that of two figures of the same round: what disturbs
the machine for longer than a round disturbs both. Weights are random; they cost the same as published ones.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from anomalib.models import get_model
from torch import Tensor, nn

import anomalib_zsad
from anomalib_zsad.benchmark.deploy_cell import peak_memory
from anomalib_zsad.benchmark.ways import (
    EAGER,
    RUNS,
    Runner,
    Seconds,
    UnavailableError,
    export_graph,
    load_official,
    seconds,
)

BARE, OFFICIAL = "bare tower", "official code"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Cell:
    """What one subject takes for one batch, run in one way. Times in seconds, medians over the rounds.

    Attributes:
        subject (str): The bare tower, a method with its options, or official code.
        run (str): One of :data:`~anomalib_zsad.benchmark.ways.RUNS`.
        device (str): ``cpu`` or ``cuda``.
        batch (int): Images in a batch.
        rounds (int): How often it was measured; 0 if it could not be.
        wall (float | None): On the clock.
        wall_low (float | None): Fastest round.
        wall_high (float | None): Slowest round.
        cpu (float | None): Of all threads together.
        floor_wall (float | None): Multiple of the bare tower run in the same way, by the clock; of the bare tower in
            eager float32 for official code.
        floor_low (float | None): Smallest of the rounds.
        floor_high (float | None): Largest of the rounds.
        floor_cpu (float | None): The same by processor time.
        gain_wall (float | None): How many times faster than the same subject in eager float32, by the clock.
        gain_cpu (float | None): The same by processor time.
        official_wall (float | None): Multiple of the official code, by the clock.
        official_cpu (float | None): The same by processor time.
        reason (str): Why there is no figure.
    """

    subject: str
    run: str
    device: str
    batch: int
    rounds: int = 0
    wall: float | None = None
    wall_low: float | None = None
    wall_high: float | None = None
    cpu: float | None = None
    floor_wall: float | None = None
    floor_low: float | None = None
    floor_high: float | None = None
    floor_cpu: float | None = None
    gain_wall: float | None = None
    gain_cpu: float | None = None
    official_wall: float | None = None
    official_cpu: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Step:
    """What one optimiser step takes. Memory is the peak of the process in GB: exact for the first method only.

    Attributes:
        subject (str): A method with its options.
        batch (int): Images in a batch.
        learned (int): Number of learned values.
        before (float): Peak memory before the step.
        peak (float): Peak memory behind it.
        wall (float): Median seconds of a step on the clock.
        cpu (float): Median processor seconds of a step.
        floor_wall (float): Multiple of the bare tower looking at the batch, by the clock.
        floor_cpu (float): The same by processor time.
    """

    subject: str
    batch: int
    learned: int
    before: float
    peak: float
    wall: float
    cpu: float
    floor_wall: float
    floor_cpu: float


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        methods (tuple[str, ...]): Names of models; options follow after commas: ``PromptMoE,top_k=2``.
        runs (tuple[str, ...]): Some of :data:`~anomalib_zsad.benchmark.ways.RUNS`.
        backbone (str): Architecture of CLIP.
        image_size (int): Side of the images in pixels.
        batches (tuple[int, ...]): Batch sizes.
        devices (tuple[str, ...]): ``cpu``, ``cuda``.
        repeat (int): Rounds behind the first, which warms up.
        official (Mapping[str, str]): For each method that has official code, ``FILE:FUNCTION``; see
            :func:`~anomalib_zsad.benchmark.ways.load_official`.

    Raises:
        ValueError: If a method or an option does not exist, or a value is not allowed.
    """

    methods: tuple[str, ...]
    runs: tuple[str, ...]
    backbone: str = "ViT-L-14-336"
    image_size: int = 518
    batches: tuple[int, ...] = (1,)
    devices: tuple[str, ...] = ("cpu",)
    repeat: int = 3
    official: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read all methods before the first is measured."""
        counts = [("image_size", self.image_size), ("repeat", self.repeat), *(("batch", one) for one in self.batches)]
        for name, value in counts:
            if value < 1:
                msg = f"{name} must be at least 1, got {value}."
                raise ValueError(msg)
        for spec in self.methods:
            _arguments(spec, self)


# ---- measuring -------------------------------------------------------------------------------------------------------


def measure(plan: Plan, say: Say) -> Iterator[Cell]:
    """Measure cell after cell of a plan; ``say`` is told what is going on."""
    for spec in plan.methods:
        for device in plan.devices:
            if device == "cuda" and not torch.cuda.is_available():
                yield from _all_cells(plan, spec, device, "no CUDA device, or a torch without CUDA")
                continue
            torch.compiler.reset()
            with TemporaryDirectory() as folder:
                yield from _measure(plan, spec, device, Path(folder), say)


def _measure(plan: Plan, spec: str, device: str, folder: Path, say: Say) -> Iterator[Cell]:
    model = build(spec, plan).eval().model.to(device)
    subjects = {BARE: _BareTower(model.load_clip()), spec: model}
    runners: dict[tuple[str, str], Runner] = {}
    reasons: dict[tuple[str, str], str] = {}
    makers: dict[tuple[str, str], Callable[[], Runner]] = {}
    for number, (subject, module) in enumerate(subjects.items()):
        graph = partial(export_graph, module, plan.image_size, folder / str(number))
        makers |= {(subject, run): partial(RUNS[run], module, graph) for run in plan.runs}
    official = plan.official.get(spec.partition(",")[0])
    if official:
        makers[OFFICIAL, EAGER] = partial(load_official, official, plan.backbone, plan.image_size, device)
    with torch.inference_mode():
        for key, make in makers.items():
            say(f"{device}: preparing {' '.join(key)}")
            _or_reason(key, reasons, lambda key=key, make=make: runners.update({key: make()}))  # type: ignore[misc]
        for batch in plan.batches:
            images = torch.randn(batch, 3, plan.image_size, plan.image_size, device=device)
            missing = dict(reasons)
            for key, runner in runners.items():
                say(f"{device}, batch {batch}: warming up {' '.join(key)}")
                _or_reason(key, missing, partial(runner, images))
            ready = {key: runner for key, runner in runners.items() if key not in missing}
            measured: dict[tuple[str, str], list[Seconds]] = {key: [] for key in makers}
            for number in range(plan.repeat):
                for key, runner in ready.items():
                    measured[key].append(seconds(partial(runner, images), device))
                    took = measured[key][-1].wall
                    say(f"{device}, batch {batch}, round {number + 1}/{plan.repeat}: {' '.join(key)} {took:.3f} s")
            yield from tabulate(measured, missing, device, batch)


def _or_reason(key: tuple[str, str], reasons: dict[tuple[str, str], str], work: Callable[[], object]) -> None:
    try:
        with redirect_stdout(sys.stderr):  # exporters report there; the table has standard output for itself
            work()
    except UnavailableError as error:
        reasons[key] = str(error)
    except Exception as error:  # noqa: BLE001  # whatever it is, it stands in the table, and the others go on
        reasons[key] = f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0][:200]}"


def _all_cells(plan: Plan, spec: str, device: str, reason: str) -> Iterator[Cell]:
    for batch in plan.batches:
        for subject in (BARE, spec):
            for run in plan.runs:
                yield Cell(subject, run, device, batch, reason=reason)


def tabulate(
    measured: Mapping[tuple[str, str], Sequence[Seconds]],
    reasons: Mapping[tuple[str, str], str],
    device: str,
    batch: int,
) -> list[Cell]:
    """Cells from what each round measured.

    Args:
        measured (Mapping): For each subject and run, seconds round by round; empty if it could not run.
        reasons (Mapping): Why, for those.
        device (str): Where.
        batch (int): Images in a batch.
    """
    cells = []
    for (subject, run), rounds in measured.items():
        cell = Cell(subject, run, device, batch, reason=reasons.get((subject, run), ""))
        if not rounds:
            cells.append(cell)
            continue
        walls = [one.wall for one in rounds]
        floor = _ratios(rounds, measured.get((BARE, EAGER if subject == OFFICIAL else run)))
        gain = _ratios(measured.get((subject, EAGER)), rounds)
        official = _ratios(rounds, measured.get((OFFICIAL, EAGER)) if subject not in {BARE, OFFICIAL} else None)
        cells.append(
            replace(
                cell,
                rounds=len(rounds),
                wall=statistics.median(walls), wall_low=min(walls), wall_high=max(walls),
                cpu=statistics.median(one.cpu for one in rounds),
                floor_wall=_median(floor, 0), floor_cpu=_median(floor, 1),
                floor_low=min((ratio.wall for ratio in floor), default=None),
                floor_high=max((ratio.wall for ratio in floor), default=None),
                gain_wall=_median(gain, 0), gain_cpu=_median(gain, 1),
                official_wall=_median(official, 0), official_cpu=_median(official, 1),
            )
        )  # fmt: skip
    return cells


def _ratios(above: Sequence[Seconds] | None, below: Sequence[Seconds] | None) -> list[Seconds]:
    """Ratios round by round."""
    pairs = zip(above or (), below or (), strict=False)
    return [Seconds(a.wall / b.wall, a.cpu / b.cpu if b.cpu else float("nan")) for a, b in pairs]


def _median(ratios: Sequence[Seconds], index: int) -> float | None:
    return statistics.median(ratio[index] for ratio in ratios) if ratios else None


def train_steps(plan: Plan, say: Say) -> Iterator[Step]:
    """Measure optimiser steps on the CPU, beside the bare tower looking at the same batch, in eager float32."""
    for spec in plan.methods:
        for batch in plan.batches:
            say(f"{spec}, batch {batch}: building")
            lightning = build(spec, plan).train()
            model, clip = lightning.model, lightning.model.load_clip()
            images, before = torch.randn(batch, 3, plan.image_size, plan.image_size), peak_memory() / 2**30
            labels = torch.arange(batch) % 2 == 0
            masks = torch.zeros(batch, plan.image_size, plan.image_size, dtype=torch.bool)
            masks[labels, : plan.image_size // 4, : plan.image_size // 4] = True
            optimizer = torch.optim.Adam(parameter for parameter in model.parameters() if parameter.requires_grad)

            def step() -> None:
                optimizer.zero_grad()  # noqa: B023  # called before the loop goes on, and so below
                losses = model.losses(model(images), labels, masks, torch.ones_like(labels))  # noqa: B023
                torch.stack(list(losses.values())).sum().backward()
                optimizer.step()  # noqa: B023

            step()
            peak = peak_memory() / 2**30
            bare, steps = [], []
            for number in range(plan.repeat):
                with torch.inference_mode():
                    bare.append(seconds(partial(clip.encode_image, images), "cpu"))
                steps.append(seconds(step, "cpu"))
                say(f"{spec}, batch {batch}, round {number + 1}/{plan.repeat}: {steps[-1].wall:.3f} s")
            ratios = [_median(_ratios(steps, bare), index) or 0.0 for index in (0, 1)]
            times = [_median(steps, index) or 0.0 for index in (0, 1)]
            learned = sum(parameter.numel() for parameter in model.parameters())
            yield Step(spec, batch, learned, before, peak, *times, *ratios)


def build(spec: str, plan: Plan) -> Any:
    """A method with random weights.

    Args:
        spec (str): ``Name`` or ``Name,option=value,...``.
        plan (Plan): Backbone and size.
    """
    return get_model(spec.partition(",")[0], **_arguments(spec, plan))


def _arguments(spec: str, plan: Plan) -> dict[str, Any]:
    name, *options = spec.split(",")
    if name not in anomalib_zsad.MODELS:
        msg = f"{spec}: there is no method {name!r}; choose from {', '.join(anomalib_zsad.MODELS)}."
        raise ValueError(msg)
    if wrong := [option for option in options if "=" not in option]:
        msg = f"{spec}: {', '.join(wrong)} should be option=value."
        raise ValueError(msg)
    given = dict(option.split("=", 1) for option in options)
    common = {"backbone": plan.backbone, "pretrained": "random:0", "image_size": plan.image_size}
    schema = getattr(anomalib_zsad, name).config_class
    allowed = [field for field in schema.model_fields if field not in common]
    if unknown := [option for option in given if option not in allowed]:
        msg = f"{spec}: {name} takes no option {', '.join(unknown)} here; choose from {', '.join(allowed)}."
        raise ValueError(msg)
    schema.resolve({**common, **given})
    return {**common, **given}


class _BareTower(nn.Module):
    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, images: Tensor) -> Tensor:
        return self.clip.encode_image(images)


# ---- tables ----------------------------------------------------------------------------------------------------------


def cells_markdown(cells: Sequence[Cell]) -> str:
    """The table for people; a cell without figures says why."""
    head = ["", "run", "device", "batch", "wall s (low to high)", "cpu s", "x bare tower (low to high)", "by cpu",
            "x faster than eager f32", "by cpu", "x official", "by cpu"]  # fmt: skip
    rows = []
    for cell in cells:
        start = [cell.subject, cell.run, cell.device, str(cell.batch)]
        if not cell.rounds:
            rows.append([*start, cell.reason, *[""] * 7])
            continue
        rows.append([
            *start,
            f"{cell.wall:.3f} ({cell.wall_low:.3f} to {cell.wall_high:.3f})",
            _figure(cell.cpu, 3),
            f"{cell.floor_wall:.2f} ({cell.floor_low:.2f} to {cell.floor_high:.2f})" if cell.floor_wall else "",
            *map(_figure, (cell.floor_cpu, cell.gain_wall, cell.gain_cpu, cell.official_wall, cell.official_cpu)),
        ])
    return _table(head, rows)


def steps_markdown(steps: Sequence[Step]) -> str:
    """The table of optimiser steps for people."""
    head = ["", "batch", "learned", "peak GB before", "peak GB", "step s", "cpu s", "x bare tower", "by cpu"]
    figures = [
        [_figure(value) for value in (s.before, s.peak, s.wall, s.cpu, s.floor_wall, s.floor_cpu)] for s in steps
    ]
    return _table(
        head, [[s.subject, str(s.batch), f"{s.learned:,}", *row] for s, row in zip(steps, figures, strict=True)]
    )


def to_rows(records: Sequence[Cell] | Sequence[Step]) -> list[list[object]]:
    """Header and one row per record, for a CSV file."""
    names = [column.name for column in fields(records[0])]
    return [names, *([getattr(record, name) for name in names] for record in records)]


def _figure(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(text.replace('|', '/') for text in line)} |" for line in lines)
