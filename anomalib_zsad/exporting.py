# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Export of the methods through anomalib's own verbs, and what an exported file says of itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from anomalib_zsad.calibration import CalibratedPostProcessor
from anomalib_zsad.clip.digest import sha256_of_tensors

if TYPE_CHECKING:
    from anomalib.models.components import AnomalibModule

    from anomalib_zsad.models.base import MethodConfig, MethodModel

    Base = AnomalibModule
else:
    Base = object


class ZeroShotExport(Base):
    """The part of :class:`~anomalib_zsad.zero_shot.ZeroShotMixin` that exports."""

    config: MethodConfig
    model: MethodModel
    describe: Callable[[], dict[str, str]]
    origin: dict[str, Any]
    """How the learned tensors came about: auxiliary data, protocol, seed, epochs."""

    def to_torch(self, *args, **kwargs) -> Path:
        """Export for anomalib's ``TorchInferencer``; the file holds CLIP's weights as well."""
        self.configure_model()
        return super().to_torch(*args, **kwargs)

    def to_onnx(self, *args, **kwargs) -> Path:  # type: ignore[override]
        """Export to ONNX; ``to_openvino`` starts here, too."""
        self.configure_model()
        kwargs.setdefault("opset_version", 18)
        with _quiet("onnx_ir", "onnxscript"):  # a thousand lines of INFO otherwise
            path = super().to_onnx(*args, **kwargs)
        _attach(path, self.export_facts())
        return path

    def export_facts(self) -> dict[str, Any]:
        """What an exported file says of itself, as JSON in its metadata under ``anomalib_zsad``.

        ONNX has it among ``metadata_props``, OpenVINO in ``rt_info`` below ``framework``, whatever the compression.
        :class:`anomalib_zsad.Detector` reads it, without PyTorch.

        Returns:
            dict[str, Any]: Plain data, to which methods may add: ``format`` (1); ``method``; ``class_name`` (``None``:
            any object); ``image_size``; ``thresholds``, above which an image (``image``) or a pixel (``pixel``) is
            anomalous by this file's outputs; ``calibrated``, whether they were learned; ``defect_types``, words in the
            order of ``type_scores``; ``clip`` (name, activation and sha256 of the backbone); ``adapter``, sha256 of
            the learned tensors; ``trained_on``; ``versions``.
        """
        import anomalib

        from anomalib_zsad import __version__

        processor = self.post_processor if isinstance(self.post_processor, CalibratedPostProcessor) else None
        return {
            "format": 1,
            "method": type(self).__name__,
            "class_name": getattr(self.config, "class_name", None),
            "image_size": self.config.image_size,
            "thresholds": processor.thresholds() if processor else {},
            "calibrated": bool(processor and processor.statistics()),
            "defect_types": list(getattr(self, "defect_types", ())),
            "clip": self.model.load_clip().facts(),
            "adapter": sha256_of_tensors(self.model.state_dict()),
            "trained_on": self.describe()["trained_on"],
            "versions": {"anomalib_zsad": __version__, "anomalib": anomalib.__version__, "torch": torch.__version__},
        }


def _attach(path: Path, facts: Mapping[str, Any]) -> None:
    """Add facts to an ONNX file. Two protobuf messages, one behind the other, are their union: no need to read it."""
    from onnx import ModelProto, StringStringEntryProto

    entry = StringStringEntryProto(key="anomalib_zsad", value=json.dumps(facts))
    with path.open("ab") as file:
        file.write(ModelProto(metadata_props=[entry]).SerializeToString())


@contextmanager
def _quiet(*names: str) -> Generator[None]:
    """Let loggers report warnings and worse only."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
