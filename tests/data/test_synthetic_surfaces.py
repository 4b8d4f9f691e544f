# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

import hashlib
import itertools
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from anomalib.data import AnomalibDataModule, ImageItem
from anomalib.engine import Engine
from anomalib.models import Padim, get_model
from anomalib.visualization import ImageVisualizer
from torchvision.transforms.v2 import Resize

from anomalib_zsad.clip.tokenizer import tokenize
from anomalib_zsad.data import AuxiliaryBatch, SyntheticSurfaces, ZeroShot, ZeroShotBatch
from anomalib_zsad.data.surfaces import CLASSES, DEFECTS, caption, members, render, visible_change
from anomalib_zsad.data.surfaces.canvas import Dice
from anomalib_zsad.data.synthetic_surfaces import SyntheticSurfacesDataset

PAIRS = [(name, defect) for name, entry in CLASSES.items() for defect in entry.defects]

DRAW = """
import hashlib
from anomalib_zsad.data.synthetic_surfaces import SyntheticSurfacesDataset
data = SyntheticSurfacesDataset(40, image_size=48, seed=3)
pictures = {i: data.picture(i) for i in order}
drawn = [p.image.tobytes() + p.mask.tobytes() + p.caption.encode() for _, p in sorted(pictures.items())]
digest = hashlib.sha256(b"".join(drawn)).hexdigest()
"""


def _small(**kwargs):
    settings = {"image_size": 48, "train_images": 30, "val_images": 12, "test_images": 24, "num_workers": 0}
    datamodule = SyntheticSurfaces(**settings | kwargs)
    datamodule.setup()
    return datamodule


# ---- the world ----


def test_enough_of_everything():
    kinds = [entry.kind for entry in CLASSES.values()]
    assert len(CLASSES) >= 24
    assert kinds.count("object") == kinds.count("texture")
    assert len(DEFECTS) >= 12


@pytest.mark.parametrize("table", [CLASSES, DEFECTS])
def test_groups_are_disjoint_and_complete(table):
    seen, unseen = set(members("seen", table)), set(members("unseen", table))
    assert seen.isdisjoint(unseen)
    assert seen | unseen == set(table) == set(members("all", table))
    assert min(len(seen), len(unseen)) >= 5


def test_every_class_has_seen_and_unseen_defects():
    for entry in CLASSES.values():
        assert {DEFECTS[defect].group for defect in entry.defects} == {"seen", "unseen"}
    for group in ("seen", "unseen"):
        kinds = {CLASSES[name].kind for name in members(group, CLASSES)}
        assert kinds == {"texture", "object"}


@pytest.mark.parametrize("name", CLASSES)
def test_every_defect_of_a_class_shows(name):
    for number, defect in enumerate(CLASSES[name].defects):
        picture = render(name, defect, index=number, size=64, difficulty=0.5)
        assert picture.image.shape == (64, 64, 3)
        assert picture.image.dtype == np.uint8
        assert 4 <= picture.mask.sum() < 0.6 * 64 * 64
        normal = render(name, index=number, size=64, difficulty=0.5)
        assert not normal.mask.any()
        assert normal.image.std() > 2  # something is in the picture


@pytest.mark.parametrize("difficulty", [0.0, 1.0])
def test_mask_is_where_the_picture_changed(difficulty):
    """The specimen, light and sensor noise are the same without the defect, so the difference is the defect's."""
    inside, stray = [], []
    for number, (name, defect) in enumerate(PAIRS[::3]):
        arguments = {"index": number, "size": 80, "difficulty": difficulty}
        before, after = render(name, **arguments), render(name, defect, **arguments)
        change = cv2.absdiff(before.image, after.image).max(axis=2).astype(float)
        inside.append(change[after.mask].mean())
        stray.append((change[~after.mask] > 0.15 * change.max() + 12).mean())
    assert np.mean(inside) > 25  # of 255
    assert np.quantile(inside, 0.02) > 9
    assert np.mean(stray) < 0.002
    assert max(stray) < 0.03


def test_visible_change_of_nothing_and_of_a_square():
    before = np.full((64, 64, 3), 0.5, np.float32)
    after = before.copy()
    after[10:20, 10:20, 1] += 0.2
    after[40, 40] += 0.3  # a speck
    mask, contrast = visible_change(before, after)
    assert mask.sum() == 100
    assert mask[10:20, 10:20].all()
    assert contrast == pytest.approx(0.2, abs=1e-3)
    assert not visible_change(before, before)[0].any()


def test_a_picture_is_the_same_scene_at_every_size():
    for name in CLASSES:
        small, large = (render(name, index=5, size=size).image.astype(np.float32) for size in (64, 192))
        shrunk = cv2.resize(large, (64, 64), interpolation=cv2.INTER_AREA)
        a, b = (cv2.GaussianBlur(image, (0, 0), 2.5).ravel() for image in (small, shrunk))
        assert np.corrcoef(a, b)[0, 1] > 0.9, name


def test_the_largest_usual_size():
    picture = render("circuit board", "missing part", size=518)
    assert picture.image.shape == (518, 518, 3)
    assert picture.mask.any()


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="Unknown class 'would'; choose one of wood"):
        render("would")
    with pytest.raises(ValueError, match="'glass' has no defect 'bend'; choose one of scratch"):
        render("glass", "bend")


def test_captions_differ_say_what_is_there_and_can_be_tokenised():
    sentences = {caption(Dice(0, 0, k, name), name, defect) for name, defect in PAIRS for k in range(3)}
    flawless = {caption(Dice(0, 0, k, name), name) for name in CLASSES for k in range(6)}
    assert sentences.isdisjoint(flawless)
    assert len(sentences) > 2 * len(PAIRS)
    assert len(flawless) > 3 * len(CLASSES)
    for name, defect in PAIRS:
        sentence = caption(Dice(1, 0, 0, name), name, defect)
        assert any(word in sentence for word in (name, *CLASSES[name].words))
        assert any(word in sentence for word in (DEFECTS[defect].state, *DEFECTS[defect].words))
    lengths = (tokenize(sorted(sentences | flawless)) != 0).sum(dim=1)
    assert lengths.max() < 25


# ---- the data set ----


def test_pictures_depend_on_the_number_alone():
    """Two processes, drawing in opposite orders."""
    here = {"order": range(39, -1, -1)}
    exec(DRAW, here)
    command = [sys.executable, "-c", f"order = range(40)\n{DRAW}\nprint(digest)"]
    there = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert here["digest"] == there.split()[-1]


def test_seed_split_and_difficulty_change_pictures():
    base = {"seed": 0, "split": "train", "difficulty": 0.5}
    changed = [base, base | {"seed": 1}, base | {"split": "test"}, base | {"difficulty": 0.9}]
    digests = {
        hashlib.sha256(SyntheticSurfacesDataset(1, ["wood"], image_size=48, **settings).picture(0).image).hexdigest()
        for settings in changed
    }
    assert len(digests) == 4


def test_a_picture_stays_whatever_else_is_in_the_set():
    alone = SyntheticSurfacesDataset(6, ["pill"], ["crack"], image_size=48)
    among = SyntheticSurfacesDataset(30, ["wood", "pill", "tile"], ["crack"], image_size=48)
    rows = among.samples.index[among.samples.class_name == "pill"][:6]
    for index, row in enumerate(rows):
        assert alone.samples.image_path[index] == among.samples.image_path[row]
        assert np.array_equal(alone.picture(index).image, among.picture(row).image)


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.5, 1.0])
def test_share_of_anomalies_holds_in_every_class(ratio):
    samples = SyntheticSurfacesDataset(680, anomaly_ratio=ratio).samples
    for _, rows in samples.groupby("class_name"):
        assert abs(rows.label_index.sum() - ratio * len(rows)) < 1
    anomalous = samples[samples.label_index == 1]
    for name, rows in anomalous.groupby("class_name"):
        counts = rows.label.value_counts().reindex(CLASSES[name].defects, fill_value=0)
        assert counts.max() - counts.min() <= 1
    assert (samples[samples.label_index == 0].label == "good").all()
    assert samples.image_path.is_unique


def test_items_are_anomalibs():
    data = SyntheticSurfacesDataset(4, ["coin"], anomaly_ratio=1.0, image_size=64, augmentations=Resize((32, 40)))
    item = data[1]
    assert isinstance(item, ImageItem)
    assert item.image.shape == (3, 32, 40)
    assert item.gt_mask.shape == (32, 40)
    assert 0 <= item.image.min() < item.image.max() <= 1
    assert item.gt_mask.any()
    assert bool(item.gt_label)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["would"]}, "Unknown name 'would'"),
        ({"classes": ["wood"], "defects": ["print fault"]}, "None of print fault happens to wood"),
        ({"image_size": 8}, r"image_size must lie in \[32, inf\], got 8"),
        ({"difficulty": 2.0}, r"difficulty must lie in \[0, 1\], got 2.0"),
        ({"anomaly_ratio": -0.1}, "anomaly_ratio must lie in"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        SyntheticSurfacesDataset(4, **arguments)


# ---- the datamodule ----


def test_splits_have_the_types_and_groups_that_they_should():
    datamodule = _small()
    train, val, test = (
        list(loader)
        for loader in (datamodule.train_dataloader(), datamodule.val_dataloader(), datamodule.test_dataloader())
    )
    assert all(type(batch) is AuxiliaryBatch for batch in (*train, *val))
    assert all(type(batch) is ZeroShotBatch for batch in test)
    for batches, classes, defects in ((train, "seen", "seen"), (val, "seen", "seen"), (test, "unseen", "all")):
        assert {name for batch in batches for name in batch.class_name} <= set(members(classes, CLASSES))
        assert {kind for batch in batches for kind in batch.defect_type} <= {"", *members(defects, DEFECTS)}
        assert all(batch.has_mask.all() for batch in batches)
        for batch in batches:
            marked = batch.gt_mask.flatten(1).any(dim=1)
            assert torch.equal(marked, batch.gt_label.bool())
            assert [bool(kind) for kind in batch.defect_type] == batch.gt_label.tolist()
    assert {len(datamodule.train_data), len(datamodule.val_data), len(datamodule.test_data)} == {30, 12, 24}


def test_workers_draw_the_same_pictures():
    alone, shared = (list(_small(num_workers=workers).test_dataloader()) for workers in (0, 2))
    for a, b in zip(alone, shared, strict=True):
        assert torch.equal(a.image, b.image)
        assert a.image_path == b.image_path


def test_one_category_is_all_that_there_is():
    datamodule = SyntheticSurfaces(image_size=48, category="metal_nut", num_workers=0)
    assert datamodule.category == "metal_nut"
    assert "brushed_metal" in datamodule.categories
    datamodule.setup()
    for data in (datamodule.train_data, datamodule.val_data, datamodule.test_data):
        assert set(data.samples.class_name) == {"metal nut"}
        assert data.has_normal
        assert data.has_anomalous
    with pytest.raises(ValueError, match="Unknown name 'nut'"):
        datamodule.category = "nut"


def test_serves_as_source_and_as_target_of_zero_shot():
    arguments = {"image_size": 48, "test_images": 24}
    source = SyntheticSurfaces(classes=["wood", "pill"], test_classes=["wood", "pill"], **arguments)
    learned = ZeroShot(source=source, num_workers=0)
    learned.setup("fit")
    batch = next(iter(learned.train_dataloader()))
    assert type(batch) is AuxiliaryBatch
    assert set(learned.train_data.samples.category) == {"wood", "pill"}
    assert set(learned.train_data.samples.defect_type) - {""} <= {*CLASSES["wood"].defects, *CLASSES["pill"].defects}

    tested = ZeroShot(target=SyntheticSurfaces(test_classes=["coin"], classes=["coin"], **arguments), num_workers=0)
    tested.setup("test")
    assert type(next(iter(tested.test_dataloader()))) is ZeroShotBatch
    assert len(tested.test_data) == 24

    both = ZeroShot(
        source=SyntheticSurfaces(test_classes="seen", **arguments | {"test_images": 96}),
        target=SyntheticSurfaces(classes="unseen", **arguments),
        num_workers=0,
    )
    both.setup()
    assert set(both.train_data.samples.class_name) == set(members("seen", CLASSES))
    assert set(both.test_data.samples.class_name) == set(members("unseen", CLASSES))


def test_anomalibs_engine_trains_tests_and_draws_without_files(tmp_path):
    """Its own model resizes the pictures, its own visualizer writes them."""
    arguments = {"train_images": 4, "val_images": 4, "test_images": 4, "num_workers": 0}
    datamodule = SyntheticSurfaces(classes=["wood"], test_classes=["coin"], image_size=64, **arguments)
    model = get_model(
        "Padim",
        backbone="resnet18",
        layers=["layer3"],
        pre_trained=False,
        n_features=4,
        pre_processor=Padim.configure_pre_processor(image_size=(72, 72)),
        visualizer=ImageVisualizer(field_size=(64, 64)),
    )
    engine = Engine(default_root_dir=tmp_path, accelerator="cpu", devices=1, logger=False)
    engine.train(model, datamodule=datamodule)
    assert datamodule.test_data[0].image.shape[-2:] == (72, 72)
    names = {path.relative_to(path.parents[1]).as_posix() for path in tmp_path.rglob("images/**/*.png")}
    assert len(names) == 4
    assert "good/000000.png" in names or "good/000001.png" in names
    written = cv2.imread(str(next(tmp_path.rglob("images/**/*.png"))))
    assert written.std() > 5


def test_is_an_anomalib_datamodule_that_reads_a_configuration(tmp_path):
    path = tmp_path / "data.yaml"
    path.write_text(
        "class_path: SyntheticSurfaces\n"
        "init_args:\n  classes: [wood, coin]\n  test_classes: unseen\n  image_size: 64\n  anomaly_ratio: 0.25\n"
    )
    datamodule = AnomalibDataModule.from_config(path)
    assert datamodule.classes == ("wood", "coin")
    assert datamodule.test_classes == members("unseen", CLASSES)
    assert datamodule.anomaly_ratio == pytest.approx(0.25)


def test_a_blur_difference_does_not_find_the_defects():
    """The control of every figure on these pictures: the strongest difference from the blurred picture."""
    scores, labels = [], []
    for number, (name, defect) in enumerate(itertools.chain(PAIRS, ((name, "") for name, _ in PAIRS))):
        image = render(name, defect, index=number, size=64).image.astype(np.float32)
        scores.append(np.abs(image - cv2.GaussianBlur(image, (0, 0), 2.0)).mean(axis=2).max())
        labels.append(bool(defect))
    scores, labels = np.array(scores), np.array(labels)
    ranks = scores.argsort().argsort() + 1.0
    anomalous, normal = labels.sum(), (~labels).sum()
    auroc = (ranks[labels].sum() - anomalous * (anomalous + 1) / 2) / (anomalous * normal)
    assert auroc < 0.65


def test_takes_the_pair_that_anomalib_makes_of_a_size():
    assert SyntheticSurfaces(image_size=(96, 96)).image_size == 96
    with pytest.raises(ValueError, match="square"):
        SyntheticSurfaces(image_size=(96, 64))
