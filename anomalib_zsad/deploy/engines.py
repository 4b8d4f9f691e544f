# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What runs a model file: OpenVINO for exported graphs, PyTorch for everything else."""

from __future__ import annotations

import functools
import inspect
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from PIL import Image

from anomalib_zsad.deploy.facts import read_facts

Key = TypeVar("Key")
Outputs = dict[str, np.ndarray]
Outcome = Callable[[], Outputs]
"""Gives what the model made of one image, or raises what it failed with: a :exc:`RuntimeError` or a
:exc:`MemoryError`."""

EXTRA_OUTPUTS = ("type_maps", "uncertainty_map")
"""Options of methods that add what a detection can tell; on, where a model is built here."""


SIZES_KEPT = 64
"""Kernels that OpenVINO's CPU plugin keeps for sizes of images. Of its own 5000, each stays in memory: a gigabyte more
after some 1400 photographs of different sizes."""


PRECISIONS = ("f32", "bf16", "f16")
"""What OpenVINO can be asked to compute in."""


class Engine(Protocol):
    """A model and what its file says of it."""

    facts: dict[str, Any]
    """See :meth:`anomalib_zsad.zero_shot.ZeroShotMixin.export_facts`; empty for files of other models."""

    tells_types: bool
    """Whether kinds of defect are among the outputs."""

    def run(self, images: Iterable[tuple[Key, np.ndarray]]) -> Iterator[tuple[Key, Outcome]]:
        """Outputs by name, without their batch dimension, for images ``(3, H, W)`` in [0, 1] of any size.

        They come as they are ready, which need not be the order of the images; the key tells which one it is. An image
        that the model fails on stops no other. Several threads may run at the same time.
        """
        ...


def open_model(path: Path, device: str, precision: str, *, throughput: bool, options: dict[str, Any]) -> Engine:
    """Make the engine for a file, by its suffix.

    Raises:
        FileNotFoundError: If there is no such file, or none with its weights beside it.
        ValueError: If it is none that can be used, device or precision are not to be had, or options were given that
            do not apply to it.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        msg = (
            f"Model {path} {what}. `anomalib export` writes weights/openvino/model.xml, weights/onnx/model.onnx or "
            "weights/torch/model.pt, and training weights/adapter/*.safetensors and weights/lightning/model.ckpt."
        )
        raise FileNotFoundError(msg)
    if path.suffix in {".xml", ".onnx"}:
        if options:
            msg = (
                f"{path.name} is an exported graph and takes no {', '.join(options)}: such options are given to "
                "`anomalib export`."
            )
            raise ValueError(msg)
        return OpenVINOEngine(path, device, precision, throughput=throughput)
    if path.suffix in {".safetensors", ".ckpt", ".pt"}:
        return TorchEngine(path, device, precision, options)
    hint = " Its adapter: `anomalib-zsad weights convert`." if path.suffix == ".pth" else ""
    msg = f"{path.name} is no model file; use .xml (OpenVINO), .onnx, .safetensors (adapter), .ckpt or .pt.{hint}"
    raise ValueError(msg)


@functools.cache
def openvino_core() -> Any:
    """The one ``openvino.Core`` of this process.

    OpenVINO's CPU plugin, of which every core has its own, exchanges the stack that signals are handled on and puts the
    former one back when it ends. If two end in the order in which they began, that is freed memory: the next signal
    with a handler, Ctrl-C for one, kills the process.
    """
    import openvino as ov

    return ov.Core()


class OpenVINOEngine:
    """An exported graph, OpenVINO's own format or ONNX; imports OpenVINO only.

    Args:
        path (Path): ``.xml`` with its ``.bin``, or ``.onnx``.
        device (str): OpenVINO's name of a device, in upper or lower case.
        precision (str): OpenVINO's hint for arithmetic. Left to itself, it computes in bfloat16 on some CPUs, and maps
            then differ by some hundredths from those of other machines.
        throughput (bool): Several images at a time, rather than each as soon as possible.
    """

    facts: dict[str, Any]
    tells_types: bool

    def __init__(self, path: Path, device: str, precision: str, *, throughput: bool) -> None:
        device = device.upper()
        try:
            model = openvino_core().read_model(path)
        except RuntimeError as error:
            weights = path.with_suffix(".bin") if path.suffix == ".xml" else path.with_name(path.name + ".data")
            if not weights.exists() and ("bin file" if path.suffix == ".xml" else ".data") in str(error):
                msg = f"{path} has its weights in {weights.name}, which must lie beside it."
                raise FileNotFoundError(msg) from error
            msg = f"{path} is damaged, or not a model that OpenVINO reads: {str(error).strip().splitlines()[-1]}"
            raise ValueError(msg) from error
        self.facts = read_facts(model, path)
        batch, _, *size = model.input(0).partial_shape
        self._batch = batch.get_length() if batch.is_static else 1
        self._size = tuple(side.get_length() for side in size) if all(side.is_static for side in size) else None
        hint = "THROUGHPUT" if throughput else "LATENCY"
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": hint}
        if device == "CPU":
            settings["CPU_RUNTIME_CACHE_CAPACITY"] = SIZES_KEPT
        try:
            self._graph = openvino_core().compile_model(model, device, settings)
        except RuntimeError as error:
            msg = (
                f"OpenVINO cannot run {path} with device={device!r}, precision={precision!r}: "
                f"{str(error).strip().splitlines()[-1]}. Devices here: {', '.join(openvino_core().available_devices)}; "
                f"precisions: {', '.join(PRECISIONS)}."
            )
            raise ValueError(msg) from error
        self._names = [output.any_name for output in model.outputs]  # compiling may put the names of nodes first
        self.tells_types = "type_scores" in self._names
        self._streams: int = self._graph.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._idle: deque[Any] = deque()

    # Requests are waited for by the thread that started them. OpenVINO's AsyncInferQueue would call back from threads
    # of its own, which aborts an interpreter that has begun to end; and an image on which the model fails would fail
    # all that follow. Pools of Python's threads never end if Ctrl-C comes while this thread has one of their locks.
    def run(self, images: Iterable[tuple[Key, np.ndarray]]) -> Iterator[tuple[Key, Outcome]]:
        """See :class:`Engine`."""
        running: deque[tuple[Key, Any, Exception | None]] = deque()
        try:
            for key, pixels in images:
                # One more than the streams runs: OpenVINO has it wait for the first that is free.
                finished = self._finish(*running.popleft()) if len(running) > self._streams else None
                running.append((key, *self._start(pixels)))
                if finished is not None:
                    yield finished
            while running:
                yield self._finish(*running.popleft())
        finally:
            for _, request, _ in running:
                request.cancel()

    def _start(self, pixels: np.ndarray) -> tuple[Any, Exception | None]:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._graph.create_infer_request()
        try:
            request.start_async({0: self._fitted(pixels)})
        except (RuntimeError, MemoryError) as error:
            return request, error
        return request, None

    def _finish(self, key: Key, request: Any, error: Exception | None) -> tuple[Key, Outcome]:
        outputs: Outputs = {}
        try:
            if error is None:
                request.wait()
                values = (np.atleast_1d(tensor.data)[0].copy() for tensor in request.output_tensors)
                outputs = dict(zip(self._names, values, strict=True))
        except (RuntimeError, MemoryError) as failure:
            error = failure
        self._idle.append(request)
        return key, functools.partial(_given, outputs, error)

    def _fitted(self, pixels: np.ndarray) -> np.ndarray:
        """What the input takes: a graph exported with a fixed size gets images resized as the model resizes them."""
        if self._size is not None and pixels.shape[1:] != self._size:
            side = self._size[::-1]
            planes = [Image.fromarray(plane).resize(side, Image.Resampling.BICUBIC) for plane in pixels]
            pixels = np.stack([np.asarray(plane) for plane in planes])
        return np.repeat(pixels[None], self._batch, axis=0)


class TorchEngine:
    """An adapter, a checkpoint or a torch export.

    Args:
        path (Path): ``.safetensors``, ``.ckpt`` or ``.pt``.
        device (str): PyTorch's name of a device, in upper or lower case.
        precision (str): ``f32``.
        options (dict[str, Any]): Arguments of the model's constructor, for adapters and checkpoints.
    """

    facts: dict[str, Any]
    tells_types: bool

    def __init__(self, path: Path, device: str, precision: str, options: dict[str, Any]) -> None:
        if precision != "f32":
            msg = f"precision={precision!r} is OpenVINO's; {path.suffix} files run in 'f32'."
            raise ValueError(msg)
        load = {".safetensors": _from_adapter, ".ckpt": _from_checkpoint, ".pt": _from_export}[path.suffix]
        self._device = device.lower()
        self._model = load(path, options)
        if hasattr(self._model, "configure_model"):
            self._model.configure_model()
        try:
            self._model.eval().to(self._device)
        except (RuntimeError, AssertionError) as error:  # a build without CUDA asserts
            here = ", ".join(_torch_devices())
            msg = f"PyTorch cannot use device={device!r}: {_first_line(error)}. Devices here: {here}."
            raise ValueError(msg) from error
        self.facts = self._model.export_facts() if hasattr(self._model, "export_facts") else {}
        self.tells_types = bool(getattr(getattr(self._model, "config", None), "type_maps", False))

    def run(self, images: Iterable[tuple[Key, np.ndarray]]) -> Iterator[tuple[Key, Outcome]]:
        """See :class:`Engine`."""
        for key, pixels in images:
            yield key, functools.partial(self._infer, pixels)

    def _infer(self, pixels: np.ndarray) -> Outputs:
        import torch

        with torch.inference_mode():
            found = self._model(torch.from_numpy(pixels)[None].to(self._device))._asdict()
        return {name: value[0].cpu().numpy() for name, value in found.items() if value is not None}


def _given(outputs: Outputs, error: Exception | None) -> Outputs:
    if error is not None:
        raise error
    return outputs


def _torch_devices() -> list[str]:
    import torch

    if not torch.accelerator.is_available():
        return ["cpu"]
    kind = torch.accelerator.current_accelerator()
    return ["cpu", *(f"{kind}:{number}" for number in range(torch.accelerator.device_count()))]


def _model_class(path: Path, method: str | None, options: dict[str, Any]) -> Any:
    """The class of a method; options that ask for what a detection can tell are added."""
    import anomalib_zsad

    if method not in anomalib_zsad.MODELS:
        msg = f"{path} was made by {method or 'another program'}; known are {', '.join(anomalib_zsad.MODELS)}."
        raise ValueError(msg)
    cls = getattr(anomalib_zsad, method)
    known = inspect.signature(cls).parameters.keys() - {"weights"}
    if unknown := sorted(options.keys() - known):
        has = ", ".join(sorted(known))
        msg = f"{path.name} is of {method}, which has no option {', '.join(unknown)}. It has {has}."
        raise ValueError(msg)
    for name in EXTRA_OUTPUTS:
        if name in cls.config_class.model_fields:
            options.setdefault(name, True)
    return cls


def _from_adapter(path: Path, options: dict[str, Any]) -> Any:
    from anomalib_zsad.adapters import read_header

    return _model_class(path, read_header(path)["method"], options)(weights=path, **options)


def _from_checkpoint(path: Path, options: dict[str, Any]) -> Any:
    from anomalib_zsad.adapters import read_model_checkpoint

    method = read_model_checkpoint(path)
    return _model_class(path, method, options).load_from_checkpoint(path, map_location="cpu", **options)


def _from_export(path: Path, options: dict[str, Any]) -> Any:
    if options:
        msg = f"{path.name} is an exported model: {', '.join(options)} cannot be changed any more."
        raise ValueError(msg)
    if os.environ.get("TRUST_REMOTE_CODE", "").lower() not in {"1", "true", "yes"}:
        msg = f"{path} may run any code when it is opened. If you made it, set TRUST_REMOTE_CODE=1; or export .xml."
        raise ValueError(msg)
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=False)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # what unpickling raises is an open list
        msg = f"{path} is damaged, or no PyTorch file ({_first_line(error)}). Copy it again, or export it anew."
        raise ValueError(msg) from error
    model = found.get("model") if isinstance(found, dict) else None
    if not hasattr(model, "eval"):
        msg = f"{path} has no model; use what `anomalib export --export_type torch` writes, an adapter or a checkpoint."
        raise ValueError(msg)
    return model


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
