# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What a plan would measure and what it still lacks, said before anything is measured; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from anomalib_zsad.benchmark.cells import Training, all_cells
from anomalib_zsad.benchmark.mistakes import explain
from anomalib_zsad.benchmark.others import CLIP_OF_WINCLIP, class_of
from anomalib_zsad.benchmark.plan import Method, Plan, Spec
from anomalib_zsad.benchmark.results import Results
from anomalib_zsad.clip.sources import WeightsNotFoundError, find_weights
from anomalib_zsad.clip.weights import OWN
from anomalib_zsad.data.known_sets import SETS
from anomalib_zsad.data.sources import as_datamodules, classes_of


class Need(NamedTuple):
    """Something on disk that cells depend on.

    Attributes:
        kind (str): ``data``, ``CLIP`` or ``adapter``; ``method`` for one whose arguments are wrong.
        name (str): What is meant.
        missing (str): What is missing, and where it goes, or what is wrong; empty if nothing is.
    """

    kind: str
    name: str
    missing: str


def needs(plan: Plan) -> list[Need]:
    """Data sets, CLIPs and adapters of a plan."""
    used = {name for direction in plan.directions() for name in (direction.train, *plan.tests(direction))}
    found = [Need("data", name, _missing_data(spec)) for name, spec in plan.data.items() if name in used]
    wrong = {name: text for name, method in plan.methods.items() if (text := _wrong(plan, method))}
    found += [Need("method", name, text) for name, text in wrong.items()]
    sound = [method for name, method in plan.methods.items() if name not in wrong]
    clips = dict.fromkeys(clip for method in sound if (clip := clip_of(plan, method)))
    found += [Need("CLIP", "/".join(filter(None, clip)), _missing_weights(*clip)) for clip in clips]
    given = dict.fromkeys(one.given for one in _trainings(plan) if one.given)
    return found + [Need("adapter", str(path), "" if path.is_file() else "there is no such file") for path in given]


def outline(plan: Plan) -> str:
    """The plan in lines: how much there is to do, and whether what it takes is there."""
    cells, results = all_cells(plan), Results(plan.output / "cells")
    trainings = list(_trainings(plan))
    trained = sum(one.path.is_file() for one in trainings)
    done = sum(results.path(cell.key).is_file() for cell in cells)
    lines = [f"{len(trainings)} trainings, {trained} done; {len(cells)} cells, {done} measured; in {plan.output}"]
    for need in needs(plan):
        first, *rest = (need.missing or "there").splitlines()
        lines += [f"{need.kind} {need.name}: {first}", *(f"    {line}" for line in rest)]
    return "\n".join(lines)


def clip_of(plan: Plan, method: Method) -> tuple[str, str] | None:
    """Backbone and weights of a method; ``None`` for models of anomalib other than WinClip."""
    if method.ours:
        config = method.config_class.resolve({**plan.common, **method.init_args})
        own = "" if config.backbone in OWN else "openai"
        return config.backbone, config.pretrained or own
    if method.class_path != "WinClip":
        return None
    backbone, pretrained = (str(method.init_args.get(name, default)) for name, default in CLIP_OF_WINCLIP.items())
    return backbone, pretrained


def as_markdown(plan: Plan) -> str:
    """What each row of a plan needs, as a table: CLIP, input, training, class words."""
    lines = [
        "| row | CLIP, and its weights | input | training, each seed and convention | class words |",
        "|---" * 5 + "|",
    ]
    for name, method in plan.methods.items():
        clip = ", ".join(filter(None, clip_of(plan, method) or ("-",)))
        if method.ours:
            config = method.config_class.resolve({**plan.common, **method.init_args})
            training = f"{config.epochs} epochs in batches of {method.train_batch_size}"
            words = method.class_words or plan.class_words or "folder"
            words = words if getattr(config, "class_name", "") is None else getattr(config, "class_name", "none")
            cells = [f"{config.image_size} px", training + _otherwise(method), words]
        else:
            cells = ["240 px", "none", method.class_words or plan.class_words or "folder"]
        lines.append(f"| {' | '.join((f'`{name}`', clip, *cells))} |")
    return "\n".join(lines)


def _otherwise(method: Method) -> str:
    changed = [f"{own['epochs']} on {data}" for data, own in method.trained_on.items() if "epochs" in own]
    return f" ({', '.join(changed)})" if changed else ""


def _trainings(plan: Plan) -> Iterator[Training]:
    yield from {cell.training.key: cell.training for cell in all_cells(plan) if cell.training}.values()


def _wrong(plan: Plan, method: Method) -> str:
    """What is wrong with a method's arguments."""
    where = ""
    try:
        clip_of(plan, method)
        if not method.ours:
            class_of(method.class_path)
        for name, own in method.trained_on.items() if method.ours else ():
            where = f"trained_on {name}: "
            method.config_class.resolve({**plan.common, **method.init_args, **own})
    except ValueError as error:
        return f"{where}{error}"
    return ""


def _missing_data(spec: Spec) -> str:
    try:
        datamodules: list[Any] = as_datamodules(spec.model_dump(), "data")
        for datamodule in datamodules:
            if layout := SETS.get(type(datamodule).__name__):
                layout.entries(datamodule.root)
            else:
                for one in classes_of([datamodule], None, "data"):
                    one.datasets("test")
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        return explain(error)
    return ""


def _missing_weights(backbone: str, pretrained: str) -> str:
    if not pretrained or pretrained.startswith("random"):
        return ""
    try:
        find_weights(backbone, pretrained, download=False)
    except WeightsNotFoundError as error:
        return str(error)
    return ""
