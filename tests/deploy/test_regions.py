# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Connected regions against SciPy's."""

import numpy as np
import pytest
from scipy import ndimage

from anomalib_zsad.deploy.regions import Region, find_regions, label


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.45, 0.6, 0.95, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (37, 53)])
def test_labels_are_scipy_s(share: float, shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(round(share * 100)).random(shape) < share
    got, count = label(mask)
    wanted, number = ndimage.label(mask, np.ones((3, 3)))
    assert count == number
    assert ((got > 0) == mask).all()
    assert len(np.unique(np.stack([got[mask], wanted[mask]]), axis=1).T) == number  # a bijection


def test_regions_have_boxes_in_pixels_of_the_image() -> None:
    scores = np.zeros((10, 20))
    scores[2:5, 3:7], scores[3, 4], scores[9, 19] = 0.6, 0.8, 0.9
    kinds = np.where(scores > 0.5, 2, 0)
    kinds[2, 3:5] = 1
    found = find_regions(scores > 0.5, scores, (200, 50), kinds, ["dent", "scratch"])
    assert found == (
        Region((190, 45, 200, 50), 50, 0.9, "scratch"),
        Region((30, 10, 70, 25), 600, 0.8, "scratch"),
    )
    assert find_regions(scores > 1, scores, (200, 50)) == ()


def test_boxes_cover_their_pixels_where_sizes_do_not_divide() -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((16, 16)) < 0.2
    covered = np.zeros((50, 37), bool)
    for region in find_regions(mask, mask.astype(float), (37, 50)):
        left, top, right, bottom = region.box
        covered[top:bottom, left:right] = True
    y, x = np.mgrid[:50, :37]
    assert covered[mask[y * 16 // 50, x * 16 // 37]].all()
