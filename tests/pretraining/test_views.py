# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Pictures of the pre-training steps."""

import numpy as np
import pytest
import torch

from anomalib_zsad.data.surfaces import render, render_pair
from anomalib_zsad.data.surfaces.canvas import Dice
from anomalib_zsad.pretraining.views import (
    FOREIGN,
    FULL_EVERY,
    SEEN_CLASSES,
    SEEN_DEFECTS,
    STAGE_FOUR,
    STAGE_THREE,
    STAGE_TWO,
    ViewsOfSteps,
    shows_whole,
    with_foreign_patch,
)

VIEWS = ViewsOfSteps(native=224, small=112, patch=14, batch=16, seed=3)


@pytest.mark.parametrize("step", [0, FULL_EVERY - 1, STAGE_TWO + 1, STAGE_FOUR])
def test_a_step_is_a_function_of_its_number(step):
    views, again = VIEWS[step], VIEWS[step]
    assert torch.equal(views.images, again.images)
    assert torch.equal(views.coverage, again.coverage)
    assert views.defects == again.defects
    assert not torch.equal(views.images, VIEWS[step + FULL_EVERY].images)


def test_shapes_and_labels_agree():
    for step in (2, FULL_EVERY - 1, STAGE_TWO + 2, STAGE_THREE, STAGE_THREE + 1, STAGE_FOUR, STAGE_FOUR + 1):
        views = VIEWS[step]
        side, count = (224, 4) if shows_whole(step) else (112, 16)
        assert views.images.shape == (count, 3, side, side)
        assert views.images.dtype == torch.uint8
        assert views.coverage.shape == (count, (side // 14) ** 2)
        assert set(views.classes) <= set(SEEN_CLASSES)
        assert set(views.defects[1::2]) <= {"", *SEEN_DEFECTS}
        assert set(views.defects[::2]) <= ({"", FOREIGN} if step >= STAGE_FOUR else {""})
        covered = views.coverage.sum(1) * 14**2  # pixels
        assert [bool(kind) for kind in views.defects] == (covered > 7.5).tolist()
        if step < STAGE_FOUR:
            assert views.coverage[::2].sum() == 0, "every other view is flawless"


@pytest.mark.parametrize(("start", "share"), [(0, 1 / 5), (STAGE_THREE, 1 / 2), (STAGE_FOUR, 2 / 3)])
def test_share_of_whole_pictures(start, share):
    assert np.mean([shows_whole(step) for step in range(start, start + 30)]) == pytest.approx(share)


def test_some_flawless_things_get_a_foreign_patch():
    kinds = [kind for step in range(STAGE_FOUR, STAGE_FOUR + 12) for kind in VIEWS[step].defects[::2]]
    assert 0.05 < kinds.count(FOREIGN) / len(kinds) < 0.4


@pytest.mark.parametrize("index", range(6))
def test_a_foreign_patch_is_where_its_mask_is(index):
    key = {"seed": 1, "stream": 3, "index": index, "size": 96}
    (clean, faulty), (other, _) = render_pair("wood", "stain", **key), render_pair("tile", "stain", **key)
    patched = with_foreign_patch(Dice(5, 6, index), clean, other.image, faulty.mask)
    change = np.abs(patched.image.astype(int) - clean.image).max(-1)
    assert patched.defect_type == FOREIGN
    assert patched.mask.any()
    assert change[patched.mask].mean() > 4 * change[~patched.mask].mean()
    assert np.median(change[~patched.mask]) == 0
    assert (patched.class_name, patched.caption) == (clean.class_name, clean.caption)


def test_a_patch_that_nobody_sees_is_none():
    key = {"seed": 1, "stream": 3, "index": 5, "size": 96}
    clean, faulty = render_pair("wood", "stain", **key)
    grey = clean._replace(image=np.full_like(clean.image, 90))
    same = [with_foreign_patch(Dice(5, 6, i), grey, grey.image, faulty.mask) for i in range(20)]
    unseen = [picture for picture in same if not picture.defect_type]
    assert len(unseen) >= 6, "pieces of the same grey"
    assert all(np.array_equal(picture.image, grey.image) and not picture.mask.any() for picture in unseen)


def test_pieces_mostly_show_the_defect():
    shown = [bool(kind) for step in range(4) for kind in VIEWS[step].defects[1::2]]
    assert np.mean(shown) > 0.9


def test_a_pair_is_what_two_calls_draw():
    key = {"seed": 1, "stream": 3, "index": 5, "size": 96}
    for name, kind in (("wood", "scratch"), ("screw", "dent"), ("scan", "hole")):
        clean, faulty = render_pair(name, kind, **key)
        for picture, alone in ((clean, render(name, **key)), (faulty, render(name, kind, **key))):
            assert np.array_equal(picture.image, alone.image)
            assert np.array_equal(picture.mask, alone.mask)
            assert picture[2:] == alone[2:]
