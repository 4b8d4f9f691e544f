# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

import pickle

import numpy as np
import pytest
import torch
from anomalib import TaskType
from anomalib.data import Folder
from anomalib.data.datasets.image import FolderDataset, MVTecADDataset, TabularDataset
from anomalib.data.datasets.video import AvenueDataset
from anomalib.data.utils import read_image, read_mask
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Resize

from anomalib_zsad.data import AuxiliaryBatch, AuxiliaryDataset, AuxiliaryItem, ZeroShotDataset, ZeroShotItem
from anomalib_zsad.data.datasets import parts_of


@pytest.fixture
def two_classes(mvtec):
    root = mvtec({"metal_nut": {"bent": 2, "bad": 1}, "cable": {"cut": 2}})
    return [
        part
        for category, word in (("metal_nut", "metal nut"), ("cable", "wire"))
        for part in parts_of(MVTecADDataset(root, category, split="test"), "MVTecAD", category, word)
    ]


def test_items_are_those_of_the_data_sets_with_words(two_classes):
    dataset = ZeroShotDataset(two_classes)

    assert len(dataset) == 4 + 3 + 4 + 2
    assert dataset.task == TaskType.SEGMENTATION
    assert (dataset.has_normal, dataset.has_anomalous) == (True, True)
    assert dataset.samples.groupby(["category", "class_name", "defect_type"]).size().to_dict() == {
        ("cable", "wire", ""): 4,
        ("cable", "wire", "cut"): 2,
        ("metal_nut", "metal nut", ""): 4,
        ("metal_nut", "metal nut", "anomaly"): 1,
        ("metal_nut", "metal nut", "bent"): 2,
    }
    for item, sample in zip((dataset[i] for i in range(len(dataset))), dataset.samples.itertuples(), strict=True):
        assert type(item) is ZeroShotItem
        assert torch.equal(item.image, read_image(sample.image_path, as_tensor=True))
        mask = read_mask(sample.mask_path, as_tensor=True) if sample.mask_path else torch.zeros(20, 24)
        assert torch.equal(item.gt_mask.to(torch.uint8), mask.to(torch.uint8))
        assert (item.gt_label.item(), item.has_mask, bool(item.gt_mask.any())) == (
            sample.label_index, True, bool(sample.label_index)
        )  # fmt: skip
        assert sample.category in sample.image_path
        assert (item.image_path, item.category, item.class_name, item.defect_type) == (
            sample.image_path, sample.category, sample.class_name, sample.defect_type
        )  # fmt: skip


def test_augmentations_apply_to_image_and_mask(two_classes):
    dataset = ZeroShotDataset(two_classes, augmentations=Resize((10, 12), antialias=True))
    anomalous = int(np.flatnonzero(dataset.samples.label_index)[0])
    item = dataset[anomalous]
    assert (item.image.shape, item.gt_mask.shape) == ((3, 10, 12), (10, 12))
    assert item.gt_mask.any()
    dataset.augmentations = None
    assert dataset[anomalous].image.shape == (3, 20, 24)


def test_subsample_shares_and_keeps_the_original(two_classes):
    dataset = AuxiliaryDataset(two_classes)
    subset = dataset.subsample([12, 0])
    assert type(subset) is AuxiliaryDataset
    assert (len(subset), len(dataset)) == (2, 13)
    assert [subset[i].image_path for i in (0, 1)] == [dataset[i].image_path for i in (12, 0)]
    assert subset.parts is dataset.parts
    with pytest.raises(ValueError, match="duplicates"):
        dataset.subsample([1, 1])


def test_workers_read_the_same_items(two_classes):
    dataset = pickle.loads(pickle.dumps(AuxiliaryDataset(two_classes)))
    here, there = (
        list(DataLoader(dataset, batch_size=5, num_workers=workers, collate_fn=dataset.collate_fn))
        for workers in (0, 2)
    )
    for a, b in zip(here, there, strict=True):
        assert type(a) is type(b) is AuxiliaryBatch
        assert a.image_path == b.image_path
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.gt_mask, b.gt_mask)


def test_the_users_data_set_is_not_changed(mvtec):
    original = MVTecADDataset(mvtec({"cable": {"cut": 2}}), "cable", split="test", augmentations=Resize((8, 8)))
    dataset = ZeroShotDataset(parts_of(original, "MVTecAD", "cable", "cable"))
    assert dataset[0].image.shape == (3, 20, 24)
    assert original[0].image.shape == (3, 8, 8)


class InvertedDataset(MVTecADDataset):
    """Stands for data sets with a reader of their own, such as MVTec LOCO's."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        return item.update(image=1 - item.image)


def test_custom_reader_survives(mvtec):
    dataset = ZeroShotDataset(
        parts_of(InvertedDataset(mvtec({"cable": {"cut": 1}}), "cable", split="test"), "X", "x", "x")
    )
    assert torch.equal(dataset[2].image, 1 - read_image(dataset.samples.image_path[2], as_tensor=True))


def test_masks_of_some_images_only(folder):
    """anomalib reads a mask for every anomalous image of a data set that has any."""
    root = folder(normal=2, abnormal=3)["root"]
    rows = [{"image_path": f"{root}/normal/{i}.png", "label_index": 0, "split": "test"} for i in range(2)]
    rows += [{"image_path": f"{root}/abnormal/scratch/{i}.png", "label_index": 1, "split": "test"} for i in range(3)]
    rows[3]["mask_path"] = f"{root}/masks/scratch/1.png"

    parts = parts_of(TabularDataset("t", rows, split="test"), "t", "t", "t")
    dataset = ZeroShotDataset(parts)
    items = [dataset[i] for i in range(len(dataset))]
    assert sorted((item.gt_label.item(), item.has_mask) for item in items) == [
        (0, True),
        (0, True),
        (1, False),
        (1, False),
        (1, True),
    ]
    assert [item.gt_mask is None for item in items] == [not item.has_mask for item in items]
    batch = dataset.collate_fn(items)
    assert batch.gt_mask.flatten(1).any(1).tolist() == [item.has_mask and item.gt_label.item() == 1 for item in items]


def test_no_masks_at_all(folder):
    arguments = folder(masks=False)
    del arguments["name"], arguments["root"]
    dataset = ZeroShotDataset(
        parts_of(FolderDataset("f", root=folder(masks=False)["root"], **arguments), "f", "f", "f")
    )
    assert dataset.task == TaskType.CLASSIFICATION
    assert not dataset.samples.has_mask.any()
    batch = dataset.collate_fn([dataset[i] for i in range(len(dataset))])
    assert batch.gt_mask is None
    assert not batch.has_mask.any()
    assert set(batch.defect_type) == {"", "scratch"}


def test_empty_and_video_data_sets(folder):
    empty = FolderDataset("f", normal_dir="normal", root=folder(abnormal=0)["root"], split="test")
    assert parts_of(empty, "f", "f", "f") == []
    assert len(ZeroShotDataset([])) == 0
    with pytest.raises(TypeError, match="videos"):
        parts_of(AvenueDataset.__new__(AvenueDataset), "Avenue", "Avenue", "x")


def normal_parts(folder, normal=9):
    arguments = folder(normal=normal, abnormal=0)
    return parts_of(FolderDataset("f", normal_dir="normal", root=arguments["root"], split="train"), "f", "f", "f")


def test_synthetic_anomalies(folder):
    parts = normal_parts(folder)
    plain, dataset = ZeroShotDataset(parts), AuxiliaryDataset(parts, synthetic_seed=5)

    assert dataset.samples.label_index.sum() == 4
    assert dataset.samples.has_mask.all()
    for index in range(9):
        item, image = dataset[index], plain[index].image
        assert type(item) is AuxiliaryItem
        assert item.image.min() >= 0
        assert item.image.max() <= 1
        changed = (item.image != image).any(0)
        if item.gt_label:
            assert item.defect_type == "anomaly"
            assert item.gt_mask.any()
            assert changed.any()
            assert not (changed & ~item.gt_mask.bool()).any(), "altered outside of the mask"
        else:
            assert not changed.any()
            assert not item.gt_mask.any()


def test_synthetic_anomalies_depend_on_image_and_seed_only(folder):
    parts = normal_parts(folder)
    dataset = AuxiliaryDataset(parts, synthetic_seed=5)
    torch.manual_seed(1)
    once = [dataset[i] for i in range(9)]
    expected = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), expected), "reading an image must not draw from the global generator"

    again = [dataset.subsample([i])[0] for i in reversed(range(9))][::-1]
    worker = next(iter(DataLoader(dataset, batch_size=9, num_workers=1, collate_fn=dataset.collate_fn)))
    other = AuxiliaryDataset(parts, synthetic_seed=6)
    for index in range(9):
        assert torch.equal(once[index].image, again[index].image)
        assert torch.equal(once[index].image, worker.image[index])
        assert torch.equal(once[index].gt_mask.bool(), worker.gt_mask[index])
    assert any(not torch.equal(once[i].image, other[i].image) for i in range(9))


def test_synthetic_anomalies_need_normal_images(two_classes):
    with pytest.raises(ValueError, match="normal images only"):
        AuxiliaryDataset(two_classes, synthetic_seed=0)


def test_real_images(magnetic_tile):
    """Grey tiles of many sizes, defect types from folder names, masks in another file type than the images."""
    datamodule = Folder(**magnetic_tile(per_defect=2, good=5))
    datamodule._setup()
    parts = [
        part
        for data in (datamodule.train_data, datamodule.test_data)
        for part in parts_of(data, "mt", "mt", "magnetic tile")
    ]
    dataset = ZeroShotDataset(parts)
    assert dataset.samples.defect_type.value_counts().to_dict() == {
        "": 5, "blowhole": 2, "break": 2, "crack": 2, "fray": 2, "uneven": 2
    }  # fmt: skip
    batch = dataset.collate_fn([dataset[i] for i in range(len(dataset))])
    assert batch.image.shape[1] == 3
    assert (batch.image.min() >= 0, batch.image.max() <= 1) == (True, True)
    assert torch.equal(batch.image[:, 0], batch.image[:, 2])
    assert batch.gt_mask.shape == batch.image[:, 0].shape
    assert batch.gt_mask[~batch.gt_label].sum() == 0


def test_real_masks_of_another_file_type(real):
    names = {"normal_dir": "train/good", "normal_test_dir": "test/good", "abnormal_dir": "test/colour"}
    datamodule = Folder("hazelnut", root=real / "hazelnut_toy", mask_dir="ground_truth/colour", **names)
    datamodule._setup()
    dataset = ZeroShotDataset(parts_of(datamodule.test_data, "hazelnut", "hazelnut", "hazelnut"))
    assert dataset.samples.defect_type.value_counts().to_dict() == {"colour": 17, "": 6}
    item = dataset[0]
    assert (item.image.shape, item.gt_mask.any().item()) == ((3, 512, 512), True)
