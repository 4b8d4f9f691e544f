# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""No room left while something is written: a clear message, and nothing half-written that looks whole.

The limit on the size of files that a process may write stands for the disk: at it, the first write comes short and the
next one fails, as on a full disk.
"""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from anomalib.engine import Engine
from PIL import Image

from anomalib_zsad.adapters import Adapter
from anomalib_zsad.benchmark.report import draw
from anomalib_zsad.benchmark.results import write_whole
from anomalib_zsad.cli import main
from anomalib_zsad.commands import benchmark_speed
from anomalib_zsad.files import whole
from tests.deploy.conftest import FACTS, save_graph
from tests.faults.test_kill_detect import contents, take_photos
from tests.faults.test_kill_training import PRELOAD, build, train

resource = pytest.importorskip("resource", reason="Windows has no limits of this kind")
ROOT = Path(__file__).parents[2]
FULL = r"(File too large|No space left on device), while writing .*{}\. Nothing half-written was left\. Make room"


@contextmanager
def room_for(size: int) -> Generator[None]:
    """Let files grow to this many bytes only."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    for size in (0, 1, 4999):
        with room_for(size), pytest.raises(OSError, match=FULL.format("file")), whole(path) as partial:
            partial.write_bytes(bytes(5000))
        assert path.read_text() == "before"
        assert [one.name for one in tmp_path.iterdir()] == ["file"]
    with pytest.raises(TypeError), whole(path) as partial:
        partial.write_text("half") + "of it"
    assert path.read_text() == "before"
    with whole(path) as partial:
        partial.write_text("after")
    assert path.read_text() == "after"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_two_writers_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with whole(path) as first, whole(path) as second:
        first.write_text("first")
        second.write_text("second")
        assert first.read_text() == "first"
    assert path.read_text() == "first"  # it ended last
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_name_as_long_as_names_may_be(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 127)
    with whole(path) as partial:
        partial.write_text("whole")
    assert path.read_text() == "whole"


def test_what_a_killed_writer_left_goes_a_day_later(tmp_path: Path) -> None:
    with whole(tmp_path / "elsewhere") as partial:
        suffix = partial.name.removeprefix("elsewhere")
        partial.touch()
    folder = tmp_path / "folder"
    folder.mkdir()
    names = ("a.ckpt" + suffix, "b.ckpt" + suffix, "c.partial", "d")
    for name in names:
        (folder / name).touch()
        os.utime(folder / name, (0, 0) if name != names[1] else None)
    with whole(folder / "new") as partial:
        partial.touch()
    assert {one.name for one in folder.iterdir()} == {"new", *names[1:]}


def test_tables_and_pictures_of_benchmarks(tmp_path: Path) -> None:
    one = SimpleNamespace(cell=SimpleNamespace(test="VisA", label="DAPO"), row="DAPO", metrics={})
    for name, write in (
        ("speed.csv", lambda path: benchmark_speed._write(path, [["a figure"] * 1000])),
        ("A.png", lambda path: draw([one], "A", path)),
    ):
        (tmp_path / name).write_text("before")
        with room_for(4000), pytest.raises(OSError, match=FULL.format(name)):
            write(tmp_path / name)
        assert (tmp_path / name).read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["A.png", "speed.csv"]


def test_adapter(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    Adapter("DAPO", {}, {"x": torch.ones(2000)}).save(path)
    with room_for(4000), pytest.raises(OSError, match=FULL.format(r"a\.safetensors")):
        Adapter("DAPO", {}, {"x": torch.zeros(2000)}).save(path)
    assert Adapter.load(path, "DAPO").tensors["x"].eq(1).all()
    assert len(list(tmp_path.iterdir())) == 1


def test_table_of_a_benchmark(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    write_whole(path, "a,b\n1,2\n")
    with room_for(100), pytest.raises(OSError, match=FULL.format(r"results\.csv")):
        write_whole(path, "a,b\n" + "1,2\n" * 1000)
    assert path.read_text() == "a,b\n1,2\n"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_graph(tmp_path_factory.mktemp("graph") / "model.xml", FACTS)


def test_report(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The disk fills earlier and later: at the first record, an overlay, the gallery, the report itself."""
    photos, report = take_photos(tmp_path / "photos", 6), tmp_path / "report"
    command = ["detect", str(photos), "--model", str(model), "--report"]
    assert main([*command, str(tmp_path / "calm")]) == 3
    wanted = contents(tmp_path / "calm")
    sizes = sorted(map(len, wanted.values()))
    named = set()
    for size in (20, 500, sizes[0] + 200, sizes[3] - 10, sizes[-2] - 10, sizes[-1] - 500):
        capsys.readouterr()
        with room_for(size):
            assert main([*command, str(report)]) == 1
        message = capsys.readouterr().err.splitlines()[-1]
        assert "Nothing half-written was left. Make room there" in message
        named.add(Path(message.partition("while writing ")[2].partition(". Nothing")[0]).suffix)
        found = contents(report)
        for name in found.keys() - {"results.jsonl", "gallery.jsonl"}:
            assert found[name] == wanted[name], name
        assert not list(report.rglob("*.partial"))
    assert {".json", ".jpg", ".html"} <= named
    assert main([*command, str(report)]) == 3
    assert contents(report) == wanted


def test_lines_on_a_full_disk(model: Path, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "x.png")
    command = [sys.executable, "-m", "anomalib_zsad.cli", "detect", str(tmp_path / "x.png"), "--model", str(model)]
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    assert run.returncode not in {0, 3, 4}
    assert "No space left on device" in run.stderr


def train_with_room(parts: dict, root: str, size: int, checkpoint: str | None, message: str) -> None:
    try:
        with room_for(size):
            train("DAPO", parts, root, checkpoint)
    except OSError as error:
        Path(message).write_text(str(error))
        sys.exit(1)


def run(target, *arguments) -> int:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def test_checkpoint_of_training(tmp_path: Path) -> None:
    from tests.conftest import paint_parts

    sizes = {"normal": 4, "anomalous": 4, "size": 64}
    parts = {side: paint_parts(tmp_path / side, seed, **sizes) for seed, side in enumerate(("source", "target"))}
    message = tmp_path / "message"
    assert run(train_with_room, parts, str(tmp_path / "results"), 30_000, None, str(message)) == 1
    assert "Nothing half-written was left" in message.read_text()
    assert "model.ckpt" in message.read_text()
    assert not [path for kind in ("*.ckpt*", "*.safetensors*") for path in (tmp_path / "results").rglob(kind)]


@pytest.mark.parametrize(
    "kind", ["torch", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("onnx", "openvino"))]
)
def test_an_older_export_stays_as_it_was(kind: str, tmp_path: Path) -> None:
    def exported() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    model, engine = build("DAPO"), Engine(default_root_dir=tmp_path / "runs", logger=False, accelerator="cpu")
    engine.export(model, kind, export_root=tmp_path)
    older = exported()
    assert {path.suffix for path in older} >= {{"onnx": ".onnx", "openvino": ".bin", "torch": ".pt"}[kind]}
    for size in (0, 1_000, 100_000):
        with room_for(size), pytest.raises((OSError, RuntimeError)):
            engine.export(model, kind, export_root=tmp_path)
        assert exported() == older, size
