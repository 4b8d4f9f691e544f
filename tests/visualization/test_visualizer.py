# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of runs over several classes: nothing overwritten, and otherwise anomalib's."""

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch, ImageItem
from anomalib.engine import Engine
from anomalib.visualization import ImageVisualizer
from PIL import Image, ImageFont
from torch.utils.data import DataLoader

from anomalib_zsad.data.batches import ZeroShotBatch, ZeroShotItem
from anomalib_zsad.visualization import ZeroShotVisualizer
from tests.visualization.conftest import BROKEN, GOOD, QUIET, make_model


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def first_panel(path):
    return np.asarray(Image.open(path).convert("RGB").crop((0, 0, 256, 256)), float)


def test_every_image_has_its_picture_in_the_folder_of_its_class(run):
    names = [f"good/{index:03}.png" for index in range(GOOD)] + [f"broken/{index:03}.png" for index in range(BROKEN)]
    folders = ("MVTecAD/bottle/test", "cable/test", "bottle")
    assert files(run.results / "images") == {f"{folder}/{name}" for folder in folders for name in names}


@pytest.mark.parametrize(
    ("folder", "colour"), [("MVTecAD/bottle/test", "red"), ("cable/test", "green"), ("bottle", "blue")]
)
def test_a_picture_shows_the_image_it_is_named_after(run, folder, colour):
    panel = first_panel(run.results / "images" / folder / "good" / "001.png")
    assert panel.mean(axis=(0, 1)).argmax() == ("red", "green", "blue").index(colour)


def test_prediction_writes_the_same_folders(run, target, tmp_path):
    model = make_model(visualizer=ZeroShotVisualizer(output_dir=tmp_path / "here"))
    Engine(default_root_dir=tmp_path, **QUIET).predict(model, datamodule=target())
    assert files(tmp_path / "here") == files(run.results / "images")


def test_images_of_unknown_category_are_drawn_and_named_as_by_anomalib(photos, tmp_path):
    for name, visualizer in (("ours", ZeroShotVisualizer), ("theirs", ImageVisualizer)):
        model = make_model(visualizer=visualizer(output_dir=tmp_path / name, text_config={"enable": False}))
        Engine(default_root_dir=tmp_path, **QUIET).predict(model, data_path=photos / "mvtec" / "cable" / "test")
    names = files(tmp_path / "theirs")
    assert files(tmp_path / "ours") == names
    assert "good/000.png" in names
    assert all((tmp_path / "ours" / name).read_bytes() == (tmp_path / "theirs" / name).read_bytes() for name in names)


@pytest.mark.parametrize("known", [True, False])
def test_images_without_a_file_are_shown_in_their_own_colours(known, tmp_path):
    images = torch.rand(3, 3, 7, 7).repeat_interleave(16, -1).repeat_interleave(16, -2)  # as large as the model's input
    paths = ["drawn/pill/test/crack/0.png", "drawn/pill/test/crack/1.png", "drawn/nut/test/crack/0.png"]
    if known:
        names = ["pill/test/crack/0.png", "pill/test/crack/1.png", "nut/test/crack/0.png"]
        items = [
            ZeroShotItem(image=image, image_path=path, category=path.split("/")[1])
            for image, path in zip(images, paths, strict=True)
        ]
    else:
        names = ["00000_00.png", "00000_01.png", "00001_00.png"]
        items = [ImageItem(image=image) for image in images]
    collate = (ZeroShotBatch if known else ImageBatch).collate
    model = make_model(visualizer=ZeroShotVisualizer(output_dir=tmp_path / "pictures", text_config={"enable": False}))
    loader = DataLoader(items, batch_size=2, collate_fn=collate)
    Engine(default_root_dir=tmp_path, **QUIET).predict(model, dataloaders=loader)
    assert files(tmp_path / "pictures") == set(names)
    for image, name in zip(images, names, strict=True):
        drawn = Image.fromarray((image * 255).byte().permute(1, 2, 0).numpy()).resize((256, 256))
        assert np.abs(first_panel(tmp_path / "pictures" / name) - np.asarray(drawn, float)).max() <= 1  # one rounding


def test_images_of_sixteen_bits_are_shown_in_their_own_greys(tmp_path):
    deep = np.linspace(0, 65535, 112 * 112).reshape(112, 112).astype(np.uint16)
    shallow = np.asarray(Image.fromarray((deep / 257).astype(np.uint8)).convert("RGB").resize((256, 256)), float)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    visualizer = ZeroShotVisualizer(output_dir=tmp_path / "pictures", text_config={"enable": False})
    engine = Engine(default_root_dir=tmp_path, **QUIET)
    (batch,) = engine.predict(make_model(visualizer=visualizer), data_path=tmp_path / "deep.png")
    drawn = [first_panel(path) for path in (tmp_path / "pictures").rglob("*.png")]
    drawn += [visualizer.visualize(one).crop((0, 0, 256, 256)) for one in (batch, batch.to_numpy(), next(iter(batch)))]
    assert len(drawn) == 4
    for panel in drawn:
        assert np.abs(np.asarray(panel, float) - shallow).max() <= 2

    Image.fromarray(deep.astype(np.int32)).save(tmp_path / "of_unknown_white.tif")
    item = ImageItem(image=torch.rand(3, 112, 112), image_path=str(tmp_path / "of_unknown_white.tif"))
    assert visualizer.visualize(item).getextrema() == ((0, 255),) * 3  # as anomalib shows it


@pytest.mark.parametrize("category", ["../../out", "/out", "..", "a\\..\\out"])
def test_a_category_does_not_lead_out_of_the_folder(category, tmp_path):
    item = ZeroShotItem(image=torch.rand(3, 112, 112), image_path="somewhere/0.png", category=category)
    model = make_model(visualizer=ZeroShotVisualizer(output_dir=tmp_path / "a" / "b" / "pictures"))
    loader = DataLoader([item], collate_fn=ZeroShotBatch.collate)
    Engine(default_root_dir=tmp_path / "a" / "b" / "run", **QUIET).predict(model, dataloaders=loader)
    (name,) = (name for name in files(tmp_path) if name.endswith("0.png"))
    assert name.startswith("a/b/pictures/")


def test_score_and_verdict_stand_in_the_corner():
    def draw(score, label, **options):
        item = ImageItem(
            image=torch.full((3, 64, 64), 0.5), anomaly_map=torch.zeros(64, 64), pred_score=torch.tensor(score),
            pred_label=torch.tensor(label),
        )  # fmt: skip
        return np.asarray(ZeroShotVisualizer(**options).visualize(item), float)

    bare = draw(0.73, True, text_config={"enable": False})
    text = draw(0.73, True)
    corner = np.abs(text - draw(0.12, False)).max(axis=-1)
    rows, columns = np.nonzero(corner)
    assert rows.min() > 210  # only the text in the lower left corner differs
    assert columns.max() < 256
    assert np.array_equal(bare, draw(0.12, False, text_config={"enable": False}))
    assert (np.abs(text - bare).max(axis=-1)[rows.min() : rows.max()] > 0).any()


def test_visualize_takes_items_and_batches():
    visualizer = ZeroShotVisualizer()
    batch = ImageBatch(image=torch.rand(3, 3, 64, 64), anomaly_map=torch.rand(3, 64, 64), pred_score=torch.rand(3))
    several = visualizer.visualize(batch)
    assert [picture.size for picture in several] == [(768, 256)] * 3
    item = next(iter(batch))
    for alone in (item, ImageBatch.collate([item])):
        assert np.array_equal(np.asarray(visualizer(alone)), np.asarray(several[0]))
    assert visualizer.visualize(batch.to_numpy())[0].size == (768, 256)
    with pytest.raises(TypeError, match="Unsupported input type"):
        visualizer.visualize("picture.png")


def test_a_filler_mask_is_not_shown():
    def width(has_mask):
        mask = torch.zeros(64, 64, dtype=torch.bool)
        item = ZeroShotItem(image=torch.rand(3, 64, 64), gt_mask=mask, has_mask=has_mask)
        return ZeroShotVisualizer().visualize(item).width

    assert width(has_mask=True) - width(has_mask=False) == 256


@pytest.mark.parametrize("side", [128, 224, 256, 512])
def test_the_longest_title_fits_its_panel(side):
    visualizer = ZeroShotVisualizer(field_size=(side, side))
    font = ImageFont.load_default(visualizer.text_config["size"])
    assert font.getlength("Image + Anomaly Map") + 20 < side  # and ten pixels at each end
    assert ZeroShotVisualizer(text_config={"size": 33}).text_config["size"] == 33
