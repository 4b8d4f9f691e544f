# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The table of a backbone and its controls."""

import math
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import torch

from anomalib_zsad.clip.weights import load_clip
from anomalib_zsad.pretraining.detectors import blur_difference, linear_adapter, text_alone
from anomalib_zsad.pretraining.evaluate import Plan, cell, markdown, measure, rows, run
from anomalib_zsad.pretraining.picture_sets import Batch, PictureSet, generated_sets, real_sets

TOWERS = ("surfaces-tiny", "random tower", "random tower, DCT layer")


def squares(count=12, size=56, seed=0):
    """Grey pictures, every other one with a bright square at a place of its own."""
    rng = torch.Generator().manual_seed(seed)
    images = 0.5 + 0.05 * torch.rand(count, 3, size, size, generator=rng)
    masks = torch.zeros(count, size, size, dtype=torch.bool)
    for index in range(1, count, 2):
        top, left = torch.randint(0, size - 14, (2,), generator=rng).tolist()
        masks[index, top : top + 14, left : left + 14] = True
    images[masks[:, None].expand_as(images)] += 0.4
    return Batch(images, masks.flatten(1).any(1), masks, ["object"] * count)


def test_the_naive_control_finds_what_sticks_out():
    found = measure(blur_difference, PictureSet("squares", 12, lambda: iter([squares()])))
    assert found["image_AUROC"] == 1
    assert found["pixel_AUROC"] > 0.8


def test_a_linear_adapter_learns_from_masks_and_not_from_the_test():
    clip = load_clip("surfaces-tiny", "random:0", image_size=56)
    detect = linear_adapter(clip, iter([squares(40, seed=1)]))
    found = measure(detect, PictureSet("squares", 20, lambda: iter([squares(20, seed=2)])))
    assert found["pixel_AUROC"] > 0.9


def test_text_alone_depends_on_the_words():
    clip = load_clip("surfaces-tiny", image_size=56)
    detect, pictures = text_alone(clip), squares(4)
    first, _ = detect(pictures.images, ["wood"] * 4)
    again, maps = detect(pictures.images, ["wood"] * 4)
    other, _ = detect(pictures.images, ["screw"] * 4)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert maps.shape == (4, 56, 56)
    assert not maps.requires_grad


def test_generated_sets_hold_what_their_names_say():
    for test in generated_sets(24, 32):
        classes, defects = (part.split()[0] for part in test.name.split(", "))
        (batch, *_) = test.batches()
        assert batch.images.shape[1:] == (3, 32, 32)
        assert (batch.masks.flatten(1).any(1) == batch.labels).all()
        assert sum(len(one.labels) for one in test.batches()) == test.count == 24
        assert {classes, defects} <= {"seen", "unseen"}


def test_real_sets_leave_the_training_images_out(real):
    sets = {test.name: test for test in real_sets(real, 56)}
    count = sum(len(batch.labels) for batch in sets["hazelnut_toy"].batches())
    assert count == sets["hazelnut_toy"].count == 6 + 17
    (first, *_) = sets["brain_mri"].batches()
    assert first.masks is None


def test_a_cell_has_the_mean_and_the_spread_and_a_dash():
    assert cell([{"image_AUROC": 0.5, "pixel_AUROC": math.nan}]) == "50.0 / -"
    assert cell([{"image_AUROC": 0.5}, {"image_AUROC": 0.6}]) == "55.0±7.1 / -"


def test_what_is_measured_is_not_measured_again(tmp_path):
    plan = Plan(methods=(), images=16, test_images=24, image_size=56)
    table = tmp_path / "table.csv"
    first = list(run(plan, table))
    assert len(first) == (1 + 2 * 3) * 4  # blur; text and adapter on three towers; four sets
    assert list(run(plan, table)) == []
    results = pd.read_csv(table)
    results[results.detector != "blur difference"].to_csv(table, index=False)
    again = list(run(plan, table))
    assert [name for name, *_ in again] == ["blur difference"] * 4
    assert again[0][3] == pytest.approx(first[0][3])
    assert "| blur difference |" in markdown(pd.read_csv(table))


def test_what_decides_a_figure_is_in_the_table_and_measured_anew(tmp_path):
    plan = Plan(methods=(), images=16, test_images=24, image_size=56)
    list(run(plan, tmp_path / "first.csv"))
    for change, again in (
        ({"images": 8}, {f"linear adapter, {tower}" for tower in TOWERS}),
        ({"pretrained": "random:5"}, {"text alone, surfaces-tiny", "linear adapter, surfaces-tiny"}),
        ({"epochs": 9, "seeds": (4,)}, set()),
    ):
        table = shutil.copy(tmp_path / "first.csv", tmp_path / "table.csv")
        assert {name for name, *_ in run(replace(plan, **change), table)} == again
        assert list(run(replace(plan, **change), table)) == list(run(plan, table)) == []
    for change, text in (({"image_size": 42}, "image_size 42"), ({"test_images": 12}, "test_images 12")):
        table = shutil.copy(tmp_path / "first.csv", tmp_path / "table.csv")
        next(run(replace(plan, **change), table))  # the control that has learned nothing
        shown = markdown(pd.read_csv(table))
        assert text in shown
        assert shown.count("±") == 0
        assert shown.count(text) == 1


def test_a_row_names_what_its_detector_depends_on(tmp_path):
    plan = Plan(methods=("DAPO",), images=16, epochs=2, seeds=(0, 1))
    before = {(row.name, row.seed): (row.weights, row.images, row.epochs) for row in rows(plan, tmp_path)}
    assert before["blur difference", 0] == ("-", 0, 0)
    assert before["linear adapter, surfaces-tiny", 0][1:] == (16, 1)
    assert before["DAPO untrained, surfaces-tiny", 0][1:] == (0, 0)
    assert before["DAPO, surfaces-tiny", 1][1:] == (16, 2)
    assert len({weights for weights, *_ in before.values()}) == 4
    other = replace(plan, pretrained="random:5", epochs=3)
    after = {(row.name, row.seed): (row.weights, row.images, row.epochs) for row in rows(other, tmp_path)}
    changed = {name for name, _ in before if before[name, 0] != after[name, 0]}
    kinds = ("text alone", "linear adapter", "DAPO untrained", "DAPO")
    assert changed == {*(f"{kind}, surfaces-tiny" for kind in kinds), *(f"DAPO, {tower}" for tower in TOWERS[1:])}


def test_a_table_of_another_form_is_named_and_left_alone(tmp_path):
    table = tmp_path / "old.csv"
    table.write_text("detector,seed,test_set,image_AUROC\nblur difference,0,tiles,0.5\n")
    with pytest.raises(ValueError, match="has no column weights, image_size, images, epochs, test_images"):
        next(run(Plan(methods=()), table))
    assert len(table.read_text().splitlines()) == 2


def test_a_folder_without_sets_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"No folder in .*mistyped has an index.csv"):
        next(run(Plan(methods=(), real=tmp_path / "mistyped"), tmp_path / "table.csv"))
