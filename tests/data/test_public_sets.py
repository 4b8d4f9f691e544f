# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""The field's public data sets: every layout, in miniature, by itself and within ZeroShot; BrainMRI as it is."""

import csv
import importlib.util
from collections import Counter
from pathlib import Path

import anomalib.data
import numpy as np
import pytest
import torch
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import AnomalibDataModule
from jsonargparse import ArgumentParser
from PIL import Image

import anomalib_zsad.data
from anomalib_zsad.data import (
    AITEX,
    DAGM,
    KSDD2,
    RSDD,
    TN3K,
    BrainMRI,
    Endo,
    Kvasir,
    MADReal,
    MADSim,
    ZeroShot,
    use_auxiliary_data,
)
from anomalib_zsad.data.known_sets import PUBLIC, SETS
from anomalib_zsad.data.layouts import cut, key, masks_in, read_marks

_spec = importlib.util.spec_from_file_location("field_trees", Path(__file__).with_name("field_trees.py"))
trees = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(trees)


def counted(samples):
    labels = samples.label_index.astype(int)
    return (int((labels == 0).sum()), int((labels == 1).sum()))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Every tree, made when it is first asked for: root, counts, defects."""
    made = {}

    def get(name):
        if name not in made:
            root = tmp_path_factory.mktemp(name)
            made[name] = (root, *trees.plant(name, root))
        return made[name]

    return get


def test_every_public_set_has_a_datamodule_and_a_tree():
    names = {layout.name for layout in PUBLIC}
    assert names == trees.PUBLIC.keys()
    assert names == {
        name for name in anomalib_zsad.data.__all__ if hasattr(getattr(anomalib_zsad.data, name), "layout")
    }


@pytest.mark.parametrize("name", trees.PUBLIC)
def test_a_set_by_itself(name, planted):
    root, counts, defects = planted(name)
    datamodule = getattr(anomalib_zsad.data, name)(root, num_workers=0, eval_batch_size=5)
    datamodule.setup("test")
    assert counted(datamodule.test_data.samples) == counts["test"]
    assert counted(datamodule.train_data.samples) == (counts.get("train", (0, 0))[0], 0)
    assert len(datamodule.val_data) == len(datamodule.test_data)
    assert datamodule.task == ("classification" if name in {"HeadCT", "BrainMRI", "Br35H"} else "segmentation")
    assert datamodule.test_data.samples.image_path.is_unique

    seen, words = Counter(), set()
    for batch in datamodule.test_dataloader():
        assert batch.image.shape[1] == 3
        assert 0 <= batch.image.min() <= batch.image.max() <= 1
        words |= set(batch.class_name)
        seen.update(kind for kind in batch.defect_type if kind)
        if batch.gt_mask is not None:
            assert batch.gt_mask.shape[-2:] == batch.image.shape[-2:]
            assert (batch.gt_mask.flatten(1).any(1) == batch.gt_label).all()
    assert seen.keys() == defects
    assert seen.total() == counts["test"][1]
    assert len(words) == len(datamodule.categories)


@pytest.mark.parametrize("name", trees.PUBLIC)
def test_a_set_as_target_and_as_source(name, planted):
    root, counts, defects = planted(name)
    datamodule = getattr(anomalib_zsad.data, name)(root)
    target = ZeroShot(target=datamodule, num_workers=0)
    target.setup("test")
    samples = target.test_data.samples
    assert counted(samples) == counts["test"]
    assert set(samples.category) == set(datamodule.categories)
    assert set(samples.defect_type) - {""} == defects
    masked = name not in {"HeadCT", "BrainMRI", "Br35H"}
    assert samples.has_mask.all() == samples.has_mask.any() == masked
    item = target.test_data[int(np.flatnonzero(samples.label_index)[0])]
    assert (item.gt_mask is not None) == masked

    if not counts["test"][0]:
        return  # nothing normal to learn from
    source = ZeroShot(source=datamodule, num_workers=0, calibration_ratio=0.2, source_split="all")
    source.setup("fit")
    total = counted(source.train_data.samples)[1] + counted(source.val_data.samples)[1]
    assert total == sum(anomalous for _, anomalous in counts.values())
    assert next(iter(source.train_dataloader())).image.ndim == 4


def test_one_class_several_and_all(planted):
    root, *_ = planted("DAGM")
    assert (DAGM(root).category, DAGM(root, "Class3").category) == ("", "Class3")
    for category, classes in (
        ("Class3", ["Class3"]),
        (["Class1", "Class10"], ["Class1", "Class10"]),
        ("seven", [f"Class{n}" for n in (1, 2, 3, 4, 5, 7, 8)]),
        ("all", [f"Class{n}" for n in range(1, 11)]),
    ):
        datamodule = DAGM(root, category)
        datamodule.setup()
        assert set(datamodule.test_data.samples.category) == set(classes)
    with pytest.raises(ValueError, match=r"DAGM has no category 'Class11'; it has all, seven, Class1, "):
        DAGM(root, "Class11")


@pytest.mark.parametrize("name", trees.PUBLIC)
def test_a_wrong_root_shows_the_tree_and_where_to_get_it(name, tmp_path):
    layout = SETS[name]
    (tmp_path / "pictures").mkdir()
    for root, what in ((tmp_path / "none", "there is no such folder"), (tmp_path, "does not look like it")):
        with pytest.raises(FileNotFoundError, match=what) as caught:
            getattr(anomalib_zsad.data, name)(root).setup()
        assert all(text in str(caught.value) for text in (layout.tree, layout.home, layout.licence, str(root)))


@pytest.mark.parametrize("layout", PUBLIC, ids=lambda layout: layout.name)
def test_docstrings_carry_the_facts(layout):
    text = getattr(anomalib_zsad.data, layout.name).__doc__
    assert all(line in text for line in (*layout.tree.splitlines(), layout.home, layout.licence))
    assert all(str(number) in text for pair in layout.counts.values() for number in pair)


def test_published_counts():
    """Those of the published file lists."""
    test = {name: layout.counts.get("test") for name, layout in SETS.items()}
    assert test == {
        "KSDD2": (894, 110), "RSDD": (0, 67 + 128), "DAGM": (6996, 1054), "DTDSynthetic": (357, 947),
        "MADSim": (638, 4951), "MADReal": (50, 221), "AITEX": (140, 105 - 1), "HeadCT": (100, 100),
        "BrainMRI": (98, 155), "Br35H": (1500, 1500), "ISIC": (0, 379), "ColonDB": (0, 380), "ClinicDB": (0, 612),
        "CVC300": (0, 60), "Kvasir": (0, 1000), "Endo": (0, 200), "TN3K": (0, 614), "MVTecAD": (467, 1258),
        "Visa": (962, 1200), "BTech": (451, 290), "MPDD": (176, 282), "RealIAD": None, "Kolektor": (347, 52),
        "BMAD": None,
    }  # fmt: skip
    train = {name: sum(layout.counts["train"]) for name, layout in SETS.items() if "train" in layout.counts}
    assert train == {
        "KSDD2": 2331, "DAGM": 8050, "DTDSynthetic": 1200, "MADSim": 4200, "MADReal": 490,
        "MVTecAD": 3629, "Visa": 8659, "BTech": 1799, "MPDD": 888,
    }  # fmt: skip
    assert [sum(pair) for pair in zip(*SETS["KSDD2"].counts.values(), strict=True)] == [2979, 356]


# ---- the oddities --------------------------------------------------------------------------------------------------


def test_masks_pair_by_name(tmp_path):
    """A missing mask takes none of the others along, and 10 comes after 2, whatever the order of names."""
    for number in (1, 2, 3, 10):
        trees.picture(tmp_path / "images" / f"{number}.jpg")
        if number != 2:
            trees.mask(tmp_path / "masks" / f"{number}.png", box=(number, 4, number + 3, 9))
    datamodule = Endo(tmp_path, num_workers=0)
    datamodule.setup()
    for item in (datamodule.test_data[i] for i in range(4)):
        number = int(Path(item.image_path).stem)
        if number == 2:
            assert (item.gt_mask, item.has_mask, item.mask_path or "") == (None, False, "")
        else:
            assert item.gt_mask.nonzero()[0].tolist() == [4, number]
    (batch,) = datamodule.test_dataloader()
    assert batch.has_mask.tolist() == [Path(path).stem != "2" for path in batch.image_path]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("000_mask.png", "000"), ("Part0_label.bmp", "part0"), ("10000_GT.png", "10000"),
        ("0044_0_04_mask2.png", "0044_0_04"),
        ("ISIC_003_Segmentation.png", "isic_003"), ("cju0.JPG", "cju0"), ("gt.png", "gt"), ("mask1.png", "mask1"),
    ],
)  # fmt: skip
def test_key_of_image_and_mask(name, found):
    assert key(Path(name)) == found


def test_ksdd2_needs_its_masks(tmp_path):
    trees.plant("KSDD2", tmp_path)
    (tmp_path / "test" / "20001_GT.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"20001\.png has no mask beside it, so that its label is not known"):
        KSDD2(tmp_path).setup()


def test_defects_of_the_training_split_are_for_zero_shot(planted):
    root, *_ = planted("KSDD2")
    datamodule = KSDD2(root)
    datamodule.setup()
    assert not datamodule.train_data.has_anomalous
    learning = ZeroShot(source=KSDD2(root), source_split="train", calibration_ratio=0.5)
    learning.setup("fit")
    assert counted(learning.train_data.samples) == counted(learning.val_data.samples) == (1, 1)


def test_no_training_images(planted):
    datamodule = TN3K(planted("TN3K")[0])
    datamodule.setup()
    with pytest.raises(ValueError, match="TN3K has no normal training images"):
        datamodule.train_dataloader()


@pytest.mark.parametrize("content", ["cut", "text", "empty"])
def test_a_mask_that_cannot_be_read_is_named(content, tmp_path):
    """KSDD2 tells by its masks which images are anomalous."""
    trees.plant("KSDD2", tmp_path)
    mask = tmp_path / "test" / "20001_GT.png"
    mask.write_bytes({"cut": mask.read_bytes()[:-30], "text": b"no image", "empty": b""}[content])
    with pytest.raises(OSError, match=r"Cannot read mask .*20001_GT\.png: .+\. Replace or remove the file"):
        KSDD2(tmp_path).setup()


def test_jpeg_masks_are_cut_at_half(tmp_path):
    path = trees.mask(tmp_path / "soft.jpg", (64, 64), (20, 20, 40, 40))
    with Image.open(path) as file:
        assert (np.asarray(file) > 0).sum() > 400  # what compression leaves around the edges
    assert read_marks([path]).sum() == 400
    assert read_marks([trees.mask(tmp_path / "ones.png", value=1)]).sum() == 30


@pytest.mark.parametrize(
    ("mode", "black", "dark"),
    [
        ("RGB", 0, (1, 0, 0)),
        ("RGBA", (0, 0, 0, 255), (0, 0, 1, 255)),
        ("P", 0, 1),
        ("LA", (0, 255), (1, 255)),
        ("L", 0, 1),
        ("1", 0, 1),
        ("I;16", 0, 1),
        ("F", 0, 0.25),
    ],
)
def test_every_pixel_above_0_is_marked_in_masks_of_all_kinds(mode, black, dark, tmp_path):
    image = Image.new(mode, (8, 6), black)
    if mode == "P":
        image.putpalette([0, 0, 0, 0, 1, 0])
    image.putpixel((3, 2), dark)
    image.save(tmp_path / "mask.tif")
    with Image.open(tmp_path / "mask.tif") as saved:
        assert saved.mode == mode
    assert np.argwhere(read_marks([tmp_path / "mask.tif"])).tolist() == [[2, 3]]


def test_squares_of_strips(planted):
    root, *_ = planted("AITEX")
    datamodule = AITEX(root, "fabric_04")
    datamodule.setup()
    marked = datamodule.test_data.samples.query("label_index == 1")
    assert list(marked.box) == [(0, 0, 8, 8), (120, 0, 128, 8)]
    assert [Path(path).name for path in marked.image_path] == ["0044_019_04@0-0.png", "0044_019_04@120-0.png"]
    for index in marked.index:
        item = datamodule.test_data[index]
        with Image.open(root / "Defect_images" / "0044_019_04.png") as file:
            strip = np.asarray(file.convert("RGB"))
        left = datamodule.test_data.samples.box[index][0]
        assert torch.equal((item.image * 255).round().byte().permute(1, 2, 0), torch.tensor(strip[:, left : left + 8]))
        assert item.gt_mask.sum() == (9 if left == 0 else 64)
    assert not AITEX(root, "fabric_03").entries() or all("0106" not in str(e.image) for e in AITEX(root).entries())


def test_squares_cover_the_strip(planted):
    root, *_ = planted("RSDD")
    for entry in SETS["RSDD"].entries(root):
        boxes = [square.box for square in cut(entry)]
        with Image.open(entry.image) as file:
            width, height = file.size
        covered = np.zeros((height, width), bool)
        for left, top, right, bottom in boxes:
            assert (right - left, bottom - top) == (width, width)
            covered[top:bottom, left:right] = True
        assert covered.all()
    assert len(RSDD(root).entries()) == 2 * 7 + 2 * 25


def test_numbers_before_names_do_not_matter(tmp_path):
    trees.like_mvtec(tmp_path, "19Bear", ["Stains"])
    datamodule = MADReal(tmp_path, "Bear")
    datamodule.setup()
    assert counted(datamodule.test_data.samples) == (1, 3)


def test_mask_of_another_size(tmp_path):
    trees.picture(tmp_path / "images" / "1.png")
    trees.mask(tmp_path / "masks" / "1.png", (20, 24))
    datamodule = Kvasir(tmp_path)
    datamodule.setup()
    with pytest.raises(ValueError, match=r"1\.png is 20 x 24 pixels, but its image .* is 24 x 20"):
        _ = datamodule.test_data[0]


def test_masks_in_gathers_several(planted):
    root, *_ = planted("AITEX")
    assert len(masks_in(root / "Mask_images")["0044_019_04"]) == 2


# ---- with anomalib -------------------------------------------------------------------------------------------------


def test_anomalibs_command_line(planted):
    root, *_ = planted("KSDD2")
    model = ["--model", "Padim", "--model.pre_trained", "false"]
    arguments = ["test", *model, "--data", "KSDD2", "--data.root", str(root)]
    datamodule = AnomalibCLI(args=arguments, run=False).datamodule
    assert (type(datamodule), datamodule.root, datamodule.eval_batch_size) == (KSDD2, root, 8)


def parse(*arguments):
    """What anomalib's command makes of its arguments on data."""
    parser = ArgumentParser()
    parser.add_subclass_arguments(AnomalibDataModule, "data", required=False, fail_untyped=False)
    return parser.instantiate_classes(parser.parse_args(list(map(str, arguments)))).data


@pytest.mark.parametrize(
    ("given", "category"),
    [("Class3", "Class3"), ("[Class3, Class5]", ["Class3", "Class5"]), ("seven", "seven")],
)
def test_categories_on_the_command_line(given, category):
    assert parse("--data", "DAGM", "--data.category", given).category == DAGM(category=category).category


def test_as_target_on_the_command_line(planted):
    datamodule = parse("--data", "ZeroShot", "--data.target", "MADSim", "--data.target.root", planted("MADSim")[0])
    assert type(datamodule.target[0]) is MADSim
    assert len(datamodule._target_classes) == 20


def test_names_are_not_anomalibs():
    for layout in PUBLIC:
        assert getattr(anomalib.data, layout.name) is getattr(anomalib_zsad.data, layout.name)


def test_default_root():
    assert Path("datasets", "HeadCT") == anomalib_zsad.data.HeadCT().root


def test_words_follow_the_style(planted):
    root, *_ = planted("DAGM")
    datamodule = DAGM(root, "Class1", class_words="bayes_pfl")
    datamodule.setup()
    assert datamodule.test_data[0].class_name == "Fabric1"
    with pytest.raises(ValueError, match="no style of words 'bayes'; choose from object, folder, anomalyclip"):
        DAGM(root, class_words="bayes")


def test_subsets_keep_their_task(planted):
    datamodule = KSDD2(planted("KSDD2")[0])
    datamodule.setup()
    part = datamodule.test_data.subsample([0, 2])
    assert (len(part), part.task, part.name) == (2, datamodule.test_data.task, "KSDD2")
    with pytest.raises(ValueError, match="No duplicates"):
        part.subsample([0, 0])


# ---- real images ---------------------------------------------------------------------------------------------------


def test_real_brain_mri(real):
    """253 images, not 153: the case of ".JPG" does not matter, nor what the files hold."""
    datamodule = BrainMRI(real / "brain_mri", num_workers=0)
    datamodule.setup()
    samples = datamodule.test_data.samples
    assert counted(samples) == SETS["BrainMRI"].counts["test"] == (98, 155)
    with (real / "brain_mri" / "index.csv").open(encoding="utf-8") as file:
        index = {row["image"]: int(row["label"]) for row in csv.DictReader(file)}
    found = {Path(path).relative_to(real / "brain_mri").as_posix(): int(label)
             for path, label in zip(samples.image_path, samples.label_index, strict=True)}  # fmt: skip
    assert found == index
    modes = {}
    for path in samples.file:
        with Image.open(path) as image:
            modes.setdefault(image.mode, path)
    assert {"L", "RGB"} < modes.keys()
    rows = [samples.index[samples.file == path][0] for path in modes.values()]
    for item in (datamodule.test_data[row] for row in rows):
        assert (item.image.shape[0], item.gt_mask, item.class_name) == (3, None, "brain mri")


def test_training_on_a_set_directly_keeps_the_words_of_its_classes(tmp_path):
    trees.plant("MADSim", tmp_path)
    for wanted in ("all", ["01Gorilla", "02Unicorn"]):
        datamodule = MADSim(tmp_path, wanted, num_workers=0)
        datamodule.setup()
        words = set(datamodule.test_data.samples.class_name)
        use_auxiliary_data(datamodule)
        known = [datamodule.train_data.samples, datamodule.val_data.samples]
        pairs = {pair for part in known for pair in zip(part.category, part.class_name, strict=True)}
        assert all(word == datamodule.class_word(category) for category, word in pairs)
        assert {word for _, word in pairs} == words


def test_the_same_squares_are_found_under_another_spelling_of_the_folder(tmp_path, monkeypatch):
    trees.plant("AITEX", tmp_path / "aitex")
    (tmp_path / "link").symlink_to(tmp_path / "aitex")
    monkeypatch.chdir(tmp_path)
    for other in ("aitex", "link"):
        with pytest.raises(ValueError, match="Source and target share fabric_00"):
            ZeroShot(source=AITEX("aitex"), target=AITEX(tmp_path / other))


def test_sixteen_bits_are_read_by_their_depth(tmp_path):
    trees.plant("Endo", tmp_path)
    (image, *_) = sorted((tmp_path / "images").iterdir())
    with Image.open(image) as file:
        grey = np.asarray(file.convert("L")).astype(np.uint16) * 256
    Image.fromarray(grey).save(image.with_suffix(".png"))
    image.unlink()
    datamodule = Endo(tmp_path, num_workers=0)
    datamodule.setup()
    (place,) = np.flatnonzero(datamodule.test_data.samples.image_path == str(image.with_suffix(".png")))
    assert datamodule.test_data[int(place)].image[0].numpy() == pytest.approx(grey / 65535, abs=1e-6)
    image.with_suffix(".png").write_bytes(b"no picture")
    with pytest.raises(OSError, match=f"Cannot read image .*{image.stem}"):
        datamodule.test_data[int(place)]
