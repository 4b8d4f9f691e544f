# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""kill -9 at random moments of ``anomalib-zsad detect``, and the same command again: the same files, byte for byte."""

import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomalib_zsad.deploy.journal import Journal
from tests.deploy.conftest import FACTS, save_graph

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_graph(tmp_path_factory.mktemp("graph") / "model.xml", FACTS)


def take_photos(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(5)
    for number in range(count):
        place = folder / f"line {number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(coarse).resize((400, 300)).save(place / f"{number:03}.jpg", quality=90)
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no photograph")
    (folder / ("long " + "n" * 246 + ".png")).write_bytes((folder / "line 0" / "000.jpg").read_bytes())
    return folder


def detect(model: Path, photos: Path, report: Path, kill_after: float | None = None) -> float | None:
    """Run the command; returns the seconds that it took, or ``None`` if it was killed."""
    command = [sys.executable, "-m", "anomalib_zsad.cli", "detect", str(photos), "--model", str(model)]
    start = time.monotonic()
    running = subprocess.Popen(
        [*command, "--report", str(report)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _, errors = running.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        running.kill()
        running.communicate()
        return None
    assert running.returncode == 3, errors.decode()
    return time.monotonic() - start


def contents(report: Path) -> dict[str, bytes]:
    """Every file of a report; only the moment at which it was made may differ."""
    files = {path.relative_to(report).as_posix(): path for path in report.rglob("*") if path.is_file()}
    found = {name: path.read_bytes() for name, path in files.items() if not name.endswith(".partial")}
    if "report.html" in found:
        found["report.html"] = re.sub(rb'"made": "[^"]*"', b"", found["report.html"])
    return found


def interrupt(model: Path, photos: Path, root: Path, kills: int) -> list[int]:
    """Kill ``kills`` times at random moments, beginning anew whenever a run comes to its end before the kill.

    Returns:
        list[int]: At each kill, the number of images that were done.
    """
    seconds = detect(model, photos, root / "calm")
    assert seconds is not None
    wanted = contents(root / "calm")
    moments, seen = random.Random(11), []
    while True:
        report, left = root / "killed", kills - len(seen)
        if detect(model, photos, report, moments.uniform(0.3 * seconds, seconds) if left else None) is not None:
            assert contents(report) == wanted
            if not left:
                return seen
            shutil.rmtree(report)
            continue
        found = contents(report) if report.exists() else {}
        for name in found.keys() - {"results.jsonl", "gallery.jsonl"}:
            assert found[name] == wanted[name], name  # what has its name is whole
        journal = report / "results.jsonl"
        seen.append(0)
        if journal.exists():
            shutil.copyfile(journal, root / "seen.jsonl")
            with Journal(root / "seen.jsonl") as records:
                seen[-1] = sum(f"line {number % 3}/{number:03}.jpg" in records for number in range(1000))


def test_killed_three_times_the_report_is_the_same(model: Path, tmp_path: Path) -> None:
    interrupt(model, take_photos(tmp_path / "photos", 30), tmp_path, kills=3)


@pytest.mark.slow
def test_killed_twenty_times_the_report_is_the_same(model: Path, tmp_path: Path) -> None:
    seen = interrupt(model, take_photos(tmp_path / "photos", 150), tmp_path, kills=20)
    assert max(seen) > 0
    print("images done at each kill:", seen)


def test_another_model_leaves_nothing_of_the_one_before(model: Path, tmp_path: Path) -> None:
    """Killed at once, so that tables of the first model would stand beside results of the second."""
    photos, report = take_photos(tmp_path / "photos", 3), tmp_path / "report"
    detect(model, photos, report)
    other = save_graph(tmp_path / "other.xml", {**FACTS, "thresholds": {"image": 0.1, "pixel": 0.5}})
    from anomalib_zsad.deploy.inspection import _start_over_if_changed, fingerprint

    _start_over_if_changed(report, {"model": fingerprint(other)})
    assert {path.name for path in report.iterdir()} == {"run.json", ".anomalib-zsad.lock"}
