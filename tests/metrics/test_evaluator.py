# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""The evaluator inside anomalib's Engine: table, CSV file, returned dictionary."""

import pickle
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
import torch
import torch.multiprocessing as mp
from anomalib import LearningType
from anomalib.data import Folder, ImageBatch, InferenceBatch
from anomalib.engine import Engine
from anomalib.models.components.base import AnomalibModule
from PIL import Image
from torch.nn.functional import avg_pool2d
from torch.utils.data import DataLoader

from anomalib_zsad.calibration import CalibratedPostProcessor
from anomalib_zsad.data.batches import ZeroShotBatch
from anomalib_zsad.metrics import METRICS, PerClassEvaluator, evaluate
from anomalib_zsad.metrics.scores import Scores

SIZE = 32


class Brightness(AnomalibModule):
    """Anomalous is what is bright."""

    learning_type = LearningType.ONE_CLASS
    trainer_arguments = MappingProxyType({})

    def __init__(self):
        super().__init__(
            pre_processor=False,
            post_processor=CalibratedPostProcessor(),
            evaluator=PerClassEvaluator(),
            visualizer=False,
        )
        self.model = self.predict

    @staticmethod
    def predict(images):
        maps = avg_pool2d(images.mean(dim=1, keepdim=True), 3, stride=1, padding=1).clamp(0, 1)
        return InferenceBatch(pred_score=maps.flatten(1).amax(dim=1), anomaly_map=maps)

    def describe(self):
        return {"method": "Brightness", "image_size": str(SIZE)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eight normal and six defective photographs with masks, and one for a training split that nothing uses."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for kind in ("train", "good", "bad", "mask"):
        (root / kind).mkdir()
    Image.new("RGB", (SIZE, SIZE)).save(root / "train" / "0.png")
    for index in range(14):
        image = rng.integers(0, 120, (SIZE, SIZE, 3), dtype=np.uint8)
        if index < 8:
            Image.fromarray(image).save(root / "good" / f"{index}.png")
            continue
        mask = np.zeros((SIZE, SIZE), np.uint8)
        top, left = rng.integers(2, 22, 2)
        mask[top : top + 6, left : left + 7] = 255
        image[mask > 0] += rng.integers(40, 130, dtype=np.uint8)
        Image.fromarray(image).save(root / "bad" / f"{index}.png")
        Image.fromarray(mask).save(root / "mask" / f"{index}.png")
    return root


def folder(root, **kwargs):
    return Folder(
        "bolts",
        root=root,
        normal_dir="train",
        normal_test_dir="good",
        abnormal_dir="bad",
        val_split_mode="none",
        eval_batch_size=4,
        num_workers=0,
        **kwargs,
    )


def engine(tmp_path, **kwargs):
    return Engine(accelerator="cpu", devices=1, logger=False, default_root_dir=tmp_path, **kwargs)


def expected(datamodule):
    datamodule.setup()
    batches = list(datamodule.test_dataloader())
    images, labels = torch.cat([b.image for b in batches]), torch.cat([b.gt_label for b in batches])
    masks = None if batches[0].gt_mask is None else torch.cat([b.gt_mask for b in batches])
    result = Brightness.predict(images)
    return evaluate(result.pred_score, labels, result.anomaly_map, masks).mean


def test_table_csv_and_returned_metrics(photos, tmp_path, capsys):
    datamodule = folder(photos, mask_dir="mask")
    runner, model = engine(tmp_path), Brightness()
    (results,) = runner.test(model, datamodule=datamodule)
    mean = expected(folder(photos, mask_dir="mask"))
    assert set(mean) == set(METRICS)
    assert results == pytest.approx(mean, abs=1e-6)

    printed = capsys.readouterr().out
    line = next(row for row in printed.splitlines() if "bolts" in row)
    assert [cell.strip() for cell in line.split("│")[4:10]] == [f"{100 * mean[name]:.1f}" for name in METRICS]
    assert "Brightness | 32" in printed
    assert all(name in printed for name in METRICS)

    (path,) = tmp_path.rglob("metrics.csv")
    table = pd.read_csv(path)
    assert list(table["class"]) == ["bolts", "mean"]
    assert list(table.columns) == ["class", "n_normal", "n_anomalous", *METRICS, "method", "image_size"]
    assert table.loc[1, list(METRICS)].to_dict() == pytest.approx(mean, abs=1e-12)
    assert tuple(table.loc[0, ["n_normal", "n_anomalous"]]) == (8, 6)

    (again,) = runner.test(model, datamodule=folder(photos, mask_dir="mask"))
    assert again == results
    assert not model.evaluator.scores.classes
    pickle.dumps(model.evaluator)


def test_without_masks_only_image_metrics(photos, tmp_path, capsys):
    (results,) = engine(tmp_path).test(Brightness(), datamodule=folder(photos))
    assert set(results) == {"image_AUROC", "image_AP", "image_F1Max"}
    assert "pixel_PRO undefined for bolts: no masks or no anomaly maps" in capsys.readouterr().out
    (path,) = tmp_path.rglob("metrics.csv")
    assert pd.read_csv(path)["pixel_PRO"].isna().all()


def test_one_kind_of_images_does_not_fail_the_run(photos, tmp_path, capsys):
    normal = [ImageBatch(image=torch.rand(3, 3, SIZE, SIZE), gt_label=torch.zeros(3, dtype=torch.long))]
    (results,) = engine(tmp_path).test(Brightness(), dataloaders=DataLoader(normal, batch_size=None))
    assert not set(results) & set(METRICS)
    assert "no anomalous images" in capsys.readouterr().out


def test_nothing_to_evaluate_is_said(tmp_path, caplog):
    unlabelled = [ImageBatch(image=torch.rand(3, 3, SIZE, SIZE))]
    engine(tmp_path).test(Brightness(), dataloaders=DataLoader(unlabelled, batch_size=None))
    assert "nothing to evaluate" in caplog.text
    assert not list(tmp_path.rglob("metrics.csv"))


def labelled_batch(seed, categories):
    generator = torch.Generator().manual_seed(seed)
    count = len(categories)
    labels = torch.arange(count) % 2 == 1
    masks = torch.zeros(count, SIZE, SIZE, dtype=torch.bool)
    masks[labels, 4:12, 4:12] = True
    images = torch.rand(count, 3, SIZE, SIZE, generator=generator) * 0.6 + 0.2 * masks[:, None]
    return ZeroShotBatch(
        image=images,
        gt_label=labels,
        gt_mask=masks,
        category=list(categories),
        class_name=["thing"] * count,
        defect_type=[""] * count,
        has_mask=torch.ones(count, dtype=torch.bool),
    )


@pytest.mark.parametrize("barebones", [False, True])
def test_categories_over_several_loaders(tmp_path, barebones):
    parts = [labelled_batch(0, "aabb"), labelled_batch(1, "bbbb"), labelled_batch(2, "ccaa")]
    loaders = [DataLoader(parts[:2], batch_size=None), DataLoader(parts[2:], batch_size=None)]
    images, labels = torch.cat([p.image for p in parts]), torch.cat([p.gt_label for p in parts])
    masks, categories = torch.cat([p.gt_mask for p in parts]), [name for p in parts for name in p.category]
    predicted = Brightness.predict(images)
    report = evaluate(predicted.pred_score, labels, predicted.anomaly_map, masks, categories)

    model = Brightness()
    runner = engine(tmp_path, barebones=True) if barebones else engine(tmp_path)
    results = runner.test(model, dataloaders=loaders)
    assert [row.name for row in model.evaluator.report.rows] == ["a", "b", "c"]
    assert model.evaluator.report.frame().equals(report.frame())
    assert results[0] == pytest.approx(report.mean, abs=1e-6)


def add_predictions(scores, seed, categories):
    batch = labelled_batch(seed, categories)
    predicted = Brightness.predict(batch.image)
    scores.add(predicted.pred_score, batch.gt_label, predicted.anomaly_map, batch.gt_mask, batch.category)
    return scores


def gather_and_write(rank, shares, directory):
    torch.distributed.init_process_group("gloo", init_method=f"file://{directory}/rendezvous", rank=rank, world_size=2)
    shares[rank].gather().report().frame().to_csv(f"{directory}/{rank}.csv", index=False)
    torch.distributed.destroy_process_group()


def test_two_processes_report_what_one_would(tmp_path):
    shares = [add_predictions(Scores(), 0, "aabb"), add_predictions(Scores(), 1, "bbcc")]
    mp.start_processes(gather_and_write, (shares, str(tmp_path)), nprocs=2, start_method="spawn")
    first, second = (pd.read_csv(tmp_path / f"{rank}.csv") for rank in (0, 1))
    assert first.equals(second)
    whole = add_predictions(add_predictions(Scores(), 0, "aabb"), 1, "bbcc").report().frame()
    assert list(first["class"]) == list(whole["class"])
    image, pixel = list(METRICS[:3]), list(METRICS[3:])
    np.testing.assert_allclose(first[image], whole[image], atol=1e-12)
    np.testing.assert_allclose(first[pixel], whole[pixel], atol=1e-4)  # histograms of 65536 bins
