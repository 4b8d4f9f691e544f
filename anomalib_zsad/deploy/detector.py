# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""One call from image to verdict."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from anomalib_zsad.deploy.engines import Outcome, Outputs, open_model
from anomalib_zsad.deploy.folders import find_images
from anomalib_zsad.deploy.regions import Region, find_regions
from anomalib_zsad.pictures import Picture, UnreadableImageError, read
from anomalib_zsad.requirements import explained

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Detection:
    """What a model says of one image.

    Maps have the model's resolution ``(h, w)``, a square over the whole image; boxes are in pixels of the image.

    Attributes:
        score (float): In [0, 1]. Of a calibrated model, 0.5 is the verdict.
        anomalous (bool): The verdict: whether the score exceeds the threshold.
        map (np.ndarray | None): ``(h, w)`` anomaly map in [0, 1]; ``None`` if the model has none, and so the mask.
        mask (np.ndarray | None): ``(h, w)`` of truth values: where the map exceeds the threshold of pixels.
        regions (tuple[Region, ...]): Connected parts of the mask, highest score first.
        types (tuple[tuple[str, float], ...]): Kinds of defect with their probabilities, likeliest first (DAPO).
        type_map (np.ndarray | None): ``(h, w)`` number of the kind of defect inside the mask, counted from 1 in the
            order of ``Detector.type_names``; 0 elsewhere (DAPO).
        uncertainty (np.ndarray | None): ``(h, w)``, how far the prompts disagree (Bayes-PFL).
        size (tuple[int, int]): Width and height of the image.
        path (Path | None): Its file, if it has one.
        note (str): What one should know of how it was read; mostly nothing.
        picture (Picture | None): The image as the model got it; ``None`` in a list, which would fill the memory.
    """

    score: float
    anomalous: bool
    map: np.ndarray | None
    mask: np.ndarray | None
    regions: tuple[Region, ...]
    types: tuple[tuple[str, float], ...]
    type_map: np.ndarray | None
    uncertainty: np.ndarray | None
    size: tuple[int, int]
    path: Path | None = None
    note: str = ""
    picture: Picture | None = None


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be used.

    Attributes:
        path (Path): Its file.
        reason (str): Why.
    """

    path: Path
    reason: str


class Detector:
    """A trained model, ready for photographs.

    Exported graphs (``.xml``, ``.onnx``) need OpenVINO, Pillow and numpy; neither PyTorch nor anomalib is imported.
    What the model is - threshold, defect words, class word - is read from the file. Threads may share a detector.

    Args:
        model (str | Path): OpenVINO's ``.xml``, ``.onnx``, an adapter (``.safetensors``), a checkpoint (``.ckpt``) or
            a torch export (``.pt``).
        device (str): Where to compute: OpenVINO's name, or PyTorch's for the last three. Defaults to ``"CPU"``.
        precision (str): OpenVINO's inference precision. Defaults to ``"f32"``, which gives Lightning's scores on every
            machine; ``"bf16"`` and ``"f16"`` are faster where the hardware has them.
        threshold (float | None): Score above which an image is anomalous. ``None``: the model's own.
        pixel_threshold (float | None): Score above which a pixel is, for masks and regions. ``None``: the model's own.
        throughput (bool): Tune for many images at a time rather than for the time of one. Defaults to ``False``.
        **options: Arguments of the model's constructor, for adapters and checkpoints: ``defect_types``, ``class_name``,
            ``pretrained``, ...

    Attributes:
        facts (dict): What the file says of the model, see
            :meth:`anomalib_zsad.zero_shot.ZeroShotMixin.export_facts`; empty for exports of other models.
        threshold (float): For images.
        pixel_threshold (float): For the map.
        type_names (tuple[str, ...]): Kinds of defect that the model names.

    Example:
        >>> detector = Detector("model.xml")  # doctest: +SKIP
        >>> detector("photo.jpg").score  # doctest: +SKIP
        0.83
        >>> [found.path.name for found in detector("photos/") if found.anomalous]  # doctest: +SKIP
        ['017.jpg', '042.jpg']
    """

    def __init__(
        self,
        model: str | Path,
        *,
        device: str = "CPU",
        precision: str = "f32",
        threshold: float | None = None,
        pixel_threshold: float | None = None,
        throughput: bool = False,
        **options: Any,
    ) -> None:
        for name, value in (("threshold", threshold), ("pixel_threshold", pixel_threshold)):
            if value is not None and not 0 <= value <= 1:
                msg = f"{name}={value} is not in [0, 1]."
                raise ValueError(msg)
        with explained():
            self._engine = open_model(Path(model), device, precision, throughput=throughput, options=options)
        self.facts = self._engine.facts
        own = self.facts.get("thresholds", {})
        self.threshold: float = own.get("image", 0.5) if threshold is None else threshold
        self.pixel_threshold: float = own.get("pixel", 0.5) if pixel_threshold is None else pixel_threshold
        self.type_names = tuple(self.facts.get("defect_types", ()))
        if self.facts.get("calibrated") is False:
            logger.warning(
                "%s was made without calibration: its verdicts compare raw scores with %s.",
                model,
                self.threshold,
            )
        if self.type_names and not self._engine.tells_types:
            logger.warning(
                "%s was made for kinds of defect (%s), but without type_maps, and will not tell them; "
                "`anomalib export --model.type_maps true` adds them.",
                model,
                ", ".join(self.type_names),
            )

    def __call__(self, source: Any) -> Detection | list[Detection]:
        """Detect in one image or in several.

        Args:
            source (Any): One image: a path, a PIL image, a numpy array ``(H, W)`` or ``(H, W, C)``, a tensor
                ``(C, H, W)``; channels are red, green, blue (of OpenCV's arrays, pass ``array[..., ::-1]``), numbers 8
                or 16 bit, or floating point in [0, 1]. Several: a folder, a list of images, an array or tensor with one
                dimension more.

        Returns:
            Detection | list[Detection]: A list, in order, for several. Unreadable files of a folder are left out of it,
            with a warning.

        Raises:
            UnreadableImageError: If an image cannot be used; a ``ValueError``.
            ValueError: If the folder is that of a report.
        """
        if isinstance(source, str | os.PathLike) and Path(source).is_dir():
            paths = list(find_images(Path(source)))
            found: dict[Path | None, Detection] = {}
            for result in self.scan(paths):
                if isinstance(result, Detection):
                    found[result.path] = replace(result, picture=None)
                else:
                    logger.warning("Left out: %s (%s).", result.path, result.reason)
            return [found[path] for path in paths if path in found]
        if isinstance(source, list | tuple) or getattr(source, "ndim", 0) == 4:
            pictures = ((index, read(one)) for index, one in enumerate(source))
            outcomes = self._engine.run(((index, picture), picture.pixels) for index, picture in pictures)
            several = {key[0]: replace(self._detection(key[1], outcome()), picture=None) for key, outcome in outcomes}
            return [several[index] for index in sorted(several)]
        picture = read(source)
        ((_, outcome),) = self._engine.run([(None, picture.pixels)])
        return self._detection(picture, outcome())

    def scan(self, paths: Iterable[Path]) -> Iterator[Detection | Unreadable]:
        """Detect in many files, several at a time; results come as they are ready, in nearly the order of the files.

        No file stops it: what cannot be used comes as :class:`Unreadable`. Only a few images are in memory at a time.
        """
        failed: list[Unreadable] = []

        def readable() -> Iterator[tuple[Picture, np.ndarray]]:
            for path in paths:
                picture = _read_or_reason(path)
                if isinstance(picture, Unreadable):
                    failed.append(picture)
                else:
                    yield picture, picture.pixels

        for picture, outcome in self._engine.run(readable()):
            yield self._detection_or_reason(picture, outcome)
            while failed:
                yield failed.pop()
        yield from failed

    def _detection_or_reason(self, picture: Picture, outcome: Outcome) -> Detection | Unreadable:
        try:
            return self._detection(picture, outcome())
        except UnreadableImageError as error:
            reason = str(error)
        except (RuntimeError, MemoryError) as error:
            reason = f"the model fails on it: {(str(error).strip() or type(error).__name__).splitlines()[-1]}"
        return Unreadable(picture.path or Path(), reason)

    def _detection(self, picture: Picture, outputs: Outputs) -> Detection:
        score = float(np.squeeze(outputs["pred_score"]))
        if not np.isfinite(score):
            msg = f"the model gives it the score {score}"
            raise UnreadableImageError(msg)
        scores = outputs.get("anomaly_map")
        mask = type_map = None
        types: tuple[tuple[str, float], ...] = ()
        regions: tuple[Region, ...] = ()
        if self.type_names and "type_scores" in outputs:
            pairs = zip(self.type_names, outputs["type_scores"].tolist(), strict=True)
            types = tuple(sorted(pairs, key=lambda pair: -pair[1]))
        if scores is not None:
            scores = scores.reshape(scores.shape[-2:])
            mask = scores > self.pixel_threshold
            if types and "type_maps" in outputs:
                type_map = np.where(mask, outputs["type_maps"].argmax(axis=0) + 1, 0).astype(np.uint16)
            regions = find_regions(mask, scores, picture.size, type_map, self.type_names)
        uncertainty = outputs.get("uncertainty_map")
        if uncertainty is not None:
            uncertainty = uncertainty.reshape(uncertainty.shape[-2:])
        anomalous = score > self.threshold
        about = (picture.size, picture.path, picture.note, picture)
        return Detection(score, anomalous, scores, mask, regions, types, type_map, uncertainty, *about)


def _read_or_reason(path: Path) -> Picture | Unreadable:
    try:
        return read(path)
    except UnreadableImageError as error:
        return Unreadable(path, str(error))
