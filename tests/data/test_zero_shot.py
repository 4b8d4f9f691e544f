# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""The ZeroShot datamodule: what trains, what calibrates, what is tested, and what is refused."""

import json
import logging
import os
import sys
from pathlib import Path

import pytest
import torch
from anomalib.data import Folder, ImageBatch, MVTecAD, get_datamodule
from anomalib.engine import Engine
from anomalib.models import Padim
from anomalib.pipelines.tiled_ensemble.components.utils.ensemble_tiling import EnsembleTiler, TileCollater
from torchvision.transforms.v2 import Resize

from anomalib_zsad.data import (
    AuxiliaryBatch,
    AuxiliaryDataset,
    MetaJson,
    SyntheticSurfaces,
    ZeroShot,
    ZeroShotBatch,
    ZeroShotDataset,
)


def zero_shot(**arguments):
    return ZeroShot(**{"num_workers": 0, **arguments})


def paths(dataset):
    return set(dataset.samples.image_path)


@pytest.fixture
def root(mvtec):
    return mvtec({"bottle": {"crack": 10, "cut": 3}, "cable": {"bent_wire": 6}, "metal_nut": {"bent": 2}}, good=12)


@pytest.fixture
def source(root):
    return {"source": MVTecAD(root=root), "source_categories": ["bottle", "metal_nut"]}


@pytest.fixture
def target(root):
    return {"target": MVTecAD(root=root), "target_categories": ["cable"]}


# ---- what is used for what -----------------------------------------------------------------------------------------


def test_training_calibration_and_test_data(source, target, root):
    datamodule = zero_shot(**source, **target, calibration_ratio=0.2)
    datamodule.setup()
    train, val, test = datamodule.train_data, datamodule.val_data, datamodule.test_data

    assert (type(train), type(val), type(test)) == (AuxiliaryDataset, AuxiliaryDataset, ZeroShotDataset)
    everything = {str(path) for name in ("bottle", "metal_nut") for path in (root / name / "test").rglob("*.png")}
    assert paths(train) | paths(val) == everything
    assert not paths(train) & paths(val)
    assert paths(test) == {str(path) for path in (root / "cable" / "test").rglob("*.png")}
    assert val.samples.groupby(["category", "label"]).size().to_dict() == {
        ("bottle", "abnormal"): 3,
        ("bottle", "normal"): 2,
        ("metal_nut", "abnormal"): 1,
        ("metal_nut", "normal"): 2,
    }
    assert set(train.samples.class_name) == {"bottle", "metal nut"}

    for loader, kind in (
        (datamodule.train_dataloader(), AuxiliaryBatch),
        (datamodule.val_dataloader(), AuxiliaryBatch),
        (datamodule.test_dataloader(), ZeroShotBatch),
        (datamodule.predict_dataloader(), ZeroShotBatch),
    ):
        batches = list(loader)
        assert {type(batch) for batch in batches} == {kind}
        assert max(len(batch) for batch in batches) == 8
        assert all(batch.gt_mask.flatten(1).any(1).equal(batch.gt_label) for batch in batches)


def test_calibration_share_is_reproducible(source):
    shares = []
    for seed in (0, 0, 1):
        datamodule = zero_shot(**source, seed=seed)
        datamodule.setup()
        shares.append(paths(datamodule.val_data))
    assert shares[0] == shares[1] != shares[2]


@pytest.mark.parametrize(
    ("arguments", "bottles"),
    [
        ({}, (12, 13)),
        ({"max_anomalies_per_class": 4}, (12, 4)),
        ({"max_images_per_class": 10}, (5, 5)),
        ({"max_images_per_class": 10, "max_anomalies_per_class": 4}, (8, 2)),
    ],
)
def test_limits(source, target, arguments, bottles):
    datamodule = zero_shot(**source, **target, **arguments)
    datamodule.setup()
    both = [*datamodule.train_data.samples.itertuples(), *datamodule.val_data.samples.itertuples()]
    labels = [sample.label_index for sample in both if sample.category == "bottle"]
    assert (labels.count(0), labels.count(1)) == bottles
    assert len(datamodule.test_data) == 18, "limits are for the source"


def test_the_whole_test_split_is_tested_whatever_the_nested_options(folder):
    """anomalib's Folder would keep half of it for validation."""
    arguments = folder(normal=3, normal_test=6, abnormal=4)
    for options in (
        {},
        {"val_split_mode": "from_test"},
        {"test_split_mode": "none"},
        {"val_split_mode": "same_as_test"},
    ):
        datamodule = zero_shot(target=Folder(**arguments, **options))
        datamodule.setup("test")
        assert datamodule.test_data.samples.label_index.value_counts().to_dict() == {0: 6, 1: 4}


def test_normal_images_of_the_training_split_complete_a_test_split_without(folder):
    datamodule = zero_shot(target=Folder(**folder(normal=5, abnormal=4)))
    datamodule.setup("test")
    assert datamodule.test_data.samples.label_index.value_counts().to_dict() == {0: 5, 1: 4}


def test_a_published_test_split_is_not_completed(mvtec, tmp_path):
    """Index files of sets without normal test images hold a dummy one for training, and TN3K trains on nodules."""
    root = mvtec({"skin": {"lesion": 3}})
    entries = {
        split: {
            "skin": [
                {"img_path": path.relative_to(root).as_posix(), "cls_name": "skin", "anomaly": int(kind != "good")}
                for kind in kinds
                for path in sorted((root / "skin" / folder / kind).iterdir())
            ]
        }
        for split, folder, kinds in (("train", "train", ["good"]), ("test", "test", ["lesion"]))
    }
    (root / "meta.json").write_text(json.dumps(entries))
    datamodule = zero_shot(target=MetaJson(root))
    datamodule.setup("test")
    assert datamodule.test_data.samples.label_index.tolist() == [1, 1, 1]


def test_source_split_all(root, source):
    datamodule = zero_shot(**source, source_split="all")
    datamodule.setup("fit")
    assert len(datamodule.train_data) + len(datamodule.val_data) == 4 * 12 + 13 + 2


def test_several_sources_and_targets(root, folder):
    datamodule = zero_shot(
        source=[MVTecAD(root=root), Folder(**folder("screws"))],
        target=[Folder(**folder("nails")), Folder(**folder("bolts", masks=False))],
        source_categories=["cable", "screws"],
        class_words={"nails": "Iron_nail"},
    )
    datamodule.setup()
    assert set(datamodule.train_data.samples.dataset) == {"MVTecAD", "screws"}
    assert set(datamodule.test_data.samples.class_name) == {"iron nail", "bolts"}
    assert set(datamodule.test_data.samples.category) == {"nails", "bolts"}
    masks = torch.cat([batch.has_mask for batch in datamodule.test_dataloader()])
    assert masks.sum() == 10
    assert datamodule.category == "MVTecAD+screws-to-nails+bolts"


def test_equal_category_names_stay_apart(mvtec):
    class Other(MVTecAD):
        pass

    one, two = mvtec({"cable": {"cut": 2}}, "one"), mvtec({"cable": {"cut": 3}}, "two")
    datamodule = zero_shot(target=[MVTecAD(root=one), Other(root=two)], target_categories=["cable"])
    datamodule.setup("test")
    assert set(datamodule.test_data.samples.category) == {"MVTecAD/cable", "Other/cable"}
    assert set(datamodule.test_data.samples.class_name) == {"cable"}


def test_leave_one_category_out(root):
    classes = ["bottle", "cable", "metal_nut"]
    datamodule = zero_shot(
        source=MVTecAD(root=root), target=MVTecAD(root=root), source_categories=classes,
        target_categories=["cable"], exclude_classes=["cable"],
    )  # fmt: skip
    datamodule.setup()
    assert set(datamodule.train_data.samples.category) == {"bottle", "metal_nut"}
    assert set(datamodule.test_data.samples.category) == {"cable"}
    assert (datamodule.name, datamodule.category) == ("ZeroShot", "MVTecAD-to-MVTecAD.cable")


def test_augmentations_are_those_given_here(root, source, target):
    source["source"] = MVTecAD(root=root, train_augmentations=Resize((5, 5)))
    datamodule = zero_shot(**source, **target, augmentations=Resize((8, 9)), train_augmentations=Resize((6, 7)))
    datamodule.setup()
    shapes = [data[0].image.shape for data in (datamodule.train_data, datamodule.val_data, datamodule.test_data)]
    assert shapes == [(3, 6, 7), (3, 8, 9), (3, 8, 9)]


def test_source_without_masks(folder, caplog):
    datamodule = zero_shot(source=Folder(**folder(masks=False)))
    with caplog.at_level(logging.WARNING):
        datamodule.setup("fit")
    assert "no masks: only the losses on images train" in caplog.text
    (batch,) = datamodule.train_dataloader()
    assert batch.gt_mask is None
    assert not batch.has_mask.any()


def test_name_and_category():
    assert ZeroShot(source="Visa", target="MVTecAD").category == "Visa-to-MVTecAD"
    assert ZeroShot(source="Visa").category == "Visa"
    assert ZeroShot(target=Folder("a/b", normal_dir="x")).category == "a-b"
    assert ZeroShot(source="Visa").name == "ZeroShot"


# ---- through anomalib's pipelines ----------------------------------------------------------------------------------


def test_get_datamodule_passes_plain_dictionaries(root, monkeypatch):
    monkeypatch.setattr("anomalib.data.ZeroShot", ZeroShot, raising=False)
    nested = {"class_path": "MVTecAD", "init_args": {"root": str(root)}}
    config = {
        "class_path": "ZeroShot",
        "init_args": {
            "source": [nested], "target": nested, "source_categories": ["bottle"], "target_categories": ["cable"],
            "class_words": {"cable": "wire"}, "num_workers": 0,
        },
    }  # fmt: skip
    datamodule = get_datamodule({"data": config})
    datamodule.setup()
    assert set(datamodule.train_data.samples.category) == {"bottle"}
    assert set(datamodule.test_data.samples.class_name) == {"wire"}


def test_tiled_ensembles_collate_function_keeps_our_batches(source):
    datamodule = zero_shot(**source, augmentations=Resize((64, 64)))
    datamodule.setup()
    tiler = EnsembleTiler((32, 32), (32, 32), (64, 64))
    datamodule.external_collate_fn = TileCollater(tiler, (0, 1), default_collate_fn=ImageBatch.collate)
    batch = next(iter(datamodule.train_dataloader()))
    assert type(batch) is AuxiliaryBatch
    assert batch.image.shape[2:] == batch.gt_mask.shape[1:] == (32, 32)


# ---- through the engine --------------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path):
    return lambda: Engine(
        default_root_dir=tmp_path / "results", accelerator="cpu", devices=1, logger=False, enable_progress_bar=False
    )


def padim(cls=Padim):
    return cls(
        pre_trained=False, layers=["layer1"], n_features=5, visualizer=False,
        pre_processor=Padim.configure_pre_processor((32, 32)),
    )  # fmt: skip


def test_train_tests_the_target(engine, source, target, tmp_path):
    datamodule = zero_shot(**source, **target)
    (results,) = engine().train(padim(), datamodule=datamodule)
    assert {"image_AUROC", "pixel_AUROC"} <= results.keys()
    assert datamodule.train_data[0].image.shape == (3, 32, 32), "the model's resize was not applied"
    assert (tmp_path / "results" / "Padim" / "ZeroShot" / "MVTecAD-to-MVTecAD.cable").is_dir()


def test_train_without_a_target_ends_after_training(engine, source, caplog):
    assert engine().train(padim(), datamodule=zero_shot(**source)) == []
    assert "no target, so nothing is tested" in caplog.text


def test_test_and_predict_do_not_touch_the_source(engine, source, target, tmp_path):
    model = padim()
    engine().fit(model, datamodule=zero_shot(**source))
    absent = MVTecAD(root=tmp_path / "absent")  # would be downloaded
    (results,) = engine().test(model, datamodule=zero_shot(source=absent, source_categories=["bottle"], **target))
    assert "image_AUROC" in results
    batches = engine().predict(
        model, datamodule=zero_shot(source=absent, source_categories=["bottle"], **target), return_predictions=True
    )
    assert {type(batch) for batch in batches} == {ZeroShotBatch}
    assert not (tmp_path / "absent").exists()


class ZeroShotPadim(Padim):
    """Stands for our models with their weights given, calibration and all."""

    zero_shot = calibrated = True


def test_validating_a_zero_shot_model_needs_no_source(engine, target, tmp_path):
    absent = MVTecAD(root=tmp_path / "absent")
    datamodule = zero_shot(source=absent, source_categories=["bottle"], **target)
    model = padim(ZeroShotPadim)
    engine().validate(model, datamodule=datamodule)
    assert not (tmp_path / "absent").exists()
    assert not hasattr(datamodule, "test_data")


def test_validate_reads_the_calibration_share(engine, source, target):
    model = padim()
    engine().fit(model, datamodule=zero_shot(**source))
    datamodule = zero_shot(**source, **target)
    engine().validate(model, datamodule=datamodule)
    assert not hasattr(datamodule, "test_data")
    assert type(datamodule.val_data) is AuxiliaryDataset


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give source .* target .* or both"),
        ({"source": "Visaa"}, "Unknown datamodule 'Visaa' as source. Known are .*Visa"),
        ({"source": "Visa", "source_split": "val"}, "source_split must be 'test', 'train' or 'all', got 'val'"),
        ({"source": "Visa", "calibration_ratio": 0.0}, "calibration_ratio must lie between 0 and 1"),
        ({"source": "Visa", "calibration_ratio": 1.0}, "calibration_ratio must lie between 0 and 1"),
        ({"source": "Visa", "max_images_per_class": 0}, "max_images_per_class must be at least 1"),
        ({"source": "Visa", "max_anomalies_per_class": -1}, "max_anomalies_per_class must be at least 1"),
        ({"source": "BTech", "source_categories": ["04"]}, "Unknown source_categories 04. The source has 01, 02, 03"),
        ({"target": "BTech", "target_categories": ["04"]}, "Unknown target_categories 04. The target has 01, 02, 03"),
        ({"source": "BTech", "exclude_classes": ["4"]}, "Unknown exclude_classes 4. The source has 01, 02, 03"),
        ({"source": "BTech", "exclude_classes": ["01", "02", "03"]}, "leaves no class"),
        (
            {"source": "BTech", "class_words": {"1": "x"}},
            "class_words names unknown categories 1. Known are 01, 02, 03",
        ),
        ({"source": "BTech", "target": "BTech"}, r"share 01, 02, 03.*exclude_classes: \[01, 02, 03\]"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ZeroShot(**arguments)


def test_stages_without_their_data(source, target):
    with pytest.raises(ValueError, match=r"no source to train on: give --data\.source"):
        zero_shot(**target).setup("fit")
    with pytest.raises(ValueError, match=r"no target to test on: give --data\.target"):
        zero_shot(**source).setup("test")


def test_source_without_anomalies(folder, root):
    with pytest.raises(ValueError, match="has no anomalous images to learn from"):
        zero_shot(source=Folder(**folder(abnormal=0))).setup("fit")
    with pytest.raises(ValueError, match=r"split 'train'\) has no anomalous images"):
        zero_shot(source=MVTecAD(root=root), source_categories=["cable"], source_split="train").setup("fit")


@pytest.mark.parametrize("stages", [["fit"], ["validate", "test"], ["test", "validate"]])
def test_shared_files(stages, folder, tmp_path):
    """Through other names and links: the same file is the same image, whichever side is looked at first."""
    arguments = folder("screws")
    (tmp_path / "link").symlink_to(tmp_path / "screws")
    other = Folder(**{**arguments, "name": "nails", "root": str(tmp_path / "link")})
    datamodule = zero_shot(source=Folder(**arguments), target=other)
    *before, last = stages
    for stage in before:
        datamodule.setup(stage)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"10 images are in source and target.*exclude_classes: \[screws\]"):
            datamodule.setup(last)
    zero_shot(target=other).setup("test")


def test_files_without_numbers_are_told_by_their_place(folder, tmp_path, monkeypatch):
    """As on network drives: images are not all the same, and links do not hide those that are."""
    stat_of = os.stat

    def numberless(*arguments, **options):
        status = stat_of(*arguments, **options)
        return os.stat_result((status[0], 0, *status[2:]))

    screws, nails = folder("screws"), folder("nails")
    (tmp_path / "link").symlink_to(tmp_path / "screws")
    monkeypatch.setattr(os, "stat", numberless)
    zero_shot(source=Folder(**screws), target=Folder(**nails)).setup()
    linked = Folder(**{**screws, "name": "nails", "root": str(tmp_path / "link")})
    with pytest.raises(ValueError, match="10 images are in source and target"):
        zero_shot(source=Folder(**screws), target=linked).setup()


def test_category_shared_over_splits(root):
    """Other images of the same object are no unseen object."""
    arguments = {"source_categories": ["cable"], "target_categories": ["cable"], "source_split": "train"}
    with pytest.raises(ValueError, match="share cable"):
        zero_shot(source=MVTecAD(root=root), target=MVTecAD(root=root, test_split_mode="none"), **arguments)


@pytest.mark.parametrize("role", ["source", "target"])
def test_a_download_that_fails_names_data_and_place(tmp_path, role, monkeypatch):
    def fail(*_):
        msg = "urlopen error"
        raise OSError(msg)

    monkeypatch.setattr(sys.modules[MVTecAD.__module__], "download_and_extract", fail)
    data = zero_shot(**{role: MVTecAD(root=tmp_path / "absent")})
    with pytest.raises(RuntimeError, match=r"MVTecAD is not at .*absent and could not be downloaded \(urlopen error\)"):
        data.prepare_data()


@pytest.mark.parametrize("role", ["source", "target"])
def test_absent_and_empty_folders(folder, tmp_path, role):
    stage = {"source": "fit", "target": "test"}[role]
    absent = Folder("parts", root=tmp_path / "absent", normal_dir="normal")
    with pytest.raises(RuntimeError, match=r"Cannot set up parts: Path does not exist: .*absent"):
        zero_shot(**{role: absent}).setup(stage)
    arguments = folder()
    for image in Path(arguments["root"], "normal").iterdir():
        image.unlink()
    with pytest.raises(RuntimeError, match=r"Cannot set up parts: Found 0 .* images in .*/normal"):
        zero_shot(**{role: Folder(**arguments)}).setup(stage)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folder(folder):
    arguments = folder()
    directory = Path(arguments["root"], "normal")
    directory.chmod(0)
    try:
        with pytest.raises(RuntimeError, match=r"Cannot set up parts: .*[Pp]ermission"):
            zero_shot(source=Folder(**arguments)).setup("fit")
    finally:
        directory.chmod(0o755)


def test_real_images(magnetic_tile, hazelnut):
    datamodule = zero_shot(
        source=Folder(**magnetic_tile()), target=Folder(**hazelnut), augmentations=Resize((64, 64), antialias=True)
    )
    datamodule.setup()
    assert (len(datamodule.train_data), len(datamodule.val_data), len(datamodule.test_data)) == (36, 4, 23)
    batch = next(iter(datamodule.train_dataloader()))
    assert set(batch.class_name) == {"magnetic tile"}
    batch = next(iter(datamodule.test_dataloader()))
    assert (set(batch.class_name), batch.gt_mask.shape) == ({"hazelnut"}, (8, 64, 64))


def test_pictures_that_are_no_files(folder):
    made = SyntheticSurfaces(image_size=32, test_images=340)
    datamodule = zero_shot(source=made, source_categories=["wood", "coin"], target=Folder(**folder()))
    datamodule.setup()
    assert set(datamodule.train_data.samples.class_name) == {"wood", "coin"}
    datamodule = zero_shot(
        source=made, target=made, source_categories=["wood"], target_categories=["coin"], max_images_per_class=4
    )
    datamodule.setup()
    assert len(datamodule.train_data) + len(datamodule.val_data) == 4


def test_data_is_prepared_for_the_stage_only(engine, root):
    class Recorder(MVTecAD):
        prepared = []  # noqa: RUF012

        def prepare_data(self):
            self.prepared.append(self.category)

    arguments = {
        "source": Recorder(root=root), "source_categories": ["bottle", "metal_nut"],
        "target": Recorder(root=root), "target_categories": ["cable"],
    }  # fmt: skip
    zero_shot(**arguments).prepare_data()
    assert Recorder.prepared == ["bottle", "metal_nut", "cable"]
    model = padim(ZeroShotPadim)
    for command, prepared in (("validate", []), ("fit", ["bottle", "metal_nut", "cable"]), ("test", ["cable"])):
        Recorder.prepared.clear()
        getattr(engine(), command)(model, datamodule=zero_shot(**arguments))
        assert Recorder.prepared == prepared


def test_a_style_of_words_goes_for_every_class_and_for_the_sets_own_style_too(monkeypatch):
    from anomalib_zsad.data import HeadCT

    data = ZeroShot(source="BTech", class_words="bayes_pfl")
    assert {one.category: data._word(one) for one in data._source_classes} == {
        "01": "metal1", "02": "wood", "03": "metal2",
    }  # fmt: skip
    assert data.word_style == "bayes_pfl"
    with pytest.raises(ValueError, match="no style of words 'klingon'; choose from object, folder"):
        ZeroShot(source="BTech", class_words="klingon")
    (one,) = ZeroShot(target=HeadCT(class_words="bayes_pfl"))._target_classes
    assert one.class_name == HeadCT(class_words="bayes_pfl").class_word(one.category)


def test_a_style_of_words_is_that_of_each_data_set_where_two_share_a_class():
    from anomalib_zsad.data import Br35H, BrainMRI

    names = ("BrainMRI/brain_mri", "Br35H/brain_mri")
    for style, words in (("bayes_pfl", ("brain ct", "brain")), ("adaclip", ("brain_mri", "br35h"))):
        data = ZeroShot(target=[BrainMRI(), Br35H()], class_words=style)
        assert data.target_words == dict(zip(names, words, strict=True))


def test_limits_that_leave_too_little_are_refused():
    source = SyntheticSurfaces(image_size=48, test_classes="seen", test_images=96)
    with pytest.raises(ValueError, match="no normal images after its limits"):
        zero_shot(source=source, max_images_per_class=1).setup("fit")
    for most in (2, 3):
        enough = zero_shot(source=source, max_images_per_class=most)
        enough.setup("fit")
        assert set(enough.val_data.samples.label_index) == {0, 1}
        assert len(enough.val_data) + len(enough.train_data) == most * enough.train_data.samples.category.nunique()
    one_class = zero_shot(source=source, source_categories=["wood"], max_images_per_class=2)
    with pytest.raises(ValueError, match="of 2 images of the source no two are normal"):
        one_class.setup("fit")
