# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""anomalib's own zero-shot models, WinClip before all, in the test loop of ours."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import anomalib.models
import open_clip
import torch
from anomalib import LearningType
from anomalib.models import AnomalibModule, WinClip
from anomalib.models.image.winclip import torch_model as winclip

from anomalib_zsad.clip.sources import WeightsNotFoundError, find_weights, home
from anomalib_zsad.data import ZeroShot
from anomalib_zsad.metrics import PerClassEvaluator, Report, Row

CLIP_OF_WINCLIP = {"backbone": winclip.BACKBONE, "pretrained": winclip.PRETRAINED}
"""Backbone and weights that anomalib gives to WinClip."""


def load_other(class_path: str, arguments: Mapping[str, Any], thresholds: int | None = None) -> AnomalibModule:
    """Make a zero-shot model of anomalib that is scored as ours are.

    Its scores are taken as the model gives them: anomalib's post-processor would look for thresholds and ranges in
    the target's data, and clamp.

    Args:
        class_path (str): Class in ``anomalib.models``.
        arguments (Mapping[str, Any]): Its arguments; for WinClip also ``backbone``, another of open_clip's CLIPs for
            240 pixels or the JSON file of its configuration, and ``pretrained``, another tag, a file, or ``random``.
        thresholds (int | None): Bins of the pixel scores.

    Raises:
        FileNotFoundError: If WinClip's weights are not on this machine and cannot be downloaded; says where they go.
        ValueError: If there is no such model, or it is not zero-shot.
    """
    cls = class_of(class_path)
    own = dict(arguments)
    clip = [own.pop(name, default) for name, default in CLIP_OF_WINCLIP.items()] if cls is WinClip else []
    with _clip_of_winclip(*clip) if clip else nullcontext():
        model = cls(**own, evaluator=PerClassEvaluator(thresholds), post_processor=False, visualizer=False)
    if clip:
        for attribute, name in zip(("backbone", "pretrained"), clip, strict=True):
            setattr(model.model, attribute, Path(name).stem)
    if model.learning_type != LearningType.ZERO_SHOT:
        msg = f"{class_path} is not zero-shot: it would have to see images of the tested objects first."
        raise ValueError(msg)
    return model


def class_of(class_path: str) -> type[AnomalibModule]:
    """The model of anomalib that has a name.

    Raises:
        ValueError: If there is none.
    """
    cls = getattr(anomalib.models, class_path, None)
    if not (isinstance(cls, type) and issubclass(cls, AnomalibModule)):
        msg = f"There is no model {class_path!r}, neither in anomalib_zsad nor in anomalib."
        raise ValueError(msg)  # noqa: TRY004 - of whatever type, the name is wrong
    return cls


def test_other(
    model: AnomalibModule, arguments: Mapping[str, Any], test: Callable[[ZeroShot], Report]
) -> tuple[Report, dict[str, Any]]:
    """Test a data set: WinClip class by class, each with its word, other models in one go.

    Args:
        model (AnomalibModule): What :func:`load_other` made.
        arguments (Mapping[str, Any]): Those of :class:`~anomalib_zsad.data.ZeroShot`: the target, and how to read it.
        test (Callable[[AnomalibDataModule], Report]): The test loop.

    Returns:
        tuple[Report, dict[str, Any]]: The metrics, and facts of the model.
    """
    everything = ZeroShot(**arguments)
    if not isinstance(model, WinClip):
        return test(everything), {"method": type(model).__name__}
    rows: list[Row] = []
    for category, word in everything.target_words.items():
        model.class_name = word
        model.model.setup(word)  # type: ignore[operator]
        model.is_setup = True  # or it would take the class word from the name of the datamodule
        rows += test(ZeroShot(**{**arguments, "target_categories": [category]})).rows
    facts = {
        "method": "WinClip",
        "backbone": f"{model.model.backbone}/{model.model.pretrained}",
        "image_size": "240",
        "class_words": everything.word_style,
    }
    return Report(tuple(sorted(rows, key=lambda row: row.name))), facts


@contextmanager
def _clip_of_winclip(backbone: str, pretrained: str) -> Generator[None]:
    """Let WinClip find its weights where all of this package's are found, or fail within seconds.

    It names no file but a tag, for which open_clip asks the network again and again.
    """
    if backbone.endswith(".json"):
        open_clip.add_model_config(backbone)
    name = Path(backbone).stem
    try:
        weights = None if pretrained == "random" else str(find_weights(name, pretrained))
    except WeightsNotFoundError as error:
        msg = (
            f"WinClip needs the CLIP {name} with the weights {pretrained}, which are neither on this machine nor "
            f"within reach of it. On a machine with network: anomalib-zsad weights fetch {name} {pretrained}; "
            f"copy the file to {home()}, or name another folder by ANOMALIB_ZSAD_HOME."
        )
        raise WeightsNotFoundError(msg) from error
    before = winclip.BACKBONE, winclip.PRETRAINED
    # None is random weights
    winclip.BACKBONE, winclip.PRETRAINED = name, weights  # type: ignore[assignment]
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # random weights, the same in every run
            yield
    finally:
        winclip.BACKBONE, winclip.PRETRAINED = before
