# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""kill -9 at random moments of training, and go on from the last checkpoint: the same adapter, but for rounding.

What "the same" means. A checkpoint is written at the end of each epoch. From it, the resumed training sees the same
images in the same order. The one difference is that Adam's two running means lie in the file as bfloat16, with 8
significant bits: each is off by at most 2**-9, and so is, roughly, what the optimiser does next. So the learned tensors
differ by some thousandths of what training moved them, against about all of it when the order of the images is another
one; with means in 32 bits the difference is 0. The bound is 2**-8 over all tensors. A single tensor may have 2**-3, as
some (the bias of an attention's keys, which the softmax ignores) have gradients that are rounding and nothing else.
"""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from safetensors.torch import load_file

from anomalib_zsad.adapters import read_header
from anomalib_zsad.resuming import WholeCheckpointIO, random_states, restore_random_states
from tests.conftest import QUIET, paint_parts

EPOCHS = 4
PRELOAD = ["anomalib.engine", "anomalib_zsad.data", "anomalib_zsad.models.promptmoe", "anomalib_zsad.models.dapo"]
ROUNDING, ROUNDING_OF_ONE = 2**-8, 2**-3


def build(method: str):
    from anomalib.models import get_model

    return get_model(method, backbone="tiny-random", image_size=56, seed=3, visualizer=False, evaluator=False)


def train(method: str, parts: dict, root: str, checkpoint: str | None) -> None:
    from anomalib.data import Folder
    from anomalib.engine import Engine

    from anomalib_zsad.data import ZeroShot

    torch.set_num_threads(1)
    sides = {side: Folder(**part) for side, part in parts.items()}
    data = ZeroShot(**sides, num_workers=0, train_batch_size=4, calibration_ratio=0.2)
    engine = Engine(default_root_dir=root, max_epochs=EPOCHS, logger=False, **QUIET)
    engine.fit(build(method), datamodule=data, ckpt_path=checkpoint)


@pytest.fixture(scope="module")
def processes():
    """Processes that start with everything imported, so that a kill hits the work and not the start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    first = context.Process(target=os.getpid)  # waits for the imports
    first.start()
    first.join()
    return context


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict:
    root = tmp_path_factory.mktemp("parts")
    return {
        "source": paint_parts(root / "washer", 0, normal=8, anomalous=8, size=64),
        "target": paint_parts(root / "gasket", 1, normal=1, anomalous=1, size=64),
    }


@pytest.fixture(scope="module")
def calm(processes, images: dict, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, float]]:
    """An undisturbed training of a method, and the seconds that it takes."""

    @cache
    def trained(method: str) -> tuple[Path, float]:
        root = tmp_path_factory.mktemp("calm")
        seconds = run(processes, method, images, root)
        assert seconds is not None
        return root, seconds

    return trained


def newest(root: Path) -> Path | None:
    """The checkpoint that a user goes on from. Every one must be whole, whenever training was killed."""
    found = sorted(root.rglob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    for path in found:
        content = torch.load(path, weights_only=True)
        assert {"state_dict", "optimizer_states", "loops", "anomalib_zsad"} <= content.keys()
    return found[-1] if found else None


def run(processes, method: str, images: dict, root: Path, kill_after: float | None = None) -> float | None:
    """Train on from the newest checkpoint; returns the seconds that it took, or ``None`` if it was killed."""
    checkpoint = newest(root)
    process = processes.Process(target=train, args=(method, images, str(root), checkpoint and str(checkpoint)))
    start = time.monotonic()
    process.start()
    process.join(kill_after)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    assert process.exitcode == 0
    return time.monotonic() - start


def adapters(root: Path) -> list[Path]:
    return sorted(root.rglob("adapter/*.safetensors"))


def check_same(calm: Path, killed: Path, method: str) -> tuple[float, float]:
    """Compare two adapters; returns the difference over all tensors and the largest, as shares of what moved."""
    start = build(method).model.state_dict()
    wanted, found = load_file(adapters(calm)[-1]), load_file(adapters(killed)[-1])
    assert wanted.keys() == found.keys()
    differences = {name: float((value - found[name]).double().abs().sum()) for name, value in wanted.items()}
    moves = {name: float((value - start[name]).double().abs().sum()) for name, value in wanted.items()}
    shares = {name: differences[name] / move for name, move in moves.items() if move}
    assert all(differences[name] == 0 for name in moves if name not in shares)
    assert {name: share for name, share in shares.items() if share > ROUNDING_OF_ONE} == {}
    overall = sum(differences.values()) / sum(moves.values())
    assert overall <= ROUNDING
    return overall, max(shares.values())


def interrupt(processes, method: str, images: dict, calm: tuple[Path, float], root: Path, kills: int) -> list[int]:
    """Kill ``kills`` times at random moments, each time going on from the newest checkpoint, then let it finish.

    Returns:
        list[int]: At each kill, the number of checkpoints there were.
    """
    undisturbed, seconds = calm
    moments, seen, number = random.Random(7), [], 0
    while True:
        place = root / f"killed {number}"
        place.mkdir(exist_ok=True)
        left = kills - len(seen)
        if run(processes, method, images, place, moments.uniform(0, seconds) if left else None) is None:
            seen.append(len(list(place.rglob("*.ckpt"))))
            for path in adapters(place):
                load_file(path)
            continue
        check_same(undisturbed, place, method)
        if not left:
            return seen
        number += 1  # it came to its end before the kill: begin anew


@pytest.mark.slow
@pytest.mark.parametrize("method", ["DAPO", "PromptMoE"])
def test_training_killed_ten_times_gives_the_same_adapter(method, processes, images, calm, tmp_path) -> None:
    seen = interrupt(processes, method, images, calm(method), tmp_path, kills=10)
    assert min(seen) == 0  # before the first checkpoint, too
    assert max(seen) > 0
    print(method, "checkpoints at each kill:", seen)


@pytest.mark.parametrize(
    "method",
    ["DAPO", *(pytest.param(name, marks=pytest.mark.slow) for name in ("BayesPFL", "CoPS", "PromptAD", "PromptMoE"))],
)
def test_every_method_goes_on_as_if_nothing_had_been(method, processes, images, calm, tmp_path) -> None:
    """Killed as soon as there is a checkpoint, so that most of the training lies behind the kill."""
    process = processes.Process(target=train, args=(method, images, str(tmp_path), None))
    process.start()
    while process.is_alive() and not list(tmp_path.rglob("*.ckpt")):
        process.join(0.01)
    process.kill()
    process.join()
    assert newest(tmp_path)
    assert not adapters(tmp_path)
    assert run(processes, method, images, tmp_path) is not None
    print(method, "difference over all tensors, and the largest:", check_same(calm(method)[0], tmp_path, method))


def test_killed_behind_the_last_epoch_the_adapter_is_written_all_the_same(images: dict, calm, tmp_path: Path) -> None:
    undisturbed, _ = calm("DAPO")
    train("DAPO", images, str(tmp_path), str(newest(undisturbed)))
    (again,), (wanted,) = adapters(tmp_path), adapters(undisturbed)
    whole = load_file(wanted)
    for name, value in load_file(again).items():
        assert torch.equal(whole[name], value), name
    headers = [read_header(path) for path in (wanted, again)]
    assert headers[0] == headers[1]  # calibration and origin, too


def test_training_on_ends_with_figures_of_what_it_made(images: dict, tmp_path: Path) -> None:
    """anomalib's ``train`` hands the checkpoint to the test that follows, which would read it over what was learned."""
    from anomalib.data import Folder
    from anomalib.engine import Engine
    from anomalib.models import get_model

    from anomalib_zsad.data import ZeroShot

    def engine(name: str, **options) -> Engine:
        return Engine(default_root_dir=tmp_path / name, logger=False, **QUIET, **options)

    def data() -> ZeroShot:
        sides = {side: Folder(**part) for side, part in images.items()}
        return ZeroShot(**sides, num_workers=0, train_batch_size=4, calibration_ratio=0.2)

    options = {"backbone": "tiny-random", "image_size": 56, "visualizer": False, "seed": 3, "learning_rate": 0.03}
    (before,) = engine("first", max_epochs=1).train(get_model("DAPO", **options), datamodule=data())
    checkpoint, model = newest(tmp_path / "first"), get_model("DAPO", **options)
    (after,) = engine("on", max_epochs=3).train(model, datamodule=data(), ckpt_path=checkpoint)
    (adapter,) = adapters(tmp_path / "on")
    (wanted,) = engine("test").test(get_model("DAPO", weights=adapter, visualizer=False), datamodule=data())
    assert after == pytest.approx(wanted, abs=1e-5)
    assert after != pytest.approx(before, abs=1e-2)
    learned = load_file(adapter)
    assert all(torch.equal(value, learned[name]) for name, value in model.model.state_dict().items())
    both = engine("both", max_epochs=2)
    both.fit(model, datamodule=data(), ckpt_path=checkpoint)
    (again,) = both.test(model, datamodule=data(), ckpt_path=checkpoint)
    assert again == pytest.approx(before, abs=1e-5)  # asked for by name, and not by the way


def die_while_moving(method: str, images: dict, root: str, checkpoint: str) -> None:
    """Train on with temporary files on another file system, and die half-way through the copy of a checkpoint."""
    import shutil

    def half(source: str, target: str) -> None:
        content = Path(source).read_bytes()
        Path(target).write_bytes(content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    shutil.move = half  # what it does between file systems, with the kill where it hurts
    train(method, images, root, checkpoint)


def test_a_kill_while_a_checkpoint_is_copied_leaves_no_half_of_one(processes, images: dict, tmp_path: Path) -> None:
    """Lightning moves checkpoints out of the folder for temporary files; from memory to disk that is a copy."""
    process = processes.Process(target=die_while_moving, args=("DAPO", images, str(tmp_path), None))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert newest(tmp_path) is None
    assert len(list(tmp_path.rglob("*.ckpt.*.partial"))) == 1


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # not on Windows
    io = WholeCheckpointIO(TorchCheckpointIO())
    path = tmp_path / "weights" / "model.ckpt"
    io.save_checkpoint({"epoch": 1}, path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match=r"File too large, while writing .*model\.ckpt\. Nothing half-written"):
            io.save_checkpoint({"epoch": 2, "state": torch.zeros(9999)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert io.load_checkpoint(path) == {"epoch": 1}
    assert [file.name for file in path.parent.iterdir()] == ["model.ckpt"]


def test_the_random_generators_go_on_where_they_were() -> None:
    def draw() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]  # noqa: NPY002

    states = random_states()
    wanted = draw()
    draw()
    restore_random_states(states)
    assert draw() == wanted
    with BytesIO() as file:
        torch.save(states, file)
        file.seek(0)
        restore_random_states(torch.load(file, weights_only=True))
    assert draw() == wanted
