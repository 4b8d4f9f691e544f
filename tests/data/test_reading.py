# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Images as they come from cameras and folders."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from anomalib.data import Folder, ImageBatch, ImageItem, PredictDataset
from anomalib.pipelines.tiled_ensemble.components.utils.ensemble_tiling import EnsembleTiler, TileCollater
from PIL import Image
from torch.utils.data import DataLoader

from anomalib_zsad.data import ZeroShotDataset
from anomalib_zsad.data.datasets import parts_of
from anomalib_zsad.data.reading import DeepImages
from anomalib_zsad.pictures import read


def dataset_of(arguments):
    datamodule = Folder(**arguments)
    datamodule._setup()
    return ZeroShotDataset([
        part for data in (datamodule.train_data, datamodule.test_data) for part in parts_of(data, "f", "f", "f")
    ])


def one_image(folder, image, suffix="png"):
    arguments = folder(normal=1, abnormal=0)
    path = f"{arguments['root']}/normal/0.png"
    image.save(path, format={"png": "PNG", "tif": "TIFF"}[suffix])
    return dataset_of(arguments)


GREY = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)


def test_grey(folder):
    item = one_image(folder, Image.fromarray(GREY))[0]
    assert torch.allclose(item.image, torch.from_numpy(GREY / 255).float().expand(3, -1, -1))


def test_one_bit(folder):
    item = one_image(folder, Image.fromarray(GREY > 100))[0]
    assert torch.equal(item.image, torch.from_numpy(GREY > 100).float().expand(3, -1, -1))


def test_palette(folder):
    colours = np.stack([GREY, GREY // 2, 255 - GREY], -1)
    image = Image.fromarray(colours).convert("P", palette=Image.Palette.ADAPTIVE, colors=12)
    assert image.mode == "P"
    item = one_image(folder, image)[0]
    assert torch.allclose(item.image, torch.from_numpy(colours / 255).float().permute(2, 0, 1))


def test_alpha_is_dropped_not_blended(folder):
    pixels = np.stack([GREY, GREY, GREY, np.zeros_like(GREY)], -1)
    item = one_image(folder, Image.fromarray(pixels, "RGBA"))[0]
    assert torch.allclose(item.image, torch.from_numpy(GREY / 255).float().expand(3, -1, -1))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_as_the_detector_scales_them(folder, suffix):
    deep = GREY.astype(np.uint16) * 256 + 7
    item = one_image(folder, Image.fromarray(deep), suffix)[0]
    assert torch.allclose(item.image, torch.from_numpy(deep / 65535).float().expand(3, -1, -1))
    assert torch.equal(item.image, torch.from_numpy(read(item.image_path).pixels))


@pytest.mark.parametrize("pixels", [GREY.astype(np.int32) * 256, GREY.astype(np.float32) / 256])
def test_images_that_do_not_say_what_white_is_are_refused(folder, pixels):
    with pytest.raises(OSError, match=r"Cannot read image .*normal/0\.png: 32 bits .* convert it to 8 or 16 bits"):
        one_image(folder, Image.fromarray(pixels), "tif")[0]


def again(loader):
    """The first batch of a loader before and after what is done about it in a test."""
    before, after = next(iter(loader)), next(iter(loader))
    DeepImages().on_test_batch_start(SimpleNamespace(test_dataloaders=loader), None, after, 0)
    return before.image, after.image


DEEP = np.arange(0, 60000, 1000, dtype=np.uint16).reshape(6, 10)


def test_the_tiled_ensemble_gets_a_tile_of_the_image_read_again(folder):
    arguments = folder(normal=1, abnormal=0)
    Image.fromarray(DEEP).save(f"{arguments['root']}/normal/0.png")
    datamodule = Folder(**arguments)
    datamodule._setup()
    tiler = EnsembleTiler(tile_size=(6, 5), stride=(6, 5), image_size=(6, 10))
    collate = TileCollater(tiler, (0, 1), default_collate_fn=ImageBatch.collate)
    dataset = datamodule.train_data
    dataset.samples.attrs["task"] = "segmentation"  # a batch of tiles needs masks
    cut, image = again(DataLoader(dataset, collate_fn=collate))
    assert cut.min() == 1
    assert torch.allclose(image, torch.from_numpy(DEEP[:, 5:] / 65535).float().expand(1, 3, -1, -1))


def test_a_reader_of_ones_own_keeps_its_images(tmp_path):
    class Halved(PredictDataset):
        def __getitem__(self, index):
            path = self.image_filenames[index]
            return ImageItem(image=torch.from_numpy(read(path).pixels) / 2, image_path=str(path))

    Image.fromarray(DEEP).save(tmp_path / "0.png")
    for own in (True, False):
        dataset = (Halved if own else PredictDataset)(tmp_path)
        before, after = again(DataLoader(dataset, collate_fn=dataset.collate_fn))
        assert torch.equal(before, after) == own


def test_anomalibs_data_sets_do_not_guess_what_white_is(tmp_path):
    Image.fromarray(DEEP.astype(np.int32)).save(tmp_path / "0.tif")
    dataset = PredictDataset(tmp_path)
    with pytest.raises(OSError, match=r"Cannot read image .*0\.tif: 32 bits .* convert it to 8 or 16 bits"):
        again(DataLoader(dataset, collate_fn=dataset.collate_fn))


def test_a_mask_of_any_depth_is_a_mask(folder, tmp_path):
    arguments = folder()
    path = tmp_path / "parts" / "masks" / "scratch" / "1.png"
    with Image.open(path) as image:
        marked = np.asarray(image) > 0
    Image.fromarray(marked.astype(np.uint16) * 9).save(path)
    dataset = dataset_of(arguments)
    number = next(i for i, path in enumerate(dataset.samples.mask_path) if path.endswith("scratch/1.png"))
    assert torch.equal(dataset[number].gt_mask.bool(), torch.from_numpy(marked))


def truncate(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("role", "file", "workers"),
    [
        ("image", "normal/2.png", 0),
        ("image", "abnormal/scratch/1.png", 0),
        ("mask", "masks/scratch/1.png", 0),
        ("image", "normal/2.png", 1),
    ],
)
def test_truncated_file_is_named(folder, tmp_path, role, file, workers):
    arguments = folder()
    truncate(tmp_path / "parts" / file)
    dataset = dataset_of(arguments)
    loader = DataLoader(dataset, batch_size=4, num_workers=workers, collate_fn=dataset.collate_fn)
    with pytest.raises(OSError, match=f"Cannot read {role} .*{file}.*Replace or remove"):
        list(loader)


def test_file_that_is_no_image(folder, tmp_path):
    arguments = folder()
    (tmp_path / "parts" / "normal" / "0.png").write_text("hello")
    with pytest.raises(OSError, match=r"Cannot read image .*normal/0\.png: not an image"):
        dataset_of(arguments)[0]


def test_mask_of_another_size(folder, tmp_path, paint):
    arguments = folder()
    paint(tmp_path / "parts" / "masks" / "scratch" / "1.png", size=(20, 24), mark=True)
    dataset = dataset_of(arguments)
    number = next(i for i, path in enumerate(dataset.samples.mask_path) if path.endswith("scratch/1.png"))
    with pytest.raises(
        ValueError, match=r"Mask .*masks/scratch/1\.png is 20 x 24 pixels, but its image .*scratch/1\.png is 24 x 20\."
    ):
        dataset[number]


def test_real_mixed_modes(real):
    """BrainMRI: L, RGB, RGBA and P files, extensions in both cases."""
    dataset = dataset_of({"name": "brain", "root": real / "brain_mri", "normal_dir": "no", "abnormal_dir": "yes"})
    assert dataset.samples.label_index.value_counts().to_dict() == {0: 98, 1: 155}
    modes = {}
    for number, path in enumerate(dataset.samples.image_path):
        with Image.open(path) as image:
            modes.setdefault(image.mode, number)
    assert len(modes) > 2
    for number in modes.values():
        image = dataset[number].image
        assert (image.shape[0], image.dtype) == (3, torch.float32)
        assert 0 <= image.min() < image.max() <= 1
