# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

import pickle

import pytest
import torch
from anomalib.data import ImageBatch, ImageItem
from anomalib.visualization import ImageVisualizer
from lightning.fabric.utilities import move_data_to_device
from torchvision.tv_tensors import Image, Mask

from anomalib_zsad.data import (
    AuxiliaryBatch,
    AuxiliaryItem,
    NumpyZeroShotBatch,
    NumpyZeroShotItem,
    ZeroShotBatch,
    ZeroShotItem,
)
from anomalib_zsad.data.batches import collate


def item(number=0, *, mask=True, label=True, size=(6, 8), item_class=ZeroShotItem):
    ones = Mask(torch.ones(size, dtype=torch.uint8))
    return item_class(
        image=Image(torch.rand(3, *size)),
        gt_label=torch.tensor(1) if label else None,
        gt_mask=ones if mask else None,
        image_path=f"{number}.png",
        mask_path=f"{number}_mask.png" if mask else None,
        class_name=f"word {number}",
        category=f"word_{number}",
        defect_type="crack",
        has_mask=mask,
    )


@pytest.mark.parametrize("masks", [(True, False, True), (False, True, True), (False, False, False), (True, True, True)])
def test_images_without_a_mask_get_a_zero_mask_that_is_marked(masks):
    batch = ZeroShotBatch.collate([item(i, mask=mask) for i, mask in enumerate(masks)])

    assert batch.has_mask.tolist() == list(masks)
    assert batch.has_mask.dtype == torch.bool
    if any(masks):
        assert batch.gt_mask.shape == (3, 6, 8)
        assert batch.gt_mask.flatten(1).all(1).tolist() == list(masks)
        assert batch.gt_mask.flatten(1).any(1).tolist() == list(masks)
    else:
        assert batch.gt_mask is None
    assert batch.mask_path == [f"{i}_mask.png" if mask else "" for i, mask in enumerate(masks)]
    assert batch.class_name == ["word 0", "word 1", "word 2"]
    assert batch.category == ["word_0", "word_1", "word_2"]
    assert batch.defect_type == ["crack"] * 3


def test_images_of_different_sizes_are_resized_with_their_masks():
    batch = ZeroShotBatch.collate([item(0, size=(6, 8)), item(1, size=(12, 9), mask=False)])

    assert batch.image.shape == (2, 3, 12, 9)
    assert batch.gt_mask.shape == (2, 12, 9)
    assert batch.gt_mask[0].all()
    assert not batch.gt_mask[1].any()


def test_one_unknown_label_makes_the_labels_unknown():
    assert ZeroShotBatch.collate([item(0), item(1, label=False)]).gt_label is None
    assert ZeroShotBatch.collate([item(0), item(1)]).gt_label.tolist() == [True, True]


@pytest.mark.parametrize(
    ("item_class", "batch_class"), [(ZeroShotItem, ZeroShotBatch), (AuxiliaryItem, AuxiliaryBatch)]
)
def test_everything_anomalib_does_with_a_batch(item_class, batch_class):
    batch = collate([item(i, mask=i > 0, item_class=item_class) for i in range(3)])
    assert type(batch) is batch_class
    assert len(batch) == 3
    assert "class_name" in batch.keys(include_none=False)

    for number, single in enumerate(batch):
        assert type(single) is item_class
        assert single.class_name == f"word {number}"
        assert single.has_mask is (number > 0)
        assert type(single.to_numpy()) is NumpyZeroShotItem

    arrays = batch.to_numpy()
    assert type(arrays) is NumpyZeroShotBatch
    assert [(type(one), one.class_name, one.has_mask) for one in arrays.items] == [
        (NumpyZeroShotItem, f"word {number}", number > 0) for number in range(3)
    ]

    assert batch.update(pred_score=torch.rand(3)).pred_score is not None
    other = batch.update(in_place=False, class_name=["x"] * 3)
    assert type(other) is batch_class
    assert (other.class_name, batch.class_name[0]) == (["x"] * 3, "word 0")

    moved = move_data_to_device(batch, torch.device("meta"))
    assert type(moved) is batch_class
    assert (moved.image.device.type, moved.has_mask.device.type) == ("meta", "meta")
    assert moved.class_name == batch.class_name

    again = pickle.loads(pickle.dumps(batch))
    assert type(again) is batch_class
    assert again.class_name == batch.class_name


def test_only_auxiliary_items_make_an_auxiliary_batch():
    assert type(collate([item(0)])) is ZeroShotBatch
    assert type(collate([ImageItem(image=torch.rand(3, 4, 4))])) is ImageBatch
    assert not isinstance(collate([item(0)]), AuxiliaryBatch)


def test_plain_batch_without_our_fields():
    batch = ZeroShotBatch(image=torch.rand(2, 3, 4, 4))
    assert batch.class_name is None
    assert [single.has_mask for single in batch] == [False, False]


def test_anomalibs_visualizer_draws_it(tmp_path, paint):
    batch = ZeroShotBatch.collate([item(i, size=(32, 32)) for i in range(2)])
    batch.update(
        anomaly_map=torch.rand(2, 32, 32), pred_mask=torch.rand(2, 32, 32) > 0.5, pred_score=torch.rand(2),
        pred_label=torch.tensor([True, False]), image_path=[str(paint(tmp_path / "in" / f"{i}.png")) for i in range(2)],
    )  # fmt: skip
    visualizer = ImageVisualizer(field_size=(32, 32), output_dir=tmp_path / "out")
    visualizer.on_test_batch_end(trainer=None, pl_module=None, outputs=batch, batch=batch, batch_idx=0)
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2
