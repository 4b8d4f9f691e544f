# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Pictures of the pre-training steps."""

import numpy as np
import pytest
import torch

from anomalib_zsad.data.surfaces import render, render_pair
from anomalib_zsad.pretraining.views import (
    FULL_EVERY,
    FULL_EVERY_LATE,
    SEEN_CLASSES,
    SEEN_DEFECTS,
    STAGE_THREE,
    STAGE_TWO,
    ViewsOfSteps,
)

VIEWS = ViewsOfSteps(native=224, small=112, patch=14, batch=16, seed=3)


@pytest.mark.parametrize("step", [0, FULL_EVERY - 1, STAGE_TWO + 1])
def test_a_step_is_a_function_of_its_number(step):
    views, again = VIEWS[step], VIEWS[step]
    assert torch.equal(views.images, again.images)
    assert torch.equal(views.coverage, again.coverage)
    assert views.defects == again.defects
    assert not torch.equal(views.images, VIEWS[step + FULL_EVERY].images)


def test_shapes_and_labels_agree():
    for step in (2, FULL_EVERY - 1, STAGE_TWO + 2, STAGE_THREE, STAGE_THREE + 1):
        views = VIEWS[step]
        every = FULL_EVERY if step < STAGE_THREE else FULL_EVERY_LATE
        full = step % every == every - 1
        side, count = (224, 4) if full else (112, 16)
        assert views.images.shape == (count, 3, side, side)
        assert views.images.dtype == torch.uint8
        assert views.coverage.shape == (count, (side // 14) ** 2)
        assert set(views.classes) <= set(SEEN_CLASSES)
        assert set(views.defects) <= {"", *SEEN_DEFECTS}
        covered = views.coverage.sum(1) * 14**2  # pixels
        assert [bool(kind) for kind in views.defects] == (covered > 7.5).tolist()
        assert views.coverage[::2].sum() == 0, "every other view is flawless"


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
