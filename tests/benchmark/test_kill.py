# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""kill -9 at random moments, and go on: the tables are those of an undisturbed run."""

import json
import multiprocessing
import random
import time
from pathlib import Path

import pytest

from tests.benchmark.conftest import write_plan

TABLES = ("results.csv", "summary.csv", "report.md")
PRELOAD = ["anomalib_zsad.benchmark.run", "anomalib_zsad.models.bayes_pfl", "anomalib_zsad.models.promptmoe"]


def work(path: str, output: str) -> None:
    import torch

    from anomalib_zsad.benchmark.run import run_benchmark

    torch.set_num_threads(1)
    run_benchmark(path, output)


@pytest.fixture(scope="module")
def processes():
    """Processes that start with everything imported, so that a kill hits the work and not the start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    first = context.Process(target=int)  # waits for the imports, which are no part of what a run takes
    first.start()
    first.join()
    return context


def run(processes, path: Path, output: Path, kill_after: float | None = None) -> bool:
    """Run a benchmark; returns whether it came to its end."""
    process = processes.Process(target=work, args=(str(path), str(output)))
    process.start()
    process.join(kill_after)
    if process.is_alive():
        process.kill()
        process.join()
        return False
    assert process.exitcode == 0
    return True


def interrupt(processes, path: Path, folder: Path, kills: int, share: float) -> int:
    """Kill ``kills`` times, then let it finish; compare with a run of its own.

    Moments are drawn up to a share of what the undisturbed run takes, whatever the machine. Returns how many kills hit
    a benchmark with cells to measure; the others hit one that writes its tables again.
    """
    start = time.perf_counter()
    assert run(processes, path, folder / "calm")
    longest = share * (time.perf_counter() - start)
    cells = len(list((folder / "calm" / "cells").iterdir()))
    moments, hits = random.Random(7), 0
    for _ in range(kills):
        killed = not run(processes, path, folder / "killed", kill_after=moments.uniform(0.05, longest))
        found = list((folder / "killed" / "cells").glob("*.json"))
        hits += killed and len(found) < cells
        for cell in found:
            json.loads(cell.read_text())  # whole, whenever it was killed
    assert run(processes, path, folder / "killed")
    for name in TABLES:
        assert (folder / "killed" / name).read_bytes() == (folder / "calm" / name).read_bytes(), name
    for part in ("cells", "adapters"):
        names = [{file.name for file in (folder / kind / part).iterdir()} for kind in ("calm", "killed")]
        assert names[0] == {name for name in names[1] if not name.endswith(".partial")}
    return hits


def test_killed_ten_times_gives_the_same_tables(processes, hazelnut, parts, tmp_path):
    data = {
        name: {"class_path": "Folder", "init_args": part} for name, part in (*parts.items(), ("hazelnut", hazelnut))
    }
    path = write_plan(
        tmp_path,
        data=data,
        methods={"BayesPFL": {"init_args": {"epochs": 1, "first_stage_epochs": 1, "num_samples": 1, "num_flows": 1}}},
        conventions={"own": [{"train": "washer", "test": ["gasket", "hazelnut"]}]},
    )
    assert interrupt(processes, path, tmp_path, kills=10, share=0.3) > 0


@pytest.mark.slow
def test_killed_ten_times_with_more_methods_and_seeds(processes, hazelnut, magnetic_tile, tmp_path):
    tiles = {"class_path": "Folder", "init_args": magnetic_tile()}
    path = write_plan(
        tmp_path,
        seeds=[0, 1],
        data={"tiles": tiles, "hazelnut": {"class_path": "Folder", "init_args": hazelnut}},
        methods={
            "BayesPFL": {
                "init_args": {"epochs": 2, "first_stage_epochs": 1, "num_samples": 2},
                "rules": ["deployable", "official"],
            },
            "PromptMoE": {"init_args": {"epochs": 1, "warmup_epochs": 0}},
        },
        conventions={"A": [{"train": "tiles"}], "B": [{"train": "hazelnut"}]},
    )
    assert interrupt(processes, path, tmp_path, kills=10, share=0.1) >= 5
