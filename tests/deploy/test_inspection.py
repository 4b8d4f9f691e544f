# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Folders of reports: what is done again, what is left alone, who may write."""

import base64
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomalib_zsad.cli import main
from tests.deploy.conftest import FACTS, paint, save_graph

ROOT = Path(__file__).parents[2]


def detect(photos: Path, graph: Path, report: Path, *options: str) -> int:
    return main(["detect", str(photos), "--model", str(graph), "--report", str(report), "--fail-on", "never", *options])


def lines(report: Path) -> dict[str, dict]:
    records = [json.loads(line) for line in (report / "results.jsonl").read_text().splitlines()]
    return {record["image"]: record for record in records}


@pytest.fixture
def days(tmp_path: Path) -> list[Path]:
    """Two days' photographs, the first ones of which have name, size and time of change in common."""
    first, second = tmp_path / "day1", tmp_path / "day2"
    for folder, colour in ((first, (200, 0, 0)), (second, (20, 0, 0))):
        folder.mkdir()
        paint((32, 32), {(8, 8, 24, 24): colour}).save(folder / "0.bmp")
        os.utime(folder / "0.bmp", (1e9, 1e9))
    paint((32, 32)).save(first / "only then.bmp")
    return [first, second]


def test_other_photographs_of_the_same_names_are_looked_at(days, graph: Path, tmp_path: Path, caplog) -> None:
    report = tmp_path / "report"
    for number, photos in enumerate([*days, days[1] / ".." / "day1"]):
        caplog.clear()
        assert detect(photos, graph, report) == 0
        day = days[number % 2]
        records = lines(report)
        assert records["0.bmp"]["verdict"] == ("anomalous", "normal")[number % 2]
        assert set(records) == {path.name for path in day.iterdir()}
        assert {path.stem for path in (report / "overlays").iterdir()} == set(records)
        replaced = [record.getMessage() for record in caplog.records if "are replaced" in record.message]
        before = str(days[1 - number % 2].resolve())
        told = f"The results in {report} are replaced: photos was {before!r}, is {str(day.resolve())!r}."
        assert replaced == ([told] if number else [])
    kept = (report / "overlays" / "0.bmp.jpg").stat().st_mtime_ns
    detect(days[0], graph, report, "--device", "cpu")
    assert (report / "overlays" / "0.bmp.jpg").stat().st_mtime_ns == kept
    caplog.clear()
    detect(days[0], graph, report, "--threshold", "0.9")
    assert "are replaced: threshold was 0.5, is 0.9." in caplog.text
    assert (report / "overlays" / "0.bmp.jpg").stat().st_mtime_ns > kept


@pytest.mark.parametrize("name", ["results.jsonl", "gallery.jsonl", "results.csv", "report.html", "run.json"])
def test_files_of_others_are_left_alone(name: str, days, graph: Path, tmp_path: Path, capsys) -> None:
    report = tmp_path / "report"
    report.mkdir()
    (report / name).write_text("{}")
    assert detect(days[0], graph, report) == 1
    message = capsys.readouterr().err
    assert f"report has {name}, not made by this version of `anomalib-zsad detect`" in message
    assert "Choose an empty folder" in message
    assert {path.name: path.read_text() for path in report.iterdir()} == {name: "{}"}


def test_overlays_of_others_are_left_alone(days, graph: Path, tmp_path: Path, capsys) -> None:
    report = tmp_path / "report"
    (report / "overlays").mkdir(parents=True)
    (report / "notes.txt").write_text("no matter")
    assert detect(days[0], graph, report) == 1
    assert "report has overlays, not made" in capsys.readouterr().err
    (report / "overlays").rmdir()
    assert detect(days[0], graph, report) == 0
    assert (report / "notes.txt").read_text() == "no matter"


LOCK = """
import sys
from pathlib import Path
from anomalib_zsad.deploy.report_folder import locked

with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_one_run_at_a_time_writes_to_a_folder(days, graph: Path, tmp_path: Path, capsys) -> None:
    report = tmp_path / "report"
    assert detect(days[0], graph, report) == 0
    before = {path: path.read_bytes() for path in report.rglob("*") if path.is_file()}
    other = subprocess.Popen(
        [sys.executable, "-c", LOCK, str(report)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert other.stdout.readline() == "locked\n"
        for photos in days:
            assert detect(photos, graph, report) == 1
            assert f"another run is writing to {report}. Wait for its end" in capsys.readouterr().err
        assert {path: path.read_bytes() for path in report.rglob("*") if path.is_file()} == before
    finally:
        other.kill()
        other.communicate()
    assert detect(days[1], graph, report) == 0


@pytest.mark.parametrize("report", [False, True])
def test_a_terminal_without_the_letters_of_a_name(report: bool, graph: Path, tmp_path: Path) -> None:
    photos = tmp_path / "Ω"
    photos.mkdir()
    paint((32, 32), {(8, 8, 24, 24): (200, 0, 0)}).save(photos / "ü Ω.png")
    command = [sys.executable, "-m", "anomalib_zsad.cli", "detect", str(photos), "--model", str(graph)]
    command += ["--report", str(photos / "report")] if report else []
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    run = subprocess.run(command, capture_output=True, check=False, cwd=ROOT, env=environment)
    assert run.returncode == 3, run.stderr.decode()
    assert (rb"\u03a9" if report else b"\tanomalous\t\xfc \\u03a9.png\t") in run.stdout


QUIET = """
import socket, sys

def refuse(*_):
    raise AssertionError("a connection")

socket.getaddrinfo = socket.socket.connect = refuse
from anomalib_zsad.cli import main
assert main(sys.argv[1:]) == 3
import openvino
assert not sys.modules.get("openvino_telemetry")
"""


def test_detect_sends_nothing(days, graph: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    command = [sys.executable, "-c", QUIET, "detect", str(days[0]), "--model", str(graph)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert run.returncode == 0, run.stderr


def test_reports_below_the_photographs_are_not_searched(days, graph: Path, capsys) -> None:
    photos = days[0]
    for name in ("first", "second", "first"):
        assert detect(photos, graph, photos / name) == 0
        assert "2 images: 1 anomalous" in capsys.readouterr().out
    assert main(["detect", str(photos), "--model", str(graph)]) == 3
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert detect(photos / "first", graph, photos / "second") == 1
    assert "first is the folder of a report" in capsys.readouterr().err


def test_wrong_devices_precisions_and_words(days, graph: Path, tmp_path: Path, capsys) -> None:
    command = ["detect", str(days[0]), "--model", str(graph)]
    for options, reason in ((["--device", "GPU.7"], "Devices here: "), (["--precision", "f8"], "f32, bf16, f16")):
        assert main([*command, *options]) == 1
        assert reason in capsys.readouterr().err
    with pytest.raises(SystemExit) as wrong:
        main([*command, "--fail-on", "sometimes"])
    assert wrong.value.code == 2
    assert main(["detect", "--model", str(graph), "--fail-on", "never", "--", str(days[0])]) == 0
    assert main(["detect", "--fail-on", "never", "--model", str(graph), str(days[0])]) == 0


def test_the_report_numbers_more_kinds_than_a_byte_can(days, tmp_path: Path, request) -> None:
    words = [f"kind {number}" for number in range(300)]
    report = tmp_path / "report"
    detect(days[0], save_graph(tmp_path / "many.xml", FACTS | {"defect_types": words}, kinds=300), report)
    assert lines(report)["0.bmp"]["regions"][0]["type"] == "kind 297"
    records = [json.loads(line) for line in (report / "gallery.jsonl").read_text().splitlines()]
    kinds = next(record["kinds"] for record in records if record["image"] == "0.bmp")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(kinds.partition(",")[2])))).astype(int)
    assert set(np.unique(pixels[..., 0] + 256 * pixels[..., 1])) == {0, 298}
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        return
    browser = request.getfixturevalue("browser")
    browser.open((report / "report.html").as_uri())
    numbers = "pixels(data.images[0].kinds, false).then((all) => [...new Set(all)].sort((a, b) => a - b))"
    assert browser.run(numbers) == [0, 298]
