# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Lists of kinds per class, and what is counted of an image."""

import numpy as np
import pandas as pd
import pytest
import torch
from anomalib.data import Folder, Visa
from anomalib.engine import Engine

from anomalib_zsad.data import ZeroShot
from anomalib_zsad.data.batches import AuxiliaryBatch, ZeroShotBatch
from anomalib_zsad.data.defect_tables import words_of
from anomalib_zsad.metrics.multi_type import pixel_type_metrics
from anomalib_zsad.models.dapo import DAPO
from anomalib_zsad.models.dapo.batches import DefectTypeBatch
from anomalib_zsad.models.dapo.evaluator import DefectTypeEvaluator, products, remarks, table_by_class, table_by_kind
from tests.conftest import QUIET, TINY, paint_parts

MVTEC = words_of("MVTecAD")


def samples(data_set: str, **classes: str) -> pd.DataFrame:
    """Two normal images and one of each kind (``;`` between) of every class."""
    rows = []
    for name, kinds in classes.items():
        for index, kind in enumerate(["", "", *kinds.split(";")]):
            rows.append((f"{name}/{index}.png", name, data_set, kind, int(kind != "")))
    return pd.DataFrame(rows, columns=["image_path", "category", "dataset", "defect_type", "label_index"])


def named(product, words) -> dict[str, str | int | None]:
    kinds = ["normal", *(words[column] for column in product.columns)]
    return {path: number if number is None else kinds[number] for path, number in product.numbers.items()}


def test_each_class_has_the_list_of_its_data_set() -> None:
    rows = samples("MVTecAD", bottle="broken large;contamination;anomaly", screw="manipulated front;thread top")
    found = products(rows, MVTEC)
    assert {name: [MVTEC[column] for column in one.columns] for name, one in found.items()} == {
        "bottle": ["broken", "contamination"],
        "screw": ["bent", "scratch", "thread"],
    }
    assert list(named(found["bottle"], MVTEC).values()) == ["normal", "normal", "broken", "contamination", None]
    assert list(named(found["screw"], MVTEC).values()) == ["normal", "normal", "bent", "thread"]
    assert remarks(found) == [
        "bottle: 1 images of unknown or several kinds, or of kinds without a word, are left out",
    ]


def test_words_in_another_order_synonyms_and_words_that_lack() -> None:
    rows = samples("MVTecAD", carpet="color;hole;thread;metal contamination")
    words = ("hole", "dent", "threading", "color")
    found = products(rows, words)["carpet"]
    assert [words[column] for column in found.columns] == ["hole", "threading", "color"]
    assert list(named(found, words).values()) == ["normal", "normal", "color", "hole", "threading", None]
    assert found.unnamed == ("cut", "contamination")
    assert "no word of the model for cut, contamination (give it in defect_types)" in remarks({"carpet": found})[1]


def test_visas_images_of_several_kinds_are_left_out() -> None:
    words = words_of("Visa")
    found = products(samples("Visa", pcb1="bent;melt, scratch;missing", capsules="leak;bubble,leak"), words)
    assert list(named(found["pcb1"], words).values()) == ["normal", "normal", "bent", None, "missing"]
    assert list(named(found["capsules"], words).values()) == ["normal", "normal", None, None]


def test_data_without_a_table_has_the_kinds_of_its_folders(caplog) -> None:
    found = products(samples("mine", plate="dent;rust", ring="anomaly", rod="wear"), ("rust", "oil", "dent"))
    assert set(found) == {"plate"}
    assert found["plate"].columns == (0, 2)
    assert "kinds of defect of rod (wear) are none of the model's" in caplog.text
    everything = products(samples("mine", plate="dent"), ("rust", "oil", "dent"), every=True)["plate"]
    assert everything.columns == (0, 1, 2)
    assert list(everything.numbers.values()) == [0, 0, 3]


def test_the_softmax_is_over_the_kinds_of_the_class() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(6, 2, 5, 4, 4, generator=generator, dtype=torch.float64)  # images, layers, states
    words = ("rust", "oil", "dent", "burr")
    product = products(samples("mine", plate="dent;rust"), words)["plate"]
    masks, numbers = torch.rand(6, 7, 7, generator=generator) > 0.6, [0, 1, 2, 2, 1, 1]
    for grid, mask, number in zip(logits.softmax(dim=2), masks, numbers, strict=True):
        product.add(grid, number, mask)

    restricted = logits[:, :, [0, 1, 3]].softmax(dim=2).mean(dim=1)
    maps = torch.nn.functional.interpolate(restricted, size=(7, 7), mode="bilinear", align_corners=True)
    types = masks * torch.tensor(numbers)[:, None, None]
    exact = pixel_type_metrics(maps.permute(0, 2, 3, 1).reshape(-1, 3).numpy(), types.flatten().numpy())
    row = product.row()
    for suffix, normal in (("", True), ("_defects", False)):
        for name, value in exact.macro(normal=normal).items():
            assert row[f"type_{name.upper()}{suffix}"] == pytest.approx(value, abs=1e-3)
    first = restricted[1:, 1:].amax(dim=(2, 3)).argmax(dim=1) + 1
    assert row["image_type_top1"] == pytest.approx(np.mean(first.numpy() == numbers[1:]))
    assert row["image_type_chance"] == pytest.approx(0.5)


def test_images_without_a_mask_count_as_images_only_and_one_kind_is_no_choice() -> None:
    product = products(samples("mine", plate="dent"), ("dent",))["plate"]
    product.add(torch.rand(2, 2, 4, 4), 1, None)
    row = product.row()
    assert np.isnan(list(row.values())).all()
    table = table_by_class({"plate": product})
    assert table["class"].tolist() == ["plate", "mean"]
    assert table_by_kind({"plate": product}, ("dent",)).kind.tolist() == ["normal", "dent"]


def test_names_with_brackets_are_printed_as_they_are(parts, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    model = DAPO(**TINY, num_prompts=1, visualizer=False, defect_types=["cut"])
    data = Folder(**{**parts["gasket"], "name": "gasket [rubber]"}, num_workers=0, val_split_mode="none")
    Engine(default_root_dir=tmp_path, max_steps=1, **QUIET).train(model, datamodule=data)
    assert capsys.readouterr().out.count("│ gasket [rubber] │") == 3  # detection, kinds at pixels, kinds of images


def test_candidates_are_one_of_two() -> None:
    with pytest.raises(ValueError, match="'product' or 'all', got 'both'"):
        DefectTypeEvaluator(candidates="both")


def test_a_plain_datamodule_and_one_without_kinds_are_evaluated(parts, tmp_path) -> None:
    model = DAPO(**TINY, num_prompts=1, visualizer=False, defect_types=["cut", "dent"])
    plain = Folder(**parts["gasket"], num_workers=0, val_split_mode="none")
    Engine(default_root_dir=tmp_path, max_steps=1, **QUIET).train(model, datamodule=plain)
    (row, _) = model.evaluator.types.to_dict("records")
    assert (row["class"], row["kinds"], row["typed_images"]) == ("gasket", 1, 12)
    assert 0 <= row["type_AUROC"] <= 1
    model.defect_types = ["rust"]
    (logged,) = Engine(default_root_dir=tmp_path, **QUIET).test(model, datamodule=plain)
    assert model.evaluator.types is None
    assert "image_AUROC" in logged
    assert "type_AUROC" not in logged


def test_classes_of_which_no_kind_is_known_have_no_figures(tmp_path, capsys) -> None:
    root = tmp_path / "visa"
    for seed, name in enumerate(("candle", "pcb1")):
        product = root / "visa_pytorch" / name
        paint_parts(product / "train", seed, normal=1, anomalous=0)
        paint_parts(product / "test", seed, normal=4, anomalous=3)
        (product / "test" / "cut").rename(product / "test" / "bad")
        (product / "ground_truth").mkdir()
        (product / "test" / "mask").rename(product / "ground_truth" / "bad")

    def tested(data, folder: str, **options) -> tuple[DAPO, Engine]:
        model = DAPO(**TINY, num_prompts=1, visualizer=False, defect_types="Visa")
        engine = Engine(default_root_dir=tmp_path / folder, **options, **QUIET)
        engine.test(model, datamodule=data)
        return model, engine

    def left(name: str) -> str:
        return f"{name}: 3 images of unknown or several kinds, or of kinds without a word, are left out"

    model, engine = tested(Visa(root, category="candle", num_workers=0), "plain")
    assert model.evaluator.types is None  # VisA's table lists the candle's kinds, but no image has one
    assert "image_AUROC" in engine.trainer.callback_metrics
    assert not [name for name in engine.trainer.callback_metrics if "type" in name]
    assert not list((tmp_path / "plain").rglob("defect_types*.csv"))
    printed = capsys.readouterr().out
    assert left("candle") in printed
    assert "Kinds of defect" not in printed

    (root / "pcb1").mkdir()
    rows = [f"pcb1/Data/Images/Anomaly/{index:03}.png,melt," for index in range(3)]
    (root / "pcb1" / "image_anno.csv").write_text("\n".join(["image,label,mask", *rows]))
    both = {"target": Visa(root), "target_categories": ["candle", "pcb1"], "num_workers": 0}
    model, _ = tested(ZeroShot(**both), "both")
    assert model.evaluator.types["class"].tolist() == ["pcb1", "mean"]
    assert model.evaluator.types.typed_images[0] == 3
    assert left("candle") in capsys.readouterr().out
    only_candles = tested(ZeroShot(**both, eval_batch_size=2), "part", limit_test_batches=2)[0]
    assert only_candles.evaluator.types is None


def test_batches_make_room_for_kinds_and_stay_what_they_are() -> None:
    image = torch.rand(2, 3, 8, 8)
    known = ZeroShotBatch(
        image=image, gt_label=torch.tensor([0, 1]), image_path=["a", "b"], category=["x", "y"],
        defect_type=["", "dent"], has_mask=torch.tensor([False, False]),
    )  # fmt: skip
    batch = DefectTypeBatch.of(known)
    assert batch is not known
    assert type(known) is ZeroShotBatch
    assert batch.image.data_ptr() == image.data_ptr()
    assert (batch.category, batch.defect_type, batch.has_mask.tolist()) == (["x", "y"], ["", "dent"], [False, False])
    assert [item.defect_type for item in batch] == ["", "dent"]
    assert issubclass(AuxiliaryBatch, ZeroShotBatch)
    assert not isinstance(batch, AuxiliaryBatch)  # what is tested can never train
