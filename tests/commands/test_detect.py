# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F811 - fixtures

"""``anomalib-zsad detect`` from end to end, and its report in a browser."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from anomalib_zsad.cli import main
from tests.deploy.conftest import FACTS, browser, graph, photos, save_graph  # noqa: F401

GOOD = ["<b>&'\".png", "a.jpg", "a.png", "good.bmp", "line 2/GOOD.JPG", "line 2/half.tif"]
BAD = ["empty.png", "text.jpg"]


def detect(photos: Path, graph: Path, report: Path, *options: str) -> int:
    return main(["detect", str(photos), "--model", str(graph), "--report", str(report), *options])


def lines(report: Path) -> dict[str, dict]:
    records = [json.loads(line) for line in (report / "results.jsonl").read_text().splitlines()]
    assert len({record["image"] for record in records}) == len(records)
    return {record["image"]: record for record in records}


def test_writes_lines_table_overlays_and_report(photos: Path, graph: Path, tmp_path: Path, capsys) -> None:
    report = tmp_path / "report"
    assert detect(photos, graph, report) == 3
    records = lines(report)
    assert list(records) == sorted([*GOOD, *BAD], key=lambda name: name.split("/"))
    assert {name for name, record in records.items() if record["verdict"] == "unreadable"} == {*BAD}
    assert records["a.png"]["verdict"] == "anomalous"
    assert records["good.bmp"]["verdict"] == "normal"
    (region,) = records["a.png"]["regions"]
    assert region["type"] == "red"
    with (report / "results.csv").open(newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert list(rows) == list(records)
    assert [int(rows["a.png"][name]) for name in ("left", "top", "right", "bottom")] == region["box"]
    assert (rows["a.png"]["type"], rows["empty.png"]["note"]) == ("red", "the file is empty")
    overlays = {path.relative_to(report / "overlays").as_posix() for path in (report / "overlays").rglob("*.jpg")}
    assert overlays == {f"{name}.jpg" for name in GOOD}
    assert Image.open(report / "overlays" / "a.png.jpg").size == (384, 192)
    text = (report / "report.html").read_text()
    assert "<b>&'" not in text.partition("application/json")[2]
    assert "8 images: 3 anomalous, 3 normal, 2 unreadable" in capsys.readouterr().out


def test_goes_on_after_an_interruption_and_redoes_what_changed(photos: Path, graph: Path, tmp_path: Path) -> None:
    report, whole = tmp_path / "report", tmp_path / "whole"
    detect(photos, graph, whole)
    detect(photos, graph, report)
    kept = report / "overlays" / "a.png.jpg"
    before = kept.stat().st_mtime_ns
    journal = report / "results.jsonl"
    content = journal.read_bytes()
    journal.write_bytes(content[: content.index(b'"good.bmp"') + 20])  # torn in the middle of a line
    (report / "results.csv").unlink()
    detect(photos, graph, report)
    assert lines(report) == lines(whole)
    assert (report / "results.csv").read_bytes() == (whole / "results.csv").read_bytes()
    assert kept.stat().st_mtime_ns == before

    Image.new("RGB", (64, 64), (255, 255, 255)).save(photos / "good.bmp")
    (photos / "empty.png").unlink()
    detect(photos, graph, report)
    assert lines(report)["good.bmp"]["verdict"] == "anomalous"
    assert "empty.png" not in lines(report)
    assert kept.stat().st_mtime_ns == before

    detect(photos, graph, report, "--threshold", "0.9999")
    assert kept.stat().st_mtime_ns > before
    assert lines(report)["a.png"]["verdict"] == "normal"


def test_a_kill_at_any_moment_loses_nothing(photos: Path, graph: Path, tmp_path: Path) -> None:
    for number in range(40):
        Image.new("RGB", (400, 300), (number * 6, 0, 0)).save(photos / f"more {number}.png")
    report = tmp_path / "report"
    command = [sys.executable, "-m", "anomalib_zsad.cli", "detect", str(photos), "--model", str(graph), "--report"]
    running = subprocess.Popen([*command, str(report)], stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
    journal = report / "results.jsonl"
    while running.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") >= 5):
        time.sleep(0.005)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert not (report / "report.html").exists()
    done = journal.read_bytes().count(b"\n")
    stamps = {path: path.stat().st_mtime_ns for path in (report / "overlays").rglob("*.jpg")}
    detect(photos, graph, report)
    assert len(lines(report)) == 48
    redone = sum(path.stat().st_mtime_ns != stamp for path, stamp in stamps.items())
    assert redone <= len(stamps) - (done - len(BAD))


@pytest.mark.parametrize(
    ("names", "fail_on", "status"),
    [
        (["a.png", "empty.png"], ["anomalous"], 3),
        (["a.png", "empty.png"], ["unreadable"], 4),
        (["a.png", "empty.png"], ["anomalous", "unreadable"], 3),
        (["good.bmp", "empty.png"], ["anomalous", "unreadable"], 4),
        (["good.bmp", "empty.png"], ["anomalous"], 0),
        (["a.png", "empty.png"], ["never"], 0),
        (["empty.png"], ["anomalous"], 4),
        (["empty.png"], ["never"], 0),
    ],
)
def test_the_exit_status_says_what_was_found(names, fail_on, status, photos: Path, graph: Path, capsys) -> None:
    for path in photos.rglob("*.*"):
        if path.name not in names:
            path.unlink()
    assert main(["detect", str(photos), "--model", str(graph), "--fail-on", *fail_on]) == status
    printed = capsys.readouterr().out
    assert ("0.9804\tanomalous\ta.png\tred 0.98" in printed) == ("a.png" in names)
    assert "-\tunreadable\tempty.png\tthe file is empty" in printed


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
@pytest.mark.parametrize("report", [False, True])
def test_ctrl_c_is_told_and_no_traceback(report: bool, photos: Path, graph: Path, tmp_path: Path) -> None:
    for number in range(3000):
        os.link(photos / "good.bmp", photos / f"{number}.bmp")
    command = [sys.executable, "-m", "anomalib_zsad.cli", "detect", str(photos), "--model", str(graph)]
    command += ["--report", str(tmp_path / "report")] if report else []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as running:
        (running.stderr if report else running.stdout).readline()  # it is in the middle of the images
        running.send_signal(signal.SIGINT)
        _, told = running.communicate()
    assert running.returncode in {130, -signal.SIGINT}  # Python may end by the signal, which is 130 in shells
    assert told.endswith(
        "\nInterrupted. The same command goes on where this one stopped.\n" if report else "\nInterrupted.\n"
    )
    assert "Traceback" not in told


@pytest.mark.parametrize("most", [0, 2])
def test_the_report_shows_the_images_of_the_highest_scores_only(most: int, photos: Path, graph: Path, tmp_path) -> None:
    report = tmp_path / "report"
    assert detect(photos, graph, report, "--gallery", str(most)) == 3
    records = lines(report)
    assert records.keys() == {*GOOD, *BAD}
    ranked = sorted(GOOD, key=lambda name: -records[name]["score"])
    content = (report / "report.html").read_text().partition('id="data">')[2].partition("</script>")[0]
    assert [shown["image"] for shown in json.loads(content)["images"]] == ranked[:most]


def test_wrong_arguments_are_told(photos: Path, graph: Path, tmp_path: Path, capsys) -> None:
    assert detect(tmp_path / "none", graph, tmp_path / "report") == 1
    assert "none does not exist" in capsys.readouterr().err
    (tmp_path / "bare").mkdir()
    assert detect(tmp_path / "bare", graph, tmp_path / "report") == 1
    assert "has no images" in capsys.readouterr().err
    assert detect(photos, graph, photos) == 1
    assert "another folder" in capsys.readouterr().err
    assert detect(photos, graph, photos / "a.png" / "report") == 1
    assert detect(photos, graph, tmp_path / "report", "--gallery", "-1") == 1
    assert "--gallery must be 0" in capsys.readouterr().err
    assert detect(photos, tmp_path / "none.xml", tmp_path / "report") == 1


def test_a_report_among_the_photographs_is_not_searched(photos: Path, graph: Path) -> None:
    report = photos / "report"
    for _ in range(2):
        detect(photos, graph, report)
        assert len(lines(report)) == 8


def test_photographs_are_not_buried_in_a_report(photos: Path, graph: Path, capsys) -> None:
    assert detect(photos / "line 2", graph, photos) == 1
    assert "has 6 images" in capsys.readouterr().err
    assert not (photos / "run.json").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes of this kind")
def test_a_reader_that_has_seen_enough_is_no_failure(photos: Path, graph: Path) -> None:
    for number in range(300):
        os.link(photos / "good.bmp", photos / f"{number}.bmp")
    command = [sys.executable, "-m", "anomalib_zsad.cli", "detect", str(photos), "--model", str(graph)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as run:
        run.stdout.readline()
        run.stdout.close()
        assert run.stderr.read() == b""
    assert run.returncode == 141  # as of a process that the system ends then


# ---- the report in a browser ---------------------------------------------------------------------------------------

STATE = """({
  cards: [...document.querySelectorAll('.card')].map((card) => ({
    name: card.querySelector('.name').textContent, verdict: card.querySelector('.verdict span').textContent})),
  counts: ['all', 'anomalous', 'normal', 'unreadable'].map((name) => document.getElementById('n-' + name).textContent),
  hash: location.hash,
})"""
PAINTED = """new Promise((go) => setTimeout(() => go([...document.querySelectorAll('.card')].map((card) => {
  const canvas = card.querySelector('canvas');
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let sum = 0;
  for (let i = 3; i < pixels.length; i += 4) sum += pixels[i] > 0;
  return [card.querySelector('.name').textContent, sum / pixels.length * 4, card.querySelector('img').naturalWidth];
})), 1500))"""


def click(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)}).click(); 1"


def slide(value: float) -> str:
    return f"t = document.getElementById('threshold'); t.value = {value}; t.dispatchEvent(new Event('input')); 1"


def names(state: dict) -> list[str]:
    return [card["name"] for card in state["cards"]]


def test_the_report_opens_from_disk_and_answers(photos: Path, graph: Path, tmp_path: Path, browser) -> None:
    report = tmp_path / "report"
    detect(photos, graph, report)
    page = (report / "report.html").as_uri()
    browser.open(page)
    state = browser.run(STATE)
    scores = {name: record["score"] for name, record in lines(report).items() if name in GOOD}
    assert names(state) == sorted(GOOD, key=lambda name: -scores[name])
    anomalous = {name for name in GOOD if scores[name] > 0.5}
    assert {card["name"] for card in state["cards"] if card["verdict"] == "anomalous"} == anomalous
    assert state["counts"] == ["8", str(len(anomalous)), str(6 - len(anomalous)), "2"]
    assert "the file is empty" in browser.run("document.getElementById('unreadable').innerText")

    painted = {name: (share, width) for name, share, width in browser.run(PAINTED)}
    assert all(width > 0 for _, width in painted.values())
    assert painted["line 2/half.tif"][0] > 0.4  # the painted half is hot
    assert painted["good.bmp"][0] == 0
    browser.run(click("#view [data-value=mask]"))
    assert browser.run("getComputedStyle(document.querySelector('.view i')).display") != "none"

    browser.run(slide(0.9))
    moved = browser.run(STATE)
    assert {card["name"] for card in moved["cards"] if card["verdict"] == "anomalous"} == {
        name for name in GOOD if scores[name] > 0.9
    }
    browser.run(click("#show [data-value=anomalous]"))
    assert {*names(browser.run(STATE))} == {name for name in GOOD if scores[name] > 0.9}
    browser.run(click("#reset"))
    browser.run(click("#type [data-value=blue]"))
    assert names(browser.run(STATE)) == ["a.jpg"]
    browser.run(click("#type [data-value=blue]"))
    browser.run(click("#show [data-value=all]"))
    browser.run("s = document.getElementById('sort'); s.value = 'name'; s.dispatchEvent(new Event('change')); 1")
    sorted_by_name = browser.run(STATE)
    assert names(sorted_by_name)[1:] == ["a.jpg", "a.png", "good.bmp", "line 2/GOOD.JPG", "line 2/half.tif"]
    browser.run("f = document.getElementById('find'); f.value = 'LINE'; f.dispatchEvent(new Event('input')); 1")
    assert len(names(browser.run(STATE))) == 2

    address = page + browser.run("location.hash")
    browser.open(address)  # a bookmark finds the same view
    assert names(browser.run(STATE)) == ["line 2/GOOD.JPG", "line 2/half.tif"]
    browser.run(click(".card"))
    assert "GOOD.JPG" in browser.run("document.querySelector('dialog[open] aside').innerText")

    requests = [
        event["params"]["request"]["url"] for event in browser.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in requests if not url.startswith(("data:", "file:", "about:"))] == []
    faults = [event for event in browser.events if event["method"] in {"Runtime.exceptionThrown", "Log.entryAdded"}]
    assert faults == []


def test_kinds_that_are_called_by_numbers_are_ordered_by_their_scores(photos: Path, tmp_path: Path, browser) -> None:
    facts, report = {**FACTS, "defect_types": ["30", "20", "10"]}, tmp_path / "report"
    detect(photos, save_graph(tmp_path / "numbers.xml", facts), report)
    browser.open((report / "report.html").as_uri())
    shown = browser.run(
        "Object.fromEntries([...document.querySelectorAll('.card')].map((card) => "
        "[card.querySelector('.name').textContent, card.querySelector('.kind')?.textContent]))"
    )
    likeliest = {name: next(iter(record["types"])) for name, record in lines(report).items() if name in GOOD}
    assert len({*likeliest.values()}) > 1
    assert shown == likeliest


def test_names_are_text_and_not_markup(photos: Path, tmp_path: Path, browser) -> None:
    evil = "</script><img src=x onerror=\"document.title='hit'\">.png"
    Image.new("RGB", (30, 30)).save(photos / evil.replace("/", "\u2215"))
    facts = {**FACTS, "defect_types": ["</script><b>red", "green", "blue"], "trained_on": "<i>x</i>"}
    report = tmp_path / "report"
    detect(photos, save_graph(tmp_path / "evil.xml", facts), report)
    browser.open((report / "report.html").as_uri())
    assert len(browser.run(STATE)["cards"]) == 7
    assert browser.run("document.title") == "Inspection report"
    assert (
        browser.run("document.querySelectorAll('main b:not(.bar b), i:not(.view i), img:not(.view img)').length") == 0
    )
