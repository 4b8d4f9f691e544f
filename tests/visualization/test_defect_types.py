# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""One colour for each kind of defect, and a legend."""

import numpy as np
import pytest
import torch
from anomalib.data import ImageItem
from PIL import Image

from anomalib_zsad.deploy.drawing import type_colour
from anomalib_zsad.models.dapo.batches import DefectTypeItem
from anomalib_zsad.visualization import ZeroShotVisualizer
from anomalib_zsad.visualization.defect_types import OPACITY, DefectTypeVisualizer, rank

WORDS = ("scratch", "dent", "oil")


def make(kinds: dict[int, tuple[slice, slice]], scores=(0.2, 0.7, 0.4), words=WORDS) -> DefectTypeItem:
    """A grey image of 8 x 8 patches, each kind (from 0) in a part of them."""
    grid = torch.full((len(words), 8, 8), 0.01)
    mask = torch.zeros(8, 8, dtype=torch.bool)
    for kind, (rows, columns) in kinds.items():
        grid[kind, rows, columns] = 0.9
        mask[rows, columns] = True
    anomaly_map, pred_mask = (value.repeat_interleave(8, 0).repeat_interleave(8, 1) for value in (grid.sum(0), mask))
    return DefectTypeItem(
        image=torch.full((3, 64, 64), 0.5), anomaly_map=anomaly_map, pred_mask=pred_mask, pred_score=torch.tensor(0.9),
        pred_label=torch.tensor(1), type_grid=grid, type_scores=torch.tensor(scores), type_names=words,
    )  # fmt: skip


def panel(item, **options) -> np.ndarray:
    """The last panel of the picture."""
    picture = DefectTypeVisualizer(**options).visualize(item)
    return np.asarray(picture.crop((picture.width - 256, 0, picture.width, 256)), float)


def test_each_kind_has_its_colour_inside_the_mask() -> None:
    item = make({1: (slice(4, 6), slice(0, 2)), 2: (slice(5, 8), slice(5, 8))})
    drawn = panel(item, text_config={"enable": False})
    background = drawn[20, 20]
    assert np.allclose(background, background[0])
    for kind, (row, column) in {1: (150, 30), 2: (220, 220)}.items():
        wanted = (1 - OPACITY) * background + OPACITY * np.array(type_colour(kind))
        assert np.abs(drawn[row, column] - wanted).max() <= 1
    untouched = drawn[100, 128]
    assert np.array_equal(untouched, background)


def test_the_first_panels_are_the_usual_ones() -> None:
    item = make({0: (slice(0, 2), slice(0, 2))})
    ours, usual = DefectTypeVisualizer().visualize(item), ZeroShotVisualizer().visualize(item)
    assert ours.width == usual.width + 256
    assert np.array_equal(np.asarray(ours.crop((0, 0, usual.width, 256))), np.asarray(usual))


def test_the_legend_shows_colours_of_what_is_seen_first() -> None:
    item = make({2: (slice(5, 8), slice(5, 8))})
    bare, text = panel(item, text_config={"enable": False}), panel(item)
    rows, columns = np.nonzero(np.abs(text - bare).max(axis=-1))
    assert rows.max() < 80
    assert columns.max() < 160
    assert np.array_equal(text[11, 10], type_colour(2))  # seen, though its score is not the highest
    swatches = {tuple(pixel) for pixel in text[:80, 4].astype(int)}
    assert {type_colour(0), type_colour(1), type_colour(2)} <= swatches


@pytest.mark.parametrize("count", [1, 9, 40])
def test_any_number_of_kinds_is_drawn(count: int) -> None:
    words = tuple(f"kind {number}" for number in range(count))
    item = make({count - 1: (slice(0, 8), slice(0, 8))}, scores=torch.rand(count).tolist(), words=words)
    assert panel(item).shape == (256, 256, 3)
    colours = [type_colour(number) for number in range(21)]
    assert len(set(colours)) == 21


def test_more_kinds_than_a_byte_can_number_keep_their_colours() -> None:
    words = tuple(f"kind {number}" for number in range(300))
    item = make({255: (slice(0, 4), slice(0, 8)), 258: (slice(4, 8), slice(0, 8))}, [0.5] * 300, words)
    drawn = panel(item, text_config={"enable": False})
    grey = panel(make({}), text_config={"enable": False})[0, 0]
    for kind, row in {255: 20, 258: 200}.items():
        assert np.abs(drawn[row, 20] - (1 - OPACITY) * grey - OPACITY * np.array(type_colour(kind))).max() <= 1


def test_items_without_kinds_look_as_before() -> None:
    item = ImageItem(image=torch.rand(3, 64, 64), anomaly_map=torch.rand(64, 64), pred_score=torch.tensor(0.3))
    drawn = [np.asarray(visualizer().visualize(item)) for visualizer in (DefectTypeVisualizer, ZeroShotVisualizer)]
    assert np.array_equal(*drawn)


def test_no_defect_no_colour() -> None:
    drawn = panel(make({}), text_config={"enable": False})
    assert np.array_equal(drawn, np.broadcast_to(drawn[0, 0], drawn.shape))


def test_an_image_of_sixteen_bits_keeps_its_greys(tmp_path) -> None:
    deep = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    drawn = panel(make({}).update(image_path=str(tmp_path / "deep.png")), text_config={"enable": False})
    shallow = Image.fromarray((deep / 257).astype(np.uint8)).resize((256, 256))
    assert np.abs(drawn - np.asarray(shallow, float)[..., None]).max() <= 2


def test_ranking() -> None:
    assert rank(WORDS, (0.2, 0.7, 0.4), 2) == [("dent", 0.7), ("oil", 0.4)]
    assert rank(WORDS[:1], (0.2,)) == [("scratch", 0.2)]
