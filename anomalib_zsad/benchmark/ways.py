# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Ways to run a module, and how long a call takes."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from anomalib_zsad.deploy.engines import openvino_core

EAGER = "eager f32"
Runner = Callable[[Tensor], object]


class Seconds(NamedTuple):
    """Of one call: on the clock, and of all threads of this process."""

    wall: float
    cpu: float


def seconds(work: Callable[[], object], device: str) -> Seconds:
    """Time of one call, until the device has done it."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wait()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


class UnavailableError(RuntimeError):
    """This way of running is not to be had here, and why."""


def _eager(module: nn.Module, _: Callable[[], Path]) -> Runner:
    return module


def _autocast(module: nn.Module, _: Callable[[], Path]) -> Runner:
    def run(images: Tensor) -> object:
        with torch.autocast(images.device.type, torch.bfloat16):
            return module(images)

    return run


def _compiled(module: nn.Module, _: Callable[[], Path]) -> Runner:
    return torch.compile(module, dynamic=False)


def _openvino(module: nn.Module, graph: Callable[[], Path], *, precision: str, int8: bool = False) -> Runner:
    if next(module.buffers()).device.type != "cpu":
        msg = "measured on the CPU only"
        raise UnavailableError(msg)
    core = openvino_core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        msg = "this CPU has no bfloat16 instructions; OpenVINO would compute in float32"
        raise UnavailableError(msg)
    path = graph()
    if int8:
        path = _with_int8_weights(path)
    threads = torch.get_num_threads()
    settings = {
        "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads
    }  # fmt: skip
    request = core.compile_model(path, "CPU", settings).create_infer_request()
    return lambda images: request.infer({0: images.numpy()}, share_inputs=True, share_outputs=True)


RUNS: dict[str, Callable[[nn.Module, Callable[[], Path]], Runner]] = {
    EAGER: _eager,
    "eager bf16": _autocast,
    "compiled f32": _compiled,
    "openvino f32": partial(_openvino, precision="f32"),
    "openvino bf16": partial(_openvino, precision="bf16"),
    "openvino int8": partial(_openvino, precision="f32", int8=True),
}
"""Ways to run a module; the second argument writes and returns its OpenVINO graph."""


def export_graph(module: nn.Module, image_size: int, folder: Path) -> Path:
    """The OpenVINO graph of a module that takes normalised images, free in its batch; written at the first call."""
    import openvino as ov

    path = folder / "graph.xml"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        images = torch.zeros(2, 3, image_size, image_size)  # two: a batch of one would be taken for a constant
        module(images[:1])  # what is kept from a first call, such as the features of texts, is a constant of the graph
        batch = ({0: torch.export.Dim.DYNAMIC},)
        torch.onnx.export(
            module, (images,), folder / "graph.onnx", dynamo=True, opset_version=18, dynamic_shapes=batch, verbose=False
        )
        ov.save_model(ov.convert_model(folder / "graph.onnx"), path, compress_to_fp16=False)
        for file in folder.glob("graph.onnx*"):  # gigabytes
            file.unlink()
    return path


def _with_int8_weights(path: Path) -> Path:
    import nncf
    import openvino as ov

    int8 = path.with_name("int8.xml")
    ov.save_model(nncf.compress_weights(openvino_core().read_model(path)), int8, compress_to_fp16=False)
    return int8


def load_official(where: str, backbone: str, image_size: int, device: str) -> Runner:
    """The official code of a method, behind a file that you write.

    No layout of a checkout is known here. The file imports the checkout (it may extend ``sys.path``) and has a function
    ``make(backbone: str, image_size: int, device: str)`` that returns a callable. That takes normalised images
    ``(B, 3, image_size, image_size)`` on the device and does everything that the code does for a batch; what it returns
    is not looked at.

    Args:
        where (str): ``FILE:FUNCTION``, for instance ``adapter.py:make``.
        backbone (str): CLIP architecture by its open_clip name.
        image_size (int): Side in pixels.
        device (str): ``cpu`` or ``cuda``.

    Raises:
        ValueError: If there is no such file or function.
    """
    file, _, name = where.rpartition(":")
    if not Path(file).is_file() or not name.isidentifier():
        msg = f"--official {where}: expected METHOD=FILE:FUNCTION with a Python file that exists."
        raise ValueError(msg)
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, name):
        msg = f"--official {where}: {file} has no function {name}."
        raise ValueError(msg)
    return getattr(module, name)(backbone, image_size, device)
