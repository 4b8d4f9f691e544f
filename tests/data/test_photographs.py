# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Folders of real images with an index."""

import numpy as np
import pytest
from PIL import Image

from anomalib_zsad.data.photographs import Photographs

HEADER = "image,label,mask,split,type"


def listed(folder, rows, encoding="utf-8"):
    (folder / "index.csv").write_text("\n".join([HEADER, *rows]), encoding=encoding)
    return folder


@pytest.mark.parametrize("total", [1, 2, 17, 22, 31, 97])
def test_as_many_are_taken_as_asked_for_and_evenly(tmp_path, total):
    folder = listed(tmp_path, [f"{number}.png,{number % 2},,test,x" for number in range(total)])
    for most in range(1, total + 3):
        names = [int(path.stem) for path in Photographs(folder, most).paths]
        assert len(names) == min(most, total)
        assert names[0] == 0
        steps = np.diff([*names, total])
        assert steps.min() >= 1
        assert steps.max() - steps.min() <= 1
    with pytest.raises(ValueError, match="At least 1 image"):
        Photographs(folder, 0)


def test_an_index_saved_by_a_spreadsheet(tmp_path):
    folder = listed(tmp_path, ["a.png,1,,test,x", "b.png,0,,train,x"], "utf-8-sig")
    assert Photographs(folder).paths == [tmp_path / "a.png"]
    (tmp_path / "index.csv").write_text("image,label\na.png,1\n")
    with pytest.raises(ValueError, match=r"has no column mask, split; it needs image, label, mask, split"):
        Photographs(tmp_path)


@pytest.mark.parametrize("label", ["1.0", "True", "scratch", "", "-1"])
def test_a_label_that_says_nothing_is_not_taken_for_normal(tmp_path, label):
    folder = listed(tmp_path, ["a.png,0,,test,x", f"b.png,{label},,test,x"])
    with pytest.raises(ValueError, match=rf"index\.csv has the labels '{label}'; expected are 0, normal, and 1"):
        Photographs(folder)


@pytest.mark.parametrize("value", [1, 255])
def test_every_marked_pixel_counts_whatever_its_value(tmp_path, value):
    marks = np.zeros((8, 8), np.uint8)
    marks[2:4, 4:8] = value
    Image.fromarray(marks).save(tmp_path / "m.png")
    folder = listed(tmp_path, ["a.png,1,m.png,test,x", "b.png,0,,test,x"])
    photographs = Photographs(folder)
    assert photographs.masked
    assert np.array_equal(photographs.mask(0, 8), marks > 0)
    assert not photographs.mask(1, 8).any()


def test_maps_are_judged_only_where_every_anomaly_has_a_mask(tmp_path):
    assert not Photographs(listed(tmp_path, ["a.png,1,m.png,test,x", "b.png,1,,test,x"])).masked
    assert not Photographs(listed(tmp_path, ["b.png,0,,test,x"])).masked
