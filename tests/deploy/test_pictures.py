# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Images of every kind, good and bad: each becomes the model's pixels or a clear reason."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomalib_zsad.deploy import Detector, UnreadableImageError
from anomalib_zsad.deploy.folders import find_images
from anomalib_zsad.pictures import read

RAMP = np.linspace(0, 255, 40 * 30).reshape(30, 40).astype(np.uint8)
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=-1)


def expect(values: np.ndarray) -> np.ndarray:
    """``(H, W, 3)`` in [0, 255] as the model gets it."""
    return values.astype(np.float64).transpose(2, 0, 1) / 255


def good_files(folder: Path) -> dict[str, tuple[Path, np.ndarray, str]]:
    """Files with what should come of them, and of what a note should speak."""
    image, grey = Image.fromarray(COLOURS), np.stack([RAMP] * 3, axis=-1)
    cmyk = image.convert("CMYK")
    deep = np.linspace(0, 65535, 40 * 30).reshape(30, 40).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    jpeg = {"quality": 100, "subsampling": 0}

    def made(name: str, picture: Image.Image, wanted: np.ndarray, note: str = "", **options) -> None:
        picture.save(folder / name, **options)
        files[name.partition(".")[0]] = (folder / name, wanted, note)

    files: dict[str, tuple[Path, np.ndarray, str]] = {}
    made("plain.png", image, COLOURS)
    made("wrong_suffix.bmp", image, COLOURS, format="PNG")
    made("one_pixel.png", Image.new("RGB", (1, 1), (10, 20, 30)), np.array([[[10, 20, 30]]]))
    made("long.png", Image.new("L", (30_000, 20), 51), np.full((20, 30_000, 3), 51))
    made("grey.png", Image.fromarray(RAMP), grey)
    made("bits.png", Image.fromarray(RAMP > 99), np.repeat((RAMP > 99)[..., None] * 255, 3, 2))
    made("alpha.png", Image.fromarray(np.dstack([COLOURS, RAMP])), COLOURS)
    made("palette.png", image.quantize(64), np.asarray(image.quantize(64).convert("RGB")))
    made("cmyk.tif", cmyk, np.asarray(cmyk.convert("RGB")))
    made("deep.png", Image.fromarray(deep), np.repeat(deep[..., None], 3, 2) / 257)
    made("deep_tiff.tif", Image.fromarray(deep), np.repeat(deep[..., None], 3, 2) / 257)
    made(
        "twelve_bits.png", Image.fromarray(deep // 32), np.repeat(deep[..., None] // 32, 3, 2) / 257, "brightest value"
    )
    turned = [image, Image.fromarray(COLOURS[::-1].copy())]
    first = np.asarray(image.quantize(64).convert("RGB"))
    made(
        "animated.gif",
        image.quantize(64),
        first,
        "first of 2 frames",
        save_all=True,
        append_images=[turned[1].quantize(64)],
    )
    made("exif.jpg", image, np.asarray(image), "90 degrees", exif=exif, **jpeg)
    return files


GOOD = [
    "plain", "wrong_suffix", "one_pixel", "long", "grey", "bits", "alpha", "palette", "cmyk", "deep", "deep_tiff",
    "twelve_bits", "animated", "exif",
]  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, np.ndarray, str]]:
    return good_files(tmp_path_factory.mktemp("good"))


@pytest.mark.parametrize("name", GOOD)
def test_reads(name: str, good) -> None:
    path, wanted, note = good[name]
    picture = read(path)
    assert picture.pixels.dtype == np.float32
    assert picture.size == (wanted.shape[1], wanted.shape[0])
    tolerance = 4 / 255 if path.suffix == ".jpg" else 1e-6  # JPEG is lossy
    np.testing.assert_allclose(picture.pixels, expect(wanted), rtol=0, atol=tolerance)
    assert note in picture.note
    assert bool(note) == bool(picture.note)


@pytest.mark.parametrize("name", ["one_pixel", "long", "deep"])
def test_detects_in_what_it_reads(name: str, good, graph: Path) -> None:
    path, wanted, _ = good[name]
    found = Detector(graph)(path)
    assert found.map.shape == (16, 16)
    assert found.score <= wanted.max() / 255 + 1e-6


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Files with what the reason must say."""
    whole = folder / "whole.png"
    Image.fromarray(COLOURS).save(whole)
    Image.fromarray(COLOURS).save(folder / "whole.jpg")
    files = {name: folder / f"{name}.png" for name in ("empty", "text", "missing", "folder", "loop", "pipe")}
    files["empty"].touch()
    files["text"].write_text("no image")
    files["folder"].mkdir()
    files["loop"].symlink_to(files["loop"])
    os.mkfifo(files["pipe"])
    for suffix in ("png", "jpg"):
        content = (folder / f"whole.{suffix}").read_bytes()
        files[f"cut_{suffix}"] = folder / f"cut.{suffix}"
        files[f"cut_{suffix}"].write_bytes(content[: len(content) * 2 // 3])
    broken = bytearray(whole.read_bytes())
    broken[60:90] = bytes(30)
    files["broken"] = folder / "broken.png"
    files["broken"].write_bytes(broken)
    files["float"] = folder / "float.tif"
    Image.fromarray(RAMP.astype(np.float32)).save(files["float"])
    files["bomb"] = folder / "bomb.pgm"
    files["bomb"].write_bytes(b"P5 60000 60000 255\n" + bytes(100))
    reasons = {
        "empty": "the file is empty", "text": "not an image", "missing": "No such file", "folder": "not a regular file",
        "loop": "symbolic links", "pipe": "not a regular file", "cut_png": "(?i)truncated",
        "cut_jpg": "(?i)truncated", "broken": ".", "float": "what white is",
        "bomb": r"^too large \(.*3600000000 pixels.*; cut it into tiles",
    }  # fmt: skip
    return {name: (path, reasons[name]) for name, path in files.items()}


BAD = ["empty", "text", "missing", "folder", "loop", "pipe", "cut_png", "cut_jpg", "broken", "float", "bomb"]


@pytest.mark.parametrize("name", BAD)
def test_refuses_with_a_reason(name: str, tmp_path: Path) -> None:
    path, reason = bad_files(tmp_path)[name]
    with pytest.raises(UnreadableImageError, match=reason) as error:
        read(path)
    assert str(tmp_path) not in str(error.value)
    assert len(str(error.value)) > 8


@pytest.mark.parametrize(
    "values",
    [
        COLOURS, COLOURS / 255, (COLOURS / 255).astype(np.float32), COLOURS.astype(np.uint16) * 257, RAMP,
        RAMP[..., None], np.dstack([COLOURS, RAMP]), RAMP > 99, Image.fromarray(COLOURS),
        Image.fromarray(COLOURS).convert("CMYK"),
    ],
    ids=["uint8", "float64", "float32", "uint16", "grey", "channel", "alpha", "bool", "pil", "pil-cmyk"],
)  # fmt: skip
def test_takes_arrays_and_images(values) -> None:
    if isinstance(values, Image.Image):
        wanted = np.asarray(values.convert("RGB"))
    else:
        array = np.atleast_3d(np.asarray(values))[..., :3]
        scale = {"u": 1, "f": 255, "b": 255}[array.dtype.kind] / (257 if array.dtype == np.uint16 else 1)
        wanted = np.broadcast_to(array * scale, (30, 40, 3))
    np.testing.assert_allclose(read(values).pixels, expect(np.asarray(wanted)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.full((4, 4, 3), np.nan), "nan"),
        (np.array([[0.5, np.nan]]), "nan"),
        (np.array([[0.5, np.inf]]), "inf"),
        (np.full((4, 4, 3), 200.0), "divide by their white"),
        (np.full((4, 4), -0.1), "-0.1"),
        (np.zeros((4, 4), np.int64), "int64"),
        (np.zeros((4, 4, 2)), r"\(4, 4, 2\)"),
        (np.zeros((3, 4, 5)), r"\(H, W, C\)"),
        (np.zeros((0, 4, 3)), "empty"),
        (np.zeros(3), r"\(3,\)"),
    ],
)
def test_refuses_arrays_that_are_no_images(values: np.ndarray, reason: str) -> None:
    with pytest.raises(UnreadableImageError, match=reason):
        read(values)


def test_arrays_are_red_green_blue() -> None:
    """As the page says of OpenCV's, which are the other way round."""
    wanted = read(Image.fromarray(COLOURS)).pixels
    opencv = np.ascontiguousarray(COLOURS[..., ::-1])
    np.testing.assert_array_equal(read(opencv[..., ::-1]).pixels, wanted)
    assert (read(opencv).pixels != wanted).any()


def test_refuses_what_is_no_image_at_all() -> None:
    with pytest.raises(TypeError, match="path, PIL image, numpy array or tensor, not int"):
        read(3)


def test_walks_a_folder_once_whatever_it_links_to(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("2.png", "10.JPG", "a/1.tiff", "a/b/x.webp", ".hidden.png", "a/list.csv", "out/y.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "a")
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path, leave_out=tmp_path / "out")]
    assert found == ["10.JPG", "2.png", "a/1.tiff", "a/b/x.webp", "self.png"]


def test_enters_folders_where_no_file_has_a_number(tmp_path: Path, monkeypatch) -> None:
    """As on network drives; links in a circle end all the same."""
    stat_of = os.stat

    def numberless(*arguments, **options) -> os.stat_result:
        status = stat_of(*arguments, **options)
        return os.stat_result((status[0], 0, *status[2:]))

    for folder in ("a/b", "c", "out"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "x.png").touch()
    (tmp_path / "a" / "circle").symlink_to(tmp_path)
    monkeypatch.setattr(os, "stat", numberless)
    assert (tmp_path / "a").stat().st_ino == (tmp_path / "c").stat().st_ino == 0
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path, leave_out=tmp_path / "out")]
    assert found == ["a/b/x.png", "c/x.png"]


def test_enters_folders_whose_run_json_is_another_s(tmp_path: Path) -> None:
    for number, content in enumerate((b"[" * 100_000, b"\xff", b"{}", b'{"anomalib_zsad_report": 1}')):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "run.json").write_bytes(content)
        (folder / "x.png").touch()
    assert [path.parent.name for path in find_images(tmp_path)] == ["0", "1", "2"]


def test_lists_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0)
    if os.access(locked, os.R_OK):
        pytest.skip("this user may read everything")
    assert list(find_images(tmp_path)) == [locked]
    locked.chmod(stat.S_IRWXU)
