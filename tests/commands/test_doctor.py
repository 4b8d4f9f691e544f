# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""``anomalib-zsad doctor data``: what it prints, and its exit status."""

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from anomalib_zsad.cli import main


def kolektor(root, items=2):
    for number in range(items):
        folder = root / f"kos{number:02}"
        folder.mkdir(parents=True)
        Image.new("L", (20, 60), number).save(folder / "Part0.jpg")
        Image.new("L", (20, 60), 255 * (number == 1)).save(folder / "Part0_label.bmp")


def test_something_is_wrong(tmp_path, capsys):
    kolektor(tmp_path / "KolektorSDD")
    assert main(["doctor", "data", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "data", "set", "classes", "train", "good/bad", "published", "test", "good/bad", "published", "folder"
    ]  # fmt: skip
    assert lines[1].split() == ["Kolektor", "1", "-", "-", "1/1", "347/52", "WRONG", str(tmp_path / "KolektorSDD")]
    assert lines[-1] == "  wrong: test has 1/1 images (normal/anomalous), published are 347/52"


def test_a_terminal_without_the_letters_of_a_name(tmp_path):
    kolektor(tmp_path)
    for number in range(2):
        (tmp_path / f"kos{number:02}").rename(tmp_path / f"kos{number:02} Ω")
    (tmp_path / "kos01 Ω" / "Part0.jpg").write_bytes(b"no image")
    run = subprocess.run(
        [sys.executable, "-m", "anomalib_zsad.cli", "doctor", "data", str(tmp_path), "--as", "Kolektor"],
        capture_output=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
    )
    assert run.returncode == 1
    assert b"kos01 \\u03a9" in run.stdout, run.stderr.decode()


def test_nothing_is_wrong(real, capsys):
    assert main(["doctor", "data", str(real / "brain_mri")]) == 0
    assert "BrainMRI" in capsys.readouterr().out


def test_nothing_is_found(tmp_path, capsys):
    assert main(["doctor", "data", str(tmp_path)]) == 1
    assert "no known data set in" in capsys.readouterr().err
    assert main(["doctor", "data", str(tmp_path / "none")]) == 1
    assert "There is no folder" in capsys.readouterr().err


def test_saying_what_it_is(tmp_path, capsys):
    kolektor(tmp_path)
    assert main(["doctor", "data", str(tmp_path), "--as", "Kolektorr"]) == 1
    assert "There is no data set 'Kolektorr'; known are KSDD2" in capsys.readouterr().err
