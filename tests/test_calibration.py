# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""The calibrated post-processor: order kept, 0.5 the verdict, nothing learned from target images."""

import json
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import openvino as ov
import pytest
import torch
from anomalib import LearningType
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.engine import Engine
from anomalib.models.components.base import AnomalibModule
from sklearn.metrics import f1_score, precision_recall_curve, roc_auc_score
from torch import nn
from torch.utils.data import DataLoader

from anomalib_zsad.calibration import PIXEL_BINS, CalibratedPostProcessor, find_knots, rescale
from anomalib_zsad.data.batches import AuxiliaryBatch, ZeroShotBatch

SIZE = 16

KNOTS = [
    (0.25, 0.5, 0.75),
    (0.3, 0.31, 0.9),
    (1e-5 / 64, 1e-5, 1 / 64),
    (0.9, 0.99998, 0.99999),
    (0.0001, 0.9, 0.95),
    (0.05, 0.06, 0.07),
]


def calibrated(image=(0.2, 0.4, 0.7), pixel=(0.1, 0.5, 0.6), **kwargs):
    processor = CalibratedPostProcessor(**kwargs)
    processor.load_statistics({"image_knots": list(image), "pixel_knots": list(pixel)})
    return processor


def predictions(count, seed=0, size=SIZE):
    generator = torch.Generator().manual_seed(seed)
    return InferenceBatch(
        pred_score=torch.rand(count, generator=generator),
        anomaly_map=torch.rand(count, 1, size, size, generator=generator),
    )


def labelled(kind, count=12, seed=0, separation=0.3, has_mask=None):
    """A batch with raw scores, of any of the batch types."""
    raw = predictions(count, seed)
    labels = torch.arange(count) % 3 != 0
    masks = torch.zeros(count, SIZE, SIZE, dtype=torch.bool)
    masks[labels, 2:9, 3:7] = True
    extra = {} if has_mask is None else {"has_mask": has_mask}
    return kind(
        image=torch.zeros(count, 3, SIZE, SIZE),
        gt_label=labels,
        gt_mask=masks,
        pred_score=raw.pred_score * (1 - separation) + separation * labels,
        anomaly_map=raw.anomaly_map[:, 0] * (1 - separation) + separation * masks,
        **extra,
    )


def validate(processor, *batches):
    processor.on_validation_epoch_start(None, None)
    for batch in batches:
        processor.on_validation_batch_end(None, None, batch)
    processor.on_validation_epoch_end(None, None)
    return processor.statistics()


# ---- the map -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("knots", KNOTS)
def test_rescale_is_strictly_increasing(knots):
    edges = torch.tensor([0, *knots, 1])
    grid = torch.linspace(0, 1, 2**17)
    fine = torch.cat([torch.linspace(float(a), float(b), 2**11) for a, b in pairwise(edges) if b - a > 1e-3])
    tiny = torch.logspace(-30, -4, 500)
    for scores in (grid, fine.unique(), tiny, edges):
        assert (rescale(scores, edges[1:4]).diff() > 0).all()
    levels = rescale(torch.cat([edges, grid]), edges[1:4])
    assert levels.min() == 0
    assert levels.max() == 1


@pytest.mark.parametrize("knots", KNOTS)
def test_rescale_never_swaps_neighbouring_floats(knots):
    """Neighbouring floats may meet where the map compresses, but never change places."""
    bits = torch.tensor([0.0, *knots, 1.0]).view(torch.int32)
    near = torch.cat([torch.arange(int(b) - 300, int(b) + 300) for b in bits[1:4]]).int().unique()
    assert (rescale(near.view(torch.float32), torch.tensor(knots)).diff() >= 0).all()


@pytest.mark.parametrize("knots", KNOTS)
def test_what_is_no_number_stays_none(knots):
    scores = torch.tensor([0.3, torch.nan])
    assert rescale(scores, torch.tensor(knots)).isnan().tolist() == [False, True]


@pytest.mark.parametrize("knots", KNOTS)
def test_rescale_goes_through_the_knots(knots):
    scores = torch.tensor([0, *knots, 1])
    torch.testing.assert_close(rescale(scores, torch.tensor(knots)), torch.linspace(0, 1, 5), rtol=0, atol=0)
    reference = np.interp(np.linspace(0, 1, 1001), [0, *np.float32(knots), 1], np.linspace(0, 1, 5))
    ours = rescale(torch.linspace(0, 1, 1001, dtype=torch.float64), torch.tensor(knots).double())
    np.testing.assert_allclose(ours, reference, atol=1e-12)


@pytest.mark.parametrize("knots", KNOTS)
def test_auroc_is_the_same_with_and_without(knots):
    rng = np.random.default_rng(0)
    labels = rng.random(5000) < 0.3
    scores = np.clip(rng.beta(0.5, 0.5, 5000) * 0.8 + 0.2 * labels * rng.random(5000), 0, 1).astype(np.float32)
    rescaled = rescale(torch.from_numpy(scores), torch.tensor(knots)).numpy()
    # 1.5 million pairs; float32 may tie a handful of them
    assert roc_auc_score(labels, rescaled) == pytest.approx(roc_auc_score(labels, scores), abs=2e-6)


def test_nan_scores_stay_visible():
    assert rescale(torch.tensor([torch.nan]), torch.tensor(KNOTS[0])).isnan().all()


# ---- the knots -----------------------------------------------------------------------------------------------------


def counts_of(scores, labels):
    values = np.unique(scores)
    return values, *(np.array([np.sum((scores == v) & (labels == k)) for v in values]) for k in (False, True))


@pytest.mark.parametrize("levels", [None, 20, 4])
@pytest.mark.parametrize("seed", range(6))
def test_threshold_is_f1_max(seed, levels):
    rng = np.random.default_rng(seed)
    labels = rng.random(60) < 0.4
    scores = np.clip(0.3 * labels + 0.7 * rng.random(60), 0.01, 0.99)
    scores = np.ceil(scores * levels) / levels * 0.9 if levels else scores
    low, threshold, high = find_knots(*counts_of(scores, labels))

    precision, recall, thresholds = precision_recall_curve(labels, scores)
    f1 = (2 * precision * recall / np.maximum(precision + recall, 1e-300))[:-1]
    best = thresholds[np.flatnonzero(f1 >= f1.max() - 1e-12)[-1]]
    lower = scores[scores < best].max(initial=0)
    assert threshold == pytest.approx((best + lower) / 2, abs=1e-12)
    assert f1_score(labels, scores > threshold) == pytest.approx(f1.max(), abs=1e-12)
    assert 0 < low < threshold < high < 1
    typical = scores[~labels & (scores < threshold)], scores[labels & (scores > threshold)]
    for knot, group in zip((low, high), typical, strict=True):
        if len(group) and not levels:
            assert knot == np.quantile(group, 0.5, method="inverted_cdf")


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        ([0.5], [True]),
        ([0.5], [False]),
        ([0.0, 0.0], [False, True]),
        ([1.0, 1.0], [False, True]),
        ([0.3, 0.3, 0.3], [True, False, False]),
        ([0.0, 1.0], [False, True]),
        ([1.0, 0.0], [False, True]),
        ([1e-7, 2e-7], [False, True]),
        ([1 - 2e-7, 1 - 1e-7], [False, True]),
        ([0.5, 0.5 + 1e-12], [False, True]),
    ],
)
def test_knots_rise_strictly_in_float32_whatever_the_data(scores, labels):
    knots = torch.tensor(find_knots(*counts_of(np.array(scores), np.array(labels))))
    assert (torch.cat([torch.zeros(1), knots, torch.ones(1)]).diff() > 1e-7).all()


def test_without_anomalies_almost_no_normal_score_is_called_anomalous():
    scores = np.random.default_rng(0).random(5000) * 0.6
    low, threshold, high = find_knots(*counts_of(scores, np.zeros(5000, bool)))
    assert np.mean(scores > threshold) == pytest.approx(0.001)
    assert low == pytest.approx(0.3, abs=0.02)
    assert high == (1 + threshold) / 2


# ---- calibration ---------------------------------------------------------------------------------------------------


def test_calibration_equals_the_exact_search():
    batches = [labelled(AuxiliaryBatch, seed=seed) for seed in range(3)]
    processor = CalibratedPostProcessor()
    validate(processor, *batches)
    scores, labels = (torch.cat([getattr(b, n) for b in batches]).numpy() for n in ("pred_score", "gt_label"))
    np.testing.assert_array_equal(processor.image_knots, np.float32(find_knots(*counts_of(scores, labels))))

    maps, masks = (torch.cat([getattr(b, n) for b in batches]).numpy().ravel() for n in ("anomaly_map", "gt_mask"))
    exact = np.float32(find_knots(*counts_of(maps, masks)))
    np.testing.assert_allclose(processor.pixel_knots, exact, atol=2 / PIXEL_BINS)


def test_half_is_the_verdict_with_the_best_f1():
    batch = labelled(AuxiliaryBatch, count=40)
    precision, recall, _ = precision_recall_curve(batch.gt_label, batch.pred_score)
    best = np.max(2 * precision * recall / (precision + recall))
    processor = CalibratedPostProcessor()
    validate(processor, batch)
    processor.post_process_batch(batch)
    assert f1_score(batch.gt_label, batch.pred_label) == pytest.approx(best)
    assert torch.equal(batch.pred_label, batch.pred_score > 0.5)
    assert torch.equal(batch.pred_mask, batch.anomaly_map > 0.5)


@pytest.mark.parametrize("kind", [ImageBatch, ZeroShotBatch])
def test_target_batches_change_nothing(kind, caplog):
    clean, mixed = CalibratedPostProcessor(), CalibratedPostProcessor()
    auxiliary, target = labelled(AuxiliaryBatch), labelled(kind, seed=1, separation=0.9)
    assert validate(mixed, target, target) == {}
    assert caplog.text.count("never calibrate") == 1
    assert validate(clean, auxiliary) == validate(mixed, target, auxiliary, target)
    before = mixed.statistics()
    assert validate(mixed, target) == before
    assert validate(mixed) == before


def test_every_epoch_starts_anew():
    processor = CalibratedPostProcessor()
    first = validate(processor, labelled(AuxiliaryBatch, seed=0))
    assert validate(processor, labelled(AuxiliaryBatch, seed=1)) != first
    assert validate(processor, labelled(AuxiliaryBatch, seed=0)) == first


def test_images_without_mask_do_not_reach_the_pixel_knots():
    known = torch.arange(12) < 7
    whole, part = labelled(AuxiliaryBatch, has_mask=known), labelled(AuxiliaryBatch)
    part.update(anomaly_map=part.anomaly_map[known], gt_mask=part.gt_mask[known])
    marked, cut = CalibratedPostProcessor(), CalibratedPostProcessor()
    assert validate(marked, whole) == validate(cut, part)


def test_without_masks_the_image_knots_serve_for_both():
    batch = labelled(AuxiliaryBatch)
    batch.gt_mask = None
    processor = CalibratedPostProcessor()
    assert set(validate(processor, batch)) == {"image_knots"}
    assert torch.equal(processor.pixel_threshold, processor.image_threshold)
    processor.enable_threshold_matching = False
    assert processor.pixel_threshold.isnan()
    maps = predictions(2).anomaly_map
    assert torch.equal(processor(InferenceBatch(torch.rand(2), None, maps, None)).anomaly_map, maps)


def test_scores_that_are_not_finite_do_not_count():
    clean, dirty = labelled(AuxiliaryBatch), labelled(AuxiliaryBatch)
    bad = labelled(AuxiliaryBatch, count=2)
    bad.pred_score, bad.anomaly_map = torch.full((2,), torch.nan), torch.full((2, SIZE, SIZE), torch.nan)
    assert validate(CalibratedPostProcessor(), clean) == validate(CalibratedPostProcessor(), dirty, bad)


# ---- post-processing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("normalization", [True, False])
@pytest.mark.parametrize("processor", [calibrated(), CalibratedPostProcessor()], ids=["calibrated", "uncalibrated"])
def test_lightning_batches_equal_forward(processor, normalization, count):
    processor.enable_normalization = normalization
    raw = predictions(count)
    result = processor(raw)
    assert result.anomaly_map.shape == raw.anomaly_map.shape
    assert result.pred_score.shape == (count,)
    assert result.pred_label.dtype == result.pred_mask.dtype == torch.bool
    batch = ImageBatch(image=torch.zeros(count, 3, SIZE, SIZE)).update(**raw._asdict())
    processor.post_process_batch(batch)
    for name, value in result._asdict().items():
        assert torch.equal(getattr(batch, name), value.squeeze(1) if value.ndim == 4 else value), name


def test_uncalibrated_is_the_identity():
    raw = predictions(3)
    result = CalibratedPostProcessor()(raw)
    assert torch.equal(result.pred_score, raw.pred_score)
    assert torch.equal(result.anomaly_map, raw.anomaly_map)
    assert torch.equal(result.pred_label, raw.pred_score > 0.5)


def test_verdicts_do_not_depend_on_normalization_and_follow_sensitivity():
    raw = predictions(50)
    verdicts = []
    for sensitivity in (0.0, 0.2, 0.5, 0.75, 1.0):
        on, off = (
            calibrated(enable_normalization=flag, image_sensitivity=sensitivity, pixel_sensitivity=sensitivity)(raw)
            for flag in (True, False)
        )
        assert torch.equal(on.pred_label, off.pred_label)
        assert torch.equal(on.pred_mask, off.pred_mask)
        assert torch.equal(off.pred_score, raw.pred_score)
        verdicts.append(int(on.pred_label.sum()))
    assert verdicts[0] == 0
    assert verdicts[-1] == 50
    assert verdicts == sorted(verdicts)
    assert torch.equal(calibrated()(raw).pred_label, raw.pred_score > 0.4)
    assert calibrated(enable_thresholding=False)(raw).pred_label is None


def test_missing_score_is_the_highest_of_the_map():
    maps = predictions(3).anomaly_map
    result = calibrated()(InferenceBatch(anomaly_map=maps))
    assert torch.equal(result.pred_score, rescale(maps.amax(dim=(1, 2, 3)), torch.tensor([0.2, 0.4, 0.7])))
    with pytest.raises(ValueError, match="neither pred_score nor anomaly_map"):
        calibrated()(InferenceBatch())


# ---- files ---------------------------------------------------------------------------------------------------------


def test_only_the_knots_are_stored():
    assert set(CalibratedPostProcessor().state_dict()) == {"image_knots", "pixel_knots"}


def test_statistics_survive_json_bit_for_bit():
    processor, restored = CalibratedPostProcessor(), calibrated()
    validate(processor, labelled(AuxiliaryBatch))
    restored.load_statistics(json.loads(json.dumps(processor.statistics())))
    assert torch.equal(restored.image_knots, processor.image_knots)
    assert torch.equal(restored.pixel_knots, processor.pixel_knots)
    restored.load_statistics({})
    assert restored.statistics() == {}
    assert restored.image_knots.isnan().all()


@pytest.mark.parametrize(
    "statistics",
    [
        {"image_min": [0.1, 0.2, 0.3]},
        {"image_knots": [0.1, 0.2]},
        {"image_knots": [0.3, 0.2, 0.4]},
        {"pixel_knots": [0.1, 0.2, 1.0]},
        {"pixel_knots": [0.1, float("nan"), 0.5]},
    ],
)
def test_bad_statistics_are_refused(statistics):
    processor = calibrated()
    before = processor.statistics()
    with pytest.raises(ValueError, match="Calibration"):
        processor.load_statistics(statistics)
    assert processor.statistics() == before


# ---- in the Trainer, and exported ----------------------------------------------------------------------------------


class Levels(nn.Module):
    """Maps are the red channel, scores the mean of a map."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, images):
        maps = images[:, :1] * self.gain
        return InferenceBatch(pred_score=maps.mean(dim=(1, 2, 3)), anomaly_map=maps)


class Stub(AnomalibModule):
    learning_type = LearningType.ONE_CLASS
    trainer_arguments = MappingProxyType({})

    def __init__(self):
        super().__init__(pre_processor=False, evaluator=False, visualizer=False)
        self.model = Levels()

    @staticmethod
    def configure_post_processor():
        return CalibratedPostProcessor()

    def training_step(self, batch, batch_idx):
        del batch_idx
        return {"loss": self.model(batch.image).pred_score.mean()}

    def validation_step(self, batch, batch_idx):
        del batch_idx
        return batch.update(**self.model(batch.image)._asdict())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def images_of(kind, seed):
    batch = labelled(kind, seed=seed)
    batch.update(image=batch.anomaly_map[:, None].repeat(1, 3, 1, 1).detach(), pred_score=None, anomaly_map=None)
    return batch


def test_fit_calibrates_and_checkpoints_keep_it(tmp_path):
    model = Stub()
    train = DataLoader([images_of(AuxiliaryBatch, 0)], batch_size=None)
    auxiliary, target = (DataLoader([images_of(kind, 1)], batch_size=None) for kind in (AuxiliaryBatch, ZeroShotBatch))
    engine = Engine(max_epochs=2, accelerator="cpu", devices=1, logger=False, default_root_dir=tmp_path)
    engine.fit(model, train_dataloaders=train, val_dataloaders=auxiliary)
    statistics = model.post_processor.statistics()
    assert set(statistics) == {"image_knots", "pixel_knots"}

    by_hand = CalibratedPostProcessor()
    (batch,) = auxiliary
    validate(by_hand, batch.update(**model.model(batch.image)._asdict()))
    assert by_hand.statistics() == statistics

    engine.trainer.save_checkpoint(tmp_path / "stub.ckpt")
    assert Stub.load_from_checkpoint(tmp_path / "stub.ckpt").post_processor.statistics() == statistics

    for stage in (engine.trainer.validate, engine.trainer.test):
        stage(model, dataloaders=target, verbose=False)
        assert model.post_processor.statistics() == statistics


@pytest.mark.parametrize("processor", [calibrated(), CalibratedPostProcessor()], ids=["calibrated", "uncalibrated"])
def test_exported_graph_gives_the_same_numbers(processor, tmp_path):
    model = Stub()
    model.post_processor = processor
    model.eval()
    path = tmp_path / "stub.onnx"
    batch = torch.export.Dim("batch", min=1)
    torch.onnx.export(
        model, (torch.rand(2, 3, SIZE, SIZE),), path, dynamo=True, dynamic_shapes=({0: batch},), verbose=False
    )
    compiled = ov.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for count in (1, 4):
        images = torch.rand(count, 3, SIZE, SIZE)
        expected = [value.detach() for value in model(images) if value is not None]
        results = [torch.from_numpy(result) for result in compiled([images.numpy()]).values()]
        assert len(results) == 4
        for ours, exported in zip(expected, results, strict=True):
            torch.testing.assert_close(exported.reshape(ours.shape).to(ours.dtype), ours, rtol=0, atol=2e-6)
