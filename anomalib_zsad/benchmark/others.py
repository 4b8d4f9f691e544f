# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""anomalib's own zero-shot models, WinClip before all, in the test loop of ours."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import anomalib.models
from anomalib import LearningType
from anomalib.data import AnomalibDataModule
from anomalib.models import AnomalibModule, WinClip
from anomalib.models.image.winclip import torch_model as winclip

from anomalib_zsad.clip.sources import WeightsNotFoundError, find_weights, home
from anomalib_zsad.data import ZeroShot
from anomalib_zsad.data.sources import as_datamodules, classes_of
from anomalib_zsad.metrics import PerClassEvaluator, Report, Row


def load_other(class_path: str, arguments: Mapping[str, Any], thresholds: int | None = None) -> AnomalibModule:
    """Make a zero-shot model of anomalib that is scored as ours are.

    Its scores are taken as the model gives them: anomalib's post-processor would look for thresholds and ranges in
    the target's data, and clamp.

    Args:
        class_path (str): Class in ``anomalib.models``.
        arguments (Mapping[str, Any]): Its arguments.
        thresholds (int | None): Bins of the pixel scores.

    Raises:
        FileNotFoundError: If WinClip's weights are not on this machine and cannot be downloaded; says where they go.
        ValueError: If there is no such model, or it is not zero-shot.
    """
    cls = getattr(anomalib.models, class_path, None)
    if not (isinstance(cls, type) and issubclass(cls, AnomalibModule)):
        msg = f"There is no model {class_path!r}, neither in anomalib_zsad nor in anomalib."
        raise ValueError(msg)  # noqa: TRY004 - of whatever type, the name is wrong
    with _weights_of_winclip() if cls is WinClip else _nothing():
        model = cls(**arguments, evaluator=PerClassEvaluator(thresholds), post_processor=False, visualizer=False)
    if model.learning_type != LearningType.ZERO_SHOT:
        msg = f"{class_path} is not zero-shot: it would have to see images of the tested objects first."
        raise ValueError(msg)
    return model


def test_other(
    model: AnomalibModule, target: Any, test: Callable[[AnomalibDataModule], Report], loader: Mapping[str, Any]
) -> tuple[Report, dict[str, Any]]:
    """Test a data set: WinClip class by class, each with its word, other models in one go.

    Args:
        model (AnomalibModule): What :func:`load_other` made.
        target (Any): Data set, as :class:`~anomalib_zsad.data.ZeroShot` reads it.
        test (Callable[[AnomalibDataModule], Report]): The test loop.
        loader (Mapping[str, Any]): Further arguments of ``ZeroShot``.

    Returns:
        tuple[Report, dict[str, Any]]: The metrics, and facts of the model.
    """
    if not isinstance(model, WinClip):
        return test(ZeroShot(target=target, **loader)), {"method": type(model).__name__}
    classes = classes_of(as_datamodules(target, "target"), None, "target")
    named = bool(classes[0].datamodule.category)  # a data set of one class has no category to choose
    rows: list[Row] = []
    for one in classes:
        model.class_name = one.class_name
        model.model.setup(one.class_name)  # type: ignore[operator]
        model.is_setup = True  # or it would take the class word from the name of the datamodule
        chosen: dict[str, Any] = {"target_categories": [one.category]} if named else {}
        rows += test(ZeroShot(target=target, **chosen, **loader)).rows
    facts = {"backbone": f"{model.model.backbone}/{winclip.PRETRAINED}", "image_size": "240"}
    return Report(tuple(sorted(rows, key=lambda row: row.name))), {"method": "WinClip", **facts}


@contextmanager
def _weights_of_winclip() -> Generator[None]:
    """Let WinClip find its weights where all of this package's are found, or fail within seconds.

    It names no file but a tag, for which open_clip asks the network again and again.
    """
    tag = winclip.PRETRAINED
    try:
        winclip.PRETRAINED = str(find_weights(winclip.BACKBONE, tag))
    except WeightsNotFoundError as error:
        msg = (
            f"WinClip needs the CLIP {winclip.BACKBONE} with the weights {tag}, which are neither on this machine nor "
            f"within reach of it. On a machine with network: anomalib-zsad weights fetch {winclip.BACKBONE} {tag}; "
            f"copy the file to {home()}, or name another folder by ANOMALIB_ZSAD_HOME."
        )
        raise WeightsNotFoundError(msg) from error
    try:
        yield
    finally:
        winclip.PRETRAINED = tag


@contextmanager
def _nothing() -> Generator[None]:
    yield
