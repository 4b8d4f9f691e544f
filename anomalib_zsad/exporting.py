# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Export of the methods through anomalib's own verbs, and what an exported file says of itself.

Quantisation sees what training would see and nothing else: images of the datamodule's training split, and, where it
takes labels (``INT8_ACQ``), the share of auxiliary data that scores are calibrated on. No test split is read.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from anomalib.data import ImageBatch
from anomalib.deploy import CompressionType

from anomalib_zsad.calibration import CalibratedPostProcessor
from anomalib_zsad.clip.digest import sha256_of_tensors
from anomalib_zsad.data.auxiliary import use_auxiliary_data
from anomalib_zsad.data.words import OBJECT

if TYPE_CHECKING:
    from anomalib.data import AnomalibDataModule
    from anomalib.models.components import AnomalibModule
    from torchmetrics import Metric

    from anomalib_zsad.models.base import MethodConfig, MethodModel

    Base = AnomalibModule
else:
    Base = object

logger = logging.getLogger(__name__)

QUANTIZATION_IMAGES = 300  # what nncf takes statistics of, unless told otherwise
METRICS_OF_IMAGES = ("AUROC", "AUPR", "F1Max", "F1Score")


class ZeroShotExport(Base):
    """The part of :class:`~anomalib_zsad.zero_shot.ZeroShotMixin` that exports."""

    config: MethodConfig
    model: MethodModel
    describe: Callable[[], dict[str, str]]
    origin: dict[str, Any]
    _warn_if_untrained: Callable[[], None]

    def to_torch(self, export_root: str | Path, *args, **kwargs) -> Path:
        """Export for anomalib's ``TorchInferencer``; the file holds CLIP's weights as well."""
        self.configure_model()
        self._warn_if_untrained()
        self._tell_words()
        return _written_whole(export_root, lambda folder: super(ZeroShotExport, self).to_torch(folder, *args, **kwargs))

    def to_onnx(self, export_root: str | Path, *args, **kwargs) -> Path:  # type: ignore[override]
        """Export to ONNX; ``to_openvino`` starts here, too."""
        self.configure_model()
        self._warn_if_untrained()
        self._tell_words()
        kwargs.setdefault("opset_version", 18)

        def export(folder: Path) -> Path:
            path = super(ZeroShotExport, self).to_onnx(folder, *args, **kwargs)
            _attach(path, self.export_facts())
            return path

        with _quiet("onnx_ir", "onnxscript"):  # a thousand lines of INFO otherwise
            return _written_whole(export_root, export)

    def _tell_words(self) -> None:
        if getattr(self.config, "class_name", "") is None:  # in Lightning the data may have words
            logger.warning("The exported prompts say %r; give --model.class_name for another word.", OBJECT)

    def to_openvino(  # type: ignore[override]
        self,
        export_root: str | Path,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        compression_type: CompressionType | None = None,
        datamodule: AnomalibDataModule | None = None,
        metric: Metric | str | None = None,
        **kwargs,
    ) -> Path:
        """Export to OpenVINO, whole or compressed.

        Args:
            export_root (str | Path): Output folder.
            model_file_name (str): Name of the two files. Defaults to ``"model"``.
            input_size (tuple[int, int] | None): Height and width of the images. Defaults to ``None``, any.
            compression_type (CompressionType | None): ``FP16`` and ``INT8`` compress weights. ``INT8_PTQ`` computes the
                towers' layers in 8 bits, with ranges seen on images of the training split of ``datamodule``; no label
                is read. ``INT8_ACQ`` takes back some of that until ``metric`` on auxiliary data drops by no more than
                ``max_drop``. Defaults to ``None``.
            datamodule (AnomalibDataModule | None): For the last two; as for training.
            metric (Metric | str | None): One of anomalib's, or the name of one for images, such as ``"AUROC"``.
                Defaults to ``None``, the F1 score of the verdicts.
            **kwargs: ``max_drop``, ``ov_kwargs`` and ``onnx_kwargs``, see anomalib's.

        Raises:
            ValueError: If there are no images to quantise with, or there is no such metric.
        """
        if compression_type in {CompressionType.INT8_PTQ, CompressionType.INT8_ACQ}:  # before minutes are spent
            self._set_up_for_quantization(datamodule, labelled=compression_type == CompressionType.INT8_ACQ)
        if metric is None or isinstance(metric, str):
            metric = _metric_for_images(metric or "F1Score")
        chosen = (model_file_name, input_size, compression_type, datamodule, metric)
        return _written_whole(
            export_root, lambda folder: super(ZeroShotExport, self).to_openvino(folder, *chosen, **kwargs)
        )

    @staticmethod
    def _set_up_for_quantization(datamodule: AnomalibDataModule | None, *, labelled: bool) -> None:
        if datamodule is None:
            msg = (
                "INT8_PTQ and INT8_ACQ need images: auxiliary data (--data SyntheticSurfaces; --data ZeroShot "
                "--data.source Visa), or, for INT8_PTQ, unlabelled pictures (--data Folder --data.name photos "
                "--data.root photos --data.normal_dir .). INT8 and FP16 need none."
            )
            raise ValueError(msg)
        datamodule.prepare_data()
        datamodule.setup("fit")
        if labelled:
            use_auxiliary_data(datamodule)
            held = datamodule.val_data.samples
            if held.empty or held.label_index.nunique() < 2:
                msg = (
                    f"INT8_ACQ holds its metric on images that are kept for calibration, of which {datamodule.name} "
                    f"has {len(held)}, not of both kinds: it needs two normal and two anomalous images of a class."
                )
                raise ValueError(msg)
        if not len(datamodule.train_data):
            msg = f"The training split of {datamodule.name} has no images to quantise with."
            raise ValueError(msg)

    def _post_training_quantization_ov(self, model: Any, datamodule: Any = None) -> Any:  # type: ignore[override]
        """Quantise the towers' layers; anomalib's knows neither transformers nor images of different sizes."""
        import nncf

        with _quiet("nncf"):  # it lists every layer that it leaves alone
            return nncf.quantize(model, _calibration(model, datamodule.train_data), **self._quantization(model))

    def _accuracy_control_quantization_ov(  # type: ignore[override]
        self, model: Any, datamodule: Any = None, metric: Any = None, task: Any = None, max_drop: float = 0.01
    ) -> Any:
        """The same, and back to floating point where the metric on the calibration share suffers."""
        import nncf
        from nncf.quantization.advanced_parameters import AdvancedSmoothQuantParameters

        del task  # This variable is not used.
        data = datamodule.val_data
        name = type(metric).__name__

        def validate(compiled: Any, indices: Iterable[int]) -> tuple[float, list[float]]:
            value, nearness = _validate(model, compiled, metric, (data[index] for index in indices))
            logger.info("INT8_ACQ: %s %.4f on %d auxiliary images.", name, value, len(nearness))
            return value, nearness

        # With SmoothQuant, files of which layers were taken back were far worse than with none taken back, it seems as
        # what goes into such a layer stays scaled.
        unscaled = nncf.AdvancedQuantizationParameters(smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=-1))
        with _quiet("nncf"):
            return nncf.quantize_with_accuracy_control(
                model,
                _calibration(model, datamodule.train_data),
                nncf.Dataset(range(len(data)), lambda index: _pixels(model, data[index].image)),
                validate,
                max_drop=max_drop,
                advanced_quantization_parameters=unscaled,
                **self._quantization(model),
            )

    def _quantization(self, model: Any) -> dict[str, Any]:
        """Arguments of nncf: the linear layers of the towers' blocks and no others.

        They are nearly all of the weights and of the work. What surrounds them - resizing, projections, learned
        prompts, similarities, smoothing, calibration - is small, and its differences are the result. (OpenVINO 2026.4
        does not even compile a projection in 8 bits when one of several texts is taken out of what it gives.)
        """
        import nncf

        blocks = [w for name, w in self.model.load_clip().named_buffers() if ".resblocks." in name and w.ndim == 2]
        # A graph may have a layer whole or only its queries, keys or values, so a first row is what tells.
        starts = {w[row].cpu().numpy().tobytes() for w in blocks for row in range(0, len(w), min(w.shape))}
        others = [node.get_friendly_name() for node in model.get_ops() if _is_other(node, starts)]
        return {
            "model_type": nncf.ModelType.TRANSFORMER,
            "subset_size": QUANTIZATION_IMAGES,
            "ignored_scope": nncf.IgnoredScope(names=others, validate=False),
        }

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


def _written_whole(export_root: str | Path, export: Callable[[Path], Path]) -> Path:
    """Export beside the place and move the files there, so that a failure leaves an older export as it was."""
    root = Path(export_root)
    root.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".export-", dir=root) as folder:
        path = export(Path(folder))
        target = root / path.parent.relative_to(folder)
        target.mkdir(parents=True, exist_ok=True)
        for file in sorted(path.parent.iterdir(), key=lambda file: file == path):  # the one that names the others, last
            file.replace(target / file.name)
    return target / path.name


def _attach(path: Path, facts: Mapping[str, Any]) -> None:
    """Add facts to an ONNX file. Two protobuf messages, one behind the other, are their union: no need to read it."""
    from onnx import ModelProto, StringStringEntryProto

    entry = StringStringEntryProto(key="anomalib_zsad", value=json.dumps(facts))
    with path.open("ab") as file:
        file.write(ModelProto(metadata_props=[entry]).SerializeToString())


def _is_other(node: Any, starts: set[bytes]) -> bool:
    """Whether an operation is anything but a product with a matrix whose first row, or column, is one of these."""
    if node.get_type_name() != "MatMul":
        return node.get_type_name() not in {"Constant", "Parameter", "Result"}
    weights = node.input_value(1).get_node()
    if weights.get_type_name() == "Transpose":
        weights = weights.input_value(0).get_node()
    if weights.get_type_name() != "Constant" or weights.data.ndim != 2:
        return True
    return not {weights.data[0].tobytes(), weights.data[:, 0].tobytes()} & starts


def _pixels(model: Any, image: torch.Tensor) -> np.ndarray:
    """An image ``(3, H, W)`` as a graph takes it: of its size and batch, where these are fixed."""
    batch, _, *size = model.input(0).partial_shape
    image = image[None]
    if all(side.is_static for side in size):
        sides = [side.get_length() for side in size]
        image = F.interpolate(image, sides, mode="bicubic", antialias=True)
    return np.repeat(image.numpy(), batch.get_length() if batch.is_static else 1, axis=0)


def _calibration(model: Any, data: Any) -> Any:
    """Some images of a data set, read one at a time whenever nncf asks for them."""
    import nncf

    chosen = np.random.default_rng(0).permutation(len(data))[:QUANTIZATION_IMAGES].tolist()
    if len(chosen) < QUANTIZATION_IMAGES:
        logger.warning("Quantising with %d images of %s; %d are better.", len(chosen), data.name, QUANTIZATION_IMAGES)
    return nncf.Dataset(chosen, lambda index: _pixels(model, data[index].image))


def _validate(model: Any, compiled: Any, metric: Metric, items: Iterable[Any]) -> tuple[float, list[float]]:
    """The metric over labelled items, and how near each score is to its label, which ranks layers by their harm."""
    metric.reset()
    nearness = []
    for item in items:
        found = compiled(_pixels(model, item.image))
        outputs: dict[str, Any] = {name: torch.from_numpy(value[:1].copy()) for name, value in _by_name(found).items()}
        mask = None
        if item.gt_mask is not None and "anomaly_map" in outputs:
            mask = F.interpolate(item.gt_mask[None, None].float(), outputs["anomaly_map"].shape[-2:])[0] > 0.5
        label = torch.as_tensor(item.gt_label).reshape(1).bool()
        metric.update(ImageBatch(image=item.image[None], gt_label=label, gt_mask=mask, **outputs))
        nearness.append(1 - abs(float(outputs["pred_score"]) - float(label)))
    return float(metric.compute()), nearness


def _by_name(found: Any) -> dict[str, np.ndarray]:
    """The outputs that anomalib's metrics know."""
    known = ("pred_score", "pred_label", "anomaly_map", "pred_mask")
    values = {name: value for output, value in found.items() for name in output.get_names()}
    return {name: values[name] for name in known if name in values}


def _metric_for_images(name: str) -> Metric:
    """Make anomalib's metric of a name, on images; its engine passes the name on as it is."""
    from anomalib import metrics

    if name not in METRICS_OF_IMAGES:
        msg = f"metric={name!r}: allowed are {', '.join(METRICS_OF_IMAGES)}, or an object of any of anomalib's metrics."
        raise ValueError(msg)
    return getattr(metrics, name)(fields=["pred_label" if name == "F1Score" else "pred_score", "gt_label"])


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
