# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The same file is the same image, or the same refusal, for the detector, in training and for anomalib."""

import math
import os
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.data import AnomalibDataset
from anomalib.data.utils import read_image
from pandas import DataFrame
from PIL import Image

from anomalib_zsad import Detector
from anomalib_zsad.data.reading import read_item
from anomalib_zsad.deploy import UnreadableImageError
from anomalib_zsad.deploy.folders import find_images
from anomalib_zsad.models.promptad.few_shot import images_in_folder
from anomalib_zsad.pictures import read
from anomalib_zsad.pretraining.picture_sets import real_sets
from tests.deploy.conftest import FACTS, save_graph
from tests.faults.pictures import COLOURS, DEEP, DEEP_GREY, READ, REFUSED, encoded, photo

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return Detector(save_graph(tmp_path_factory.mktemp("graph") / "model.xml", FACTS))


def dataset_of(path: Path) -> AnomalibDataset:
    """anomalib's own reader on one file, as training uses it."""
    dataset = AnomalibDataset()
    samples = DataFrame([{"image_path": str(path), "mask_path": "", "label_index": 0, "split": "train"}])
    samples.attrs["task"] = "classification"
    dataset._samples = samples  # the setter would look for the file
    return dataset


@pytest.mark.parametrize("name", READ)
def test_an_image_is_the_same_for_detector_training_and_anomalib(name: str, tmp_path: Path, detector: Detector) -> None:
    path = READ[name](tmp_path)
    picture, item = read(path), read_item(dataset_of(path), 0)
    theirs = read_image(path, as_tensor=True)
    np.testing.assert_allclose(picture.pixels, theirs.numpy(), rtol=0, atol=2**-23)  # they multiply by 1/255
    assert torch.equal(item.image, theirs)
    found = detector(path)
    assert found.size == picture.size == (theirs.shape[2], theirs.shape[1])
    assert 0 <= found.score <= 1


@pytest.mark.parametrize("name", DEEP_GREY)
def test_sixteen_bits_are_scaled_alike(name: str, tmp_path: Path, detector: Detector) -> None:
    path = DEEP_GREY[name](tmp_path)
    pixels = read(path).pixels
    np.testing.assert_allclose(pixels, np.repeat(DEEP[None] / 65535, 3, 0), rtol=0, atol=1e-6)
    assert torch.equal(read_item(dataset_of(path), 0).image, torch.from_numpy(pixels))
    shallow = Image.fromarray((DEEP / 257).round().astype(np.uint8))
    assert detector(path).score == pytest.approx(detector(shallow).score, abs=1 / 255)


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_no_image_is_refused_alike(name: str, tmp_path: Path, detector: Detector) -> None:
    make, reason = REFUSED[name]
    path = make(tmp_path)
    if path is None:
        pytest.skip("this user may read everything")
    with pytest.raises(UnreadableImageError, match=reason) as refusal:
        read(path)
    text = str(refusal.value)
    assert 8 < len(text) < 400
    assert str(tmp_path) not in text  # whoever lists it names the file
    with pytest.raises(OSError, match=r"Cannot read image .*Replace or remove the file\.") as in_training:
        read_item(dataset_of(path), 0)
    assert str(path) in str(in_training.value)
    (listed,) = detector.scan([path])
    assert (listed.path, listed.reason) == (path, text)


def test_sixty_kinds_and_more() -> None:
    assert len(READ) + len(DEEP_GREY) + len(REFUSED) >= 100
    assert len(REFUSED) >= 40


def test_postscript_is_not_handed_to_ghostscript(tmp_path: Path, monkeypatch) -> None:
    program, marker = tmp_path / "gs", tmp_path / "marker"
    program.write_text(f"#!/bin/sh\ntouch {marker}\necho 10.0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = REFUSED["postscript"][0](tmp_path)
    subprocess.run(["gs"], check=True, capture_output=True)
    assert marker.exists()  # so that it would be seen
    marker.unlink()
    for reader in (read, lambda one: read_item(dataset_of(one), 0)):
        with pytest.raises((UnreadableImageError, OSError), match="not an image"):
            reader(path)
    assert not marker.exists()


def test_evaluation_and_few_shots_read_by_the_same_rules(tmp_path: Path) -> None:
    """16 bits are scaled, damage is named, and 8 bits are what they are in anomalib."""
    folder = tmp_path / "set"
    folder.mkdir()
    plain, deep = READ["plain"](folder), DEEP_GREY["16 bit png"](folder)

    def first_of_a_set(path: Path) -> torch.Tensor:
        (folder / "index.csv").write_text(f"image,label,mask,split,type\n{path.name},0,,test,good\n")
        (pictures,) = real_sets(tmp_path, 20)
        (batch,) = pictures.batches()
        return batch.images[0]

    small = Image.open(plain).convert("RGB").resize((20, 20), Image.Resampling.BICUBIC)
    assert torch.equal(first_of_a_set(plain), torch.from_numpy(np.array(small)).permute(2, 0, 1) / 255)
    assert first_of_a_set(deep).mean() == pytest.approx(read(deep).pixels.mean(), abs=0.01)
    scaled, same = images_in_folder(folder, 2)  # deep.png, plain.png
    assert torch.equal(scaled, torch.from_numpy(read(deep).pixels))
    theirs = read_image(plain, as_tensor=True)
    torch.testing.assert_close(same, theirs, rtol=0, atol=2**-23)  # they multiply by 1/255

    damaged = REFUSED["cut png"][0](folder)
    for reader in (first_of_a_set, lambda _: images_in_folder(folder, 1)):
        with pytest.raises(OSError, match=r"Cannot read image .*cut\.png: .*[Tt]runcated.* Replace or remove the file"):
            reader(damaged)


@pytest.mark.parametrize("name", [name for name in REFUSED if "bomb" in name])
def test_bombs_do_not_unfold(name: str, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # not on Windows
    path = REFUSED[name][0](tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnreadableImageError):
        read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # kB


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (torch.full((3, 4, 4), math.nan), "nan"),
        (torch.full((3, 4, 4), math.inf), "inf"),
        (torch.full((3, 4, 4), -math.inf), "inf"),
        (torch.full((1, 4, 4), 1.5), "divide by their white"),
        (torch.full((3, 4, 4), -1e-3), "-0.001"),
        (torch.full((3, 4, 4), 0.5, dtype=torch.bfloat16) * math.nan, "nan"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "int64"),
        (torch.zeros(3, 4, 4, dtype=torch.int8), "int8"),
        (torch.zeros(3, 4, 4, dtype=torch.complex64), "complex64"),
        (torch.zeros(4, 4), r"\(4, 4\)"),
        (torch.zeros(5, 4, 3), r"\(C, H, W\)"),
        (torch.zeros(2, 4, 4), r"\(2, 4, 4\)"),
        (torch.zeros(3, 0, 4), "empty"),
        (torch.zeros(()), r"\(\)"),
        (np.full((4, 4, 3), np.nan, np.float16), "nan"),
        (np.zeros((4, 4, 3), np.uint32), "uint32"),
        (np.zeros((4, 4), complex), "complex128"),
        (np.zeros((4, 4), object), "object"),
        (np.zeros((4, 4), "U3"), "<U3"),
        (np.zeros((4, 4, 5), np.uint8), r"\(4, 4, 5\)"),
        (np.zeros((1, 1, 1, 1, 1)), r"\(1, 1, 1, 1, 1\)"),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")) + str(tuple(getattr(value, "shape", ()))),
)
def test_numbers_that_are_no_image(values, reason: str, detector: Detector) -> None:
    with pytest.raises(UnreadableImageError, match=reason):
        detector(values)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_opened_image_that_turns_out_damaged(kind: str, tmp_path: Path, detector: Detector) -> None:
    content = encoded(photo(), kind)
    path = tmp_path / "cut"
    path.write_bytes(content[: len(content) * 9 // 10])
    with Image.open(path) as image, pytest.raises(UnreadableImageError, match=r"(?i)truncated"):
        detector(image)


def test_forms_of_numbers_that_are_images(detector: Detector) -> None:
    wanted = detector(photo())
    tensor = torch.from_numpy(COLOURS).permute(2, 0, 1)
    deep = torch.from_numpy(COLOURS.astype(np.uint16) * 257).permute(2, 0, 1)
    backwards = np.ascontiguousarray(COLOURS[::-1])[::-1]
    for form in (tensor, tensor / 255, (tensor / 255).double().requires_grad_(), deep, COLOURS / 255, backwards):
        assert detector(form).score == pytest.approx(wanted.score, abs=1e-6)


def test_a_folder_of_everything(tmp_path: Path, detector: Detector) -> None:
    """All at once, in nested folders, twice, and with names that differ in case only."""
    wanted: dict[bool, int] = {True: 0, False: 0}
    makers = [(make, True) for make in (*READ.values(), *DEEP_GREY.values())]
    makers += [(make, False) for make, _ in REFUSED.values()]
    for number, (make, good) in enumerate(makers):
        place = tmp_path / "all" / f"{number % 3}" / f"{number}"
        place.mkdir(parents=True)
        made = make(place)
        if made is None:  # this user may read everything
            wanted[True] += 1
        elif made.suffix and os.path.lexists(made):  # found by its suffix
            # a folder is looked into and not taken for an image; a loop is two files
            wanted[good] += {"folder.png": 0, "loop.png": 2}.get(made.name, 1)
    for name in ("Same.png", "same.png", "SAME.PNG"):
        photo().save(tmp_path / "all" / name)
        wanted[True] += 1
    (tmp_path / "all" / "empty" / "deeper").mkdir(parents=True)
    (tmp_path / "all" / "round").symlink_to(tmp_path / "all")
    paths = list(find_images(tmp_path / "all"))
    assert len(paths) == len(set(paths))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = list(detector.scan(paths))
    good = [result for result in results if hasattr(result, "score")]
    assert (len(good), len(results) - len(good)) == (wanted[True], wanted[False])
