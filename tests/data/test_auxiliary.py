# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

import logging

import pytest
import torch
from anomalib.data import Folder, ImageBatch, Kolektor, MVTecAD
from lightning import LightningDataModule
from torchvision.transforms.v2 import Resize

from anomalib_zsad.data import (
    AuxiliaryBatch,
    AuxiliaryDataset,
    ZeroShot,
    ZeroShotBatch,
    class_names_of,
    use_auxiliary_data,
)


class LabelledFolder(Folder):
    """Stands for the few datamodules whose training split has defects, such as Kaputt."""

    def _setup(self, _stage=None):
        super()._setup()
        self.train_data, self.test_data = self.test_data, self.train_data


def test_normal_training_images_get_synthetic_anomalies(folder, caplog):
    datamodule = Folder(**folder(normal=20, normal_test=4), num_workers=0, augmentations=Resize((16, 16)))
    datamodule.setup()
    train = set(datamodule.train_data.samples.image_path)
    test = datamodule.test_data
    with caplog.at_level(logging.WARNING):
        use_auxiliary_data(datamodule)

    assert "no anomalies: training on anomalies synthesised on its 20 normal images" in caplog.text
    assert (type(datamodule.train_data), type(datamodule.val_data)) == (AuxiliaryDataset, AuxiliaryDataset)
    both = [datamodule.train_data.samples, datamodule.val_data.samples]
    assert {path for samples in both for path in samples.image_path} == train, "images from outside the training split"
    assert [len(samples) for samples in both] == [18, 2]
    assert [samples.label_index.sum() for samples in both] == [9, 1]
    assert datamodule.test_data is test

    for loader in (datamodule.train_dataloader(), datamodule.val_dataloader()):
        for batch in loader:
            assert type(batch) is AuxiliaryBatch
            assert batch.image.shape[-2:] == (16, 16)
            assert batch.has_mask.all()
            assert set(batch.class_name) == {"parts"}
    assert type(next(iter(datamodule.test_dataloader()))) is ImageBatch


def test_labelled_training_images_are_used_as_they_are(folder, caplog):
    datamodule = LabelledFolder(
        **folder(normal=4, normal_test=6), num_workers=0, val_split_mode="none", test_split_mode="none"
    )
    datamodule.setup()
    use_auxiliary_data(datamodule, calibration_ratio=0.25)
    samples = datamodule.train_data.samples
    assert samples.defect_type.value_counts().to_dict() == {"": 4, "scratch": 3}
    assert datamodule.val_data.samples.label_index.tolist().count(1) == 1
    assert "synthesised" not in caplog.text
    batch = next(iter(datamodule.train_dataloader()))
    assert torch.equal(batch.gt_mask.flatten(1).any(1), batch.gt_label)


def test_labelled_training_images_without_masks(folder, caplog):
    datamodule = LabelledFolder(
        **folder(normal_test=4, masks=False), num_workers=0, val_split_mode="none", test_split_mode="none"
    )
    datamodule.setup()
    use_auxiliary_data(datamodule)
    assert "has no masks: only the losses on images train" in caplog.text


def test_it_is_idempotent(folder):
    datamodule = Folder(**folder(normal=8), num_workers=0)
    datamodule.setup()
    use_auxiliary_data(datamodule)
    train, val = datamodule.train_data, datamodule.val_data
    use_auxiliary_data(datamodule, seed=3)
    assert (datamodule.train_data, datamodule.val_data) == (train, val)

    datamodule = ZeroShot(source=Folder(**folder()), num_workers=0)
    datamodule.setup("fit")
    train = datamodule.train_data
    use_auxiliary_data(datamodule)
    assert datamodule.train_data is train


def test_the_seed_decides(folder):
    chosen = []
    for seed in (0, 0, 1):
        datamodule = Folder(**folder(normal=20, normal_test=2), num_workers=0)
        datamodule.setup()
        use_auxiliary_data(datamodule, seed=seed)
        chosen.append(datamodule.train_data.samples[["image_path", "label_index"]].to_numpy().tolist())
    assert chosen[0] == chosen[1] != chosen[2]


def test_what_cannot_supply_auxiliary_data():
    with pytest.raises(TypeError, match="needs an anomalib datamodule, got LightningDataModule"):
        use_auxiliary_data(LightningDataModule())


@pytest.mark.parametrize(
    ("datamodule", "word"),
    [
        (MVTecAD(category="metal_nut"), "metal nut"),
        (Folder("My_Part", normal_dir="x"), "my part"),
        (Kolektor(), "object"),
        (None, "object"),
        (LightningDataModule(), "object"),
    ],
)
def test_class_names_of_a_plain_batch(datamodule, word):
    assert class_names_of(ImageBatch(image=torch.rand(2, 3, 4, 4)), datamodule) == [word, word]


def test_class_names_of_a_batch_that_has_them():
    batch = ZeroShotBatch(image=torch.rand(2, 3, 4, 4), class_name=["a", "b"])
    assert class_names_of(batch, MVTecAD()) == ["a", "b"]
    assert class_names_of(ZeroShotBatch(image=torch.rand(2, 3, 4, 4)), MVTecAD()) == ["bottle", "bottle"]
