# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""A journal that was interrupted anywhere."""

import json
from pathlib import Path

import pytest

from anomalib_zsad.deploy.journal import Journal


def test_every_place_of_interruption_leaves_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with Journal(path) as journal:
        for number in range(3):
            journal.append({"image": f"{number}.png", "score": number / 7})
    content = path.read_bytes()
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        with Journal(path) as journal:
            whole = content[:cut].count(b"\n")
            assert [f"{number}.png" in journal for number in range(3)] == [number < whole for number in range(3)]
            journal.append({"image": "new.png", "score": 1})
            assert journal["new.png"] == {"image": "new.png", "score": 1}
        lines = path.read_text().splitlines()
        assert [json.loads(line)["image"] for line in lines] == [*(f"{n}.png" for n in range(whole)), "new.png"]


def test_the_last_record_counts_and_compacting_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"image": "a"}\nrubbish\n{"other": 1}\n[]\n')
    with Journal(path) as journal:
        for score in range(3):
            journal.append({"image": "a", "score": score})
            journal.append({"image": "ü\udc80", "score": score})
        journal.compact(["ü\udc80", "a"])
        assert journal["a"]["score"] == 2
        journal.append({"image": "b"})
        assert "b" in journal
    assert [json.loads(line).get("score") for line in path.read_text().splitlines()] == [2, 2, None]
    with Journal(path) as journal:
        journal.compact(["b"])
    assert json.loads(path.read_text()) == {"image": "b"}


def test_a_full_disk_is_told_and_what_was_written_stays(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # not on Windows
    path = tmp_path / "results.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(path) as journal:
        journal.append({"image": "a"})
        resource.setrlimit(resource.RLIMIT_FSIZE, (40, hard))
        try:
            with pytest.raises(OSError, match=r"No space left .* while writing .*results\.jsonl\. Nothing half"):
                journal.append({"image": "b" * 100})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with Journal(path) as journal:
        assert "a" in journal
        assert path.read_text() == '{"image": "a"}\n'
