# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""One model file on many photographs, in a process of its own: ``python -m`` this module, the task on standard input.

For an exported graph neither PyTorch nor anomalib is imported, so that the peak memory is what a factory PC needs.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from anomalib_zsad.deploy.engines import open_model
from anomalib_zsad.pictures import read

STATUS = Path("/proc/self/status")
WARM_UP, TIMED, DISTINCT = 3, 40, 8
AT_ONCE = 64


@dataclass(frozen=True)
class Task:
    """What a process has to do.

    Attributes:
        model (str): The model file.
        photos (list[str]): Files to score.
        output (str): Folder that gets ``scores.npy`` ``(N,)`` and ``maps.npy`` ``(N, h, w)``, in order.
        lightning (str): Predict by anomalib's engine, ``model`` being an adapter of this method; otherwise by one of
            :mod:`anomalib_zsad.deploy.engines`.
        precision (str): OpenVINO's arithmetic while the clock runs; scores are always computed in ``f32``.
    """

    model: str
    photos: list[str]
    output: str
    lightning: str = ""
    precision: str = "f32"


@dataclass(frozen=True)
class Measured:
    """What a process found out.

    Attributes:
        images_per_second (float): One image at a time, in memory as numbers; by the median time of an image.
        cpu_seconds (float): Of all threads, for an image.
        memory (int): Peak in bytes, of interpreter, libraries and model, with one image at a time.
        facts (dict[str, Any]): What the file says of itself.
    """

    images_per_second: float
    cpu_seconds: float
    memory: int
    facts: dict[str, Any]


class Predictions:
    """Scores and maps on their way to a folder; maps never lie in memory together.

    Args:
        folder (Path): Gets ``scores.npy`` and ``maps.npy``.
        count (int): Number of images.
    """

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._scores = np.full(count, np.nan, np.float32)
        self._file: BinaryIO | None = None
        self._start = 0

    def put(self, index: int, score: Any, anomaly_map: Any) -> None:
        """Take the result of one image."""
        plane = np.asarray(anomaly_map, np.float32)
        plane = plane.reshape(plane.shape[-2:])
        if self._file is None:
            self._file = (self._folder / "maps.npy").open("wb")
            header = {"descr": "<f4", "fortran_order": False, "shape": (len(self._scores), *plane.shape)}
            np.lib.format.write_array_header_1_0(self._file, header)
            self._start = self._file.tell()
        self._scores[index] = np.squeeze(np.asarray(score))
        self._file.seek(self._start + index * plane.nbytes)
        self._file.write(plane.tobytes())

    def close(self) -> None:
        """Finish both files."""
        if self._file is not None:
            self._file.close()
        np.save(self._folder / "scores.npy", self._scores)


def measure(task: Task) -> Measured:
    """Score all photographs, then take the time of a few."""
    found = Predictions(Path(task.output), len(task.photos))
    if task.lightning:
        _predict(task, found)
    else:
        scoring = open_model(Path(task.model), "CPU", "f32", throughput=False, options={})
        photos = ((index, read(Path(photo)).pixels) for index, photo in enumerate(task.photos))
        for index, outcome in scoring.run(photos):
            outputs = outcome()
            found.put(index, outputs["pred_score"], outputs["anomaly_map"])
    found.close()
    memory = peak_memory()
    # The eager module behind Lightning, without its loops; PyTorch has no precision to choose here.
    precision = task.precision if task.model.endswith((".xml", ".onnx")) else "f32"
    timed = open_model(Path(task.model), "CPU", precision, throughput=False, options={})
    pictures = [read(Path(photo)).pixels for photo in task.photos[:DISTINCT]]
    wall, cpu = [], []
    for turn in range(WARM_UP + TIMED):
        before = time.perf_counter(), time.process_time()
        ((_, outcome),) = timed.run([(0, pictures[turn % len(pictures)])])
        outcome()
        wall.append(time.perf_counter() - before[0])
        cpu.append(time.process_time() - before[1])
    return Measured(1 / statistics.median(wall[WARM_UP:]), statistics.median(cpu[WARM_UP:]), memory, timed.facts)


def _predict(task: Task, found: Predictions) -> None:
    """As ``anomalib predict`` does, from its reading of the files on; some at a time, as it keeps the images."""
    from tempfile import TemporaryDirectory

    from anomalib.data import PredictDataset
    from anomalib.engine import Engine
    from torch.utils.data import ConcatDataset, DataLoader

    import anomalib_zsad

    model = getattr(anomalib_zsad, task.lightning)(weights=task.model, visualizer=False)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    with TemporaryDirectory() as folder:
        engine = Engine(accelerator="cpu", devices=1, default_root_dir=folder, **quiet)
        for start in range(0, len(task.photos), AT_ONCE):
            sets = [PredictDataset(photo) for photo in task.photos[start : start + AT_ONCE]]
            loader: DataLoader = DataLoader(ConcatDataset(sets), collate_fn=sets[0].collate_fn)
            for index, batch in enumerate(engine.predict(model, dataloaders=loader) or [], start):
                found.put(index, batch.pred_score, batch.anomaly_map)


def peak_memory() -> int:
    """Most memory that this process has had, in bytes; without what its parent had before it became this one."""
    if STATUS.exists():
        (line,) = (line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    print(json.dumps(asdict(measure(Task(**json.load(sys.stdin))))))
