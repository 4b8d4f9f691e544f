# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""The metrics against scikit-learn, anomalib and a naive PRO; memory bounds; undefined metrics."""

import math
import tracemalloc
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from anomalib.metrics.aupro import _AUPRO
from anomalib.metrics.f1_score import _F1Max
from rich.console import Console
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from anomalib_zsad.metrics import METRICS, evaluate
from anomalib_zsad.metrics.report import IMAGE_METRICS, PIXEL_METRICS
from anomalib_zsad.metrics.scores import Scores


@dataclass
class Sample:
    scores: np.ndarray
    labels: np.ndarray
    maps: np.ndarray
    masks: np.ndarray


def make_sample(seed, *, images=10, size=24, levels=None, separation=0.4):
    """Random maps with blobs as defects; ``levels`` quantises the scores, which makes ties."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % 2 == 1
    masks = ndimage.gaussian_filter(rng.standard_normal((images, size, size)), (0, 2, 2)) > 0.15
    masks &= labels[:, None, None]
    maps = rng.random((images, size, size)) * (1 - separation) + separation * masks * rng.random((images, 1, 1))
    scores = rng.random(images) * 0.7 + 0.3 * labels * rng.random(images)
    if levels:
        maps, scores = np.round(maps * levels) / levels, np.round(scores * levels) / levels
    return Sample(scores.astype(np.float32), labels, maps.astype(np.float32), masks)


def naive_pro(maps, masks, limit=0.3):
    """Sweep every threshold, overlap region by region, trapezoids up to the limit."""
    regions = []
    for index, mask in enumerate(masks):
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [maps[index][labelled == region] for region in range(1, count + 1)]
    normal = maps[~masks]
    curve = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        overlap = float(np.mean([np.mean(region >= threshold) for region in regions]))
        curve.append((float(np.mean(normal >= threshold)), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x0 >= limit:
            break
        if x1 > limit:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def reference(sample):
    precision, recall, _ = precision_recall_curve(sample.labels, sample.scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    pixels, truth = sample.maps.ravel(), sample.masks.ravel()
    return {
        "image_AUROC": roc_auc_score(sample.labels, sample.scores),
        "image_AP": average_precision_score(sample.labels, sample.scores),
        "image_F1Max": f1.max(),
        "pixel_AUROC": roc_auc_score(truth, pixels),
        "pixel_AP": average_precision_score(truth, pixels),
        "pixel_PRO": naive_pro(sample.maps, sample.masks),
    }


def run(sample, **kwargs):
    return evaluate(sample.scores, sample.labels, sample.maps, sample.masks, **kwargs)


@pytest.mark.parametrize("levels", [None, 50, 7, 2])
@pytest.mark.parametrize("seed", range(4))
def test_equals_scikit_learn_and_naive_pro(seed, levels):
    sample = make_sample(seed, levels=levels)
    assert run(sample).mean == pytest.approx(reference(sample), abs=1e-12)


@pytest.mark.parametrize("separation", [0.0, 0.95])
def test_equals_anomalib(separation):
    sample = make_sample(5, images=12, size=64, separation=separation)
    ours = run(sample).mean
    pro, f1 = _AUPRO(fpr_limit=0.3), _F1Max()
    pro.update(torch.from_numpy(sample.maps), torch.from_numpy(sample.masks))
    f1.update(torch.from_numpy(sample.scores), torch.from_numpy(sample.labels))
    # anomalib sums in float32
    assert ours["pixel_PRO"] == pytest.approx(float(pro.compute()), abs=2e-6)
    assert ours["image_F1Max"] == pytest.approx(float(f1.compute()), abs=1e-6)


def test_constant_maps_are_chance():
    sample = make_sample(0)
    sample.maps[:] = 0.3
    mean = run(sample).mean
    assert mean["pixel_AUROC"] == pytest.approx(0.5, abs=0)
    assert mean["pixel_AP"] == pytest.approx(sample.masks.mean())
    assert mean["pixel_PRO"] == pytest.approx(0.15)


def test_perfect_and_inverted_maps():
    sample = make_sample(0)
    sample.maps = sample.masks.astype(np.float32)
    assert {run(sample).mean[name] for name in PIXEL_METRICS} == {1.0}
    sample.maps = 1 - sample.maps
    inverted = run(sample).mean
    assert inverted["pixel_AUROC"] == 0
    assert inverted["pixel_PRO"] == 0


def test_one_anomalous_pixel():
    maps, masks = np.full((2, 8, 8), 0.2, np.float32), np.zeros((2, 8, 8), bool)
    masks[1, 3, 3], maps[1, 3, 3], maps[0, 0, 0] = True, 0.7, 0.9
    sample = Sample(np.float32([0.1, 0.8]), np.array([False, True]), maps, masks)
    mean = run(sample).mean
    assert mean == pytest.approx(reference(sample), abs=1e-12)
    assert mean["pixel_AP"] == pytest.approx(0.5)


def test_diagonal_neighbours_are_one_region():
    masks = np.zeros((1, 6, 6), bool)
    masks[0, [1, 2], [1, 2]] = masks[0, 4, 4] = True
    maps = np.linspace(0, 1, 36, dtype=np.float32).reshape(1, 6, 6)
    mean = evaluate([0.5], [1], maps, masks).mean
    assert mean["pixel_PRO"] == pytest.approx(naive_pro(maps, masks), abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "masks", "reasons"),
    [
        ([0, 0], np.zeros((2, 4, 4)), {"no anomalous images", "no anomalous pixels"}),
        ([1, 1], np.ones((2, 4, 4)), {"no normal images", "no normal pixels"}),
        ([0, 1], np.zeros((2, 4, 4)), {"no anomalous pixels"}),
        ([0, 1], None, {"no masks or no anomaly maps"}),
        ([0, 1], np.zeros((2, 5, 4)), {"map 4x4 but mask 5x4"}),
    ],
)
def test_undefined_metrics_are_left_out_and_named(labels, masks, reasons):
    report = evaluate([0.2, 0.7], labels, np.random.default_rng(0).random((2, 4, 4)), masks)
    undefined = {name: value for name, value in report.rows[0].metrics.items() if isinstance(value, str)}
    assert set(undefined.values()) == reasons
    assert set(report.mean) == set(METRICS) - set(undefined)
    assert all(any(reason in remark for remark in report.remarks) for reason in reasons)
    row = report.frame().iloc[0]
    assert all(math.isnan(row[name]) == (name in undefined) for name in METRICS)


def test_scores_that_are_not_numbers_are_named():
    report = evaluate([0.2, float("nan")], [0, 1], torch.full((2, 3, 3), torch.nan), torch.ones(2, 3, 3))
    assert not report.mean
    assert set(report.rows[0].metrics.values()) == {"an image score is not finite", "a map is not finite"}


@pytest.mark.parametrize(("lowest", "highest"), [(0, 3), (-0.5, 1)])
def test_maps_beyond_the_bins_are_named_and_those_that_only_round_are_not(lowest, highest):
    sample = make_sample(3)
    sample.maps = lowest + (highest - lowest) * sample.maps
    assert run(sample).mean == pytest.approx(reference(sample), abs=1e-12)
    (row,) = run(sample, thresholds=64).rows
    reason = "a map leaves [0, 1], where the bins are; scale it, or keep its scores (thresholds, exact_pixels)"
    assert {row.metrics[name] for name in PIXEL_METRICS} == {reason}
    assert all(isinstance(row.metrics[name], float) for name in IMAGE_METRICS)
    late = Scores(exact_pixels=sample.maps.size // 2)
    feed(late, sample, "a")
    assert late.report().rows[0].metrics["pixel_AP"] == reason
    sample = make_sample(3)
    sample.maps[0, 0, 0], sample.maps[1, 0, 0] = -1e-7, 1 + 1e-6
    assert set(run(sample, thresholds=2**16).mean) == set(METRICS)


def test_mean_is_over_classes_where_defined():
    good, half = make_sample(1), make_sample(2)
    half.masks[:] = False
    joined = Sample(*(np.concatenate([getattr(s, f) for s in (good, half)]) for f in Sample.__dataclass_fields__))
    report = run(joined, classes=["b"] * len(good.labels) + ["a"] * len(half.labels))
    assert [row.name for row in report.rows] == ["a", "b"]
    first, second = reference(good), run(half).mean
    for name in IMAGE_METRICS:
        assert report.mean[name] == pytest.approx((first[name] + second[name]) / 2)
    for name in PIXEL_METRICS:
        assert report.mean[name] == pytest.approx(first[name])
    assert report.remarks == ["pixel_AUROC, pixel_AP, pixel_PRO undefined for a: no anomalous pixels"]
    assert list(report.frame()["class"]) == ["a", "b", "mean"]


@pytest.mark.parametrize("name", ["M6 [steel]", "[/] left", "[red]lamp"])
def test_names_with_brackets_are_printed_as_they_are(name, capsys):
    Console(width=200).print(evaluate([0.1, 0.2], [0, 1], classes=[name] * 2).table(title=f"trained on {name}"))
    printed = capsys.readouterr().out
    assert f"trained on {name} " in printed
    assert f"│ {name} " in printed


def test_tensors_lists_and_channels_are_the_same():
    sample = make_sample(3)
    tensors = evaluate(
        torch.from_numpy(sample.scores)[:, None],
        torch.from_numpy(sample.labels),
        torch.from_numpy(sample.maps)[:, None],
        torch.from_numpy(sample.masks).long(),
    )
    lists = evaluate(sample.scores.tolist(), sample.labels.tolist(), list(sample.maps), list(sample.masks))
    assert tensors.mean == lists.mean == run(sample).mean


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_image_scores_in_double_precision_do_not_tie(kind):
    scores = np.array([0.5, 0.5 + 1e-9, 0.5 + 2e-9, 0.5 + 3e-9])
    metrics = evaluate(kind(scores), [0, 1, 0, 1]).mean
    assert metrics["image_AUROC"] == pytest.approx(roc_auc_score([0, 1, 0, 1], scores), abs=1e-12)
    assert metrics["image_AP"] == pytest.approx(average_precision_score([0, 1, 0, 1], scores), abs=1e-12)


def test_histogram_is_close_and_says_so():
    sample = make_sample(4, size=32)
    binned = run(sample, thresholds=4096)
    assert binned.mean == pytest.approx(reference(sample), abs=1e-3)
    assert binned.remarks == ["all: pixel metrics from a histogram of 4096 bins"]
    few = evaluate(sample.scores, sample.labels, np.round(sample.maps * 31) / 32, sample.masks, thresholds=32)
    exact = evaluate(sample.scores, sample.labels, np.round(sample.maps * 31) / 32, sample.masks)
    assert few.mean == pytest.approx(exact.mean, abs=1e-12)


def feed(scores, sample, name):
    for index in range(len(sample.labels)):
        part = slice(index, index + 1)
        scores.add(sample.scores[part], sample.labels[part], sample.maps[part], sample.masks[part], [name])


def held(scores):
    return sum(kept.pixels.held for kept in scores.classes.values())


def test_class_after_class_stays_exact_in_bounded_memory():
    samples = {name: make_sample(seed) for seed, name in enumerate("abcd")}
    pixels = samples["a"].maps.size
    scores = Scores(exact_pixels=pixels + pixels // 2)
    for name, sample in samples.items():
        feed(scores, sample, name)
        assert held(scores) <= scores.exact_pixels
    report = scores.report()
    for row in report.rows:
        assert row.metrics == pytest.approx(reference(samples[row.name]), abs=1e-12)
    assert not report.remarks


def test_a_class_beyond_the_limit_or_come_back_is_binned_and_named():
    first, second = make_sample(0), make_sample(1)
    whole = make_sample(0)
    scores = Scores(exact_pixels=first.maps.size // 2)
    feed(scores, first, "a")
    feed(scores, second, "b")
    feed(scores, first, "a")
    assert held(scores) == 0
    row, _ = scores.report().rows
    assert row.n_normal + row.n_anomalous == 2 * len(first.labels)
    assert row.metrics == pytest.approx(reference(whole), abs=1e-3)  # the same images twice rank the same
    assert scores.report().remarks == ["a, b: pixel metrics from a histogram of 65536 bins"]


def test_images_without_mask_do_not_touch_pixels():
    sample = make_sample(6)
    scores = Scores()
    known = np.arange(len(sample.labels)) < 6
    scores.add(sample.scores, sample.labels, sample.maps, sample.masks, has_mask=known)
    some = Sample(*(getattr(sample, f)[:6] for f in Sample.__dataclass_fields__))
    metrics = scores.report().rows[0].metrics
    assert {n: metrics[n] for n in PIXEL_METRICS} == {n: run(some).mean[n] for n in PIXEL_METRICS}
    assert {n: metrics[n] for n in IMAGE_METRICS} == {n: run(sample).mean[n] for n in IMAGE_METRICS}
    assert scores.report().remarks == ["all: pixel metrics without the images that have no mask"]


def test_thresholds_must_make_sense():
    with pytest.raises(ValueError, match="at least 2"):
        Scores(thresholds=1)


DEGENERATE = {
    "all normal": ([0, 0], np.zeros((2, 6, 6), bool), np.linspace(0, 1, 72).reshape(2, 6, 6)),
    "all anomalous": ([1, 1], np.ones((2, 6, 6), bool), np.linspace(0, 1, 72).reshape(2, 6, 6)),
    "constant maps": ([0, 1], np.arange(72).reshape(2, 6, 6) > 60, np.full((2, 6, 6), 0.25)),
    "one pixel": ([0, 1], np.arange(72).reshape(2, 6, 6) == 50, np.linspace(0, 1, 72).reshape(2, 6, 6) % 0.7),
    "every pixel its region": ([0, 1], (np.indices((2, 6, 6)).sum(0) % 4 == 0), np.linspace(0, 1, 72).reshape(2, 6, 6)),
    "only extremes": (
        [0, 1],
        np.arange(72).reshape(2, 6, 6) % 9 == 0,
        (np.arange(72).reshape(2, 6, 6) % 2).astype(float),
    ),
}


@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_inputs_alike_in_both_modes(case):
    labels, masks, maps = DEGENERATE[case]
    maps = np.round(maps.astype(np.float32) * 63) / 64  # on the edges of bins, where both modes are the same numbers
    exact, binned = (evaluate([0.2, 0.6], labels, maps, masks, thresholds=bins).rows[0] for bins in (None, 64))
    assert exact.metrics.keys() == binned.metrics.keys()
    for name, value in exact.metrics.items():
        expected = value if isinstance(value, str) else pytest.approx(value, abs=1e-12)
        assert binned.metrics[name] == expected
    if masks.any() and not masks.all():
        assert exact.metrics["pixel_AUROC"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12)
        assert exact.metrics["pixel_AP"] == pytest.approx(
            average_precision_score(masks.ravel(), maps.ravel()), abs=1e-12
        )
        assert exact.metrics["pixel_PRO"] == pytest.approx(naive_pro(maps, masks), abs=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_binned_agrees_with_exact_at_full_size(seed):
    """Bins of 1/65536, the default beyond memory, on smooth maps of 518 pixels as models give them."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((4, 518, 518), bool)
    masks[1::2, 100:160, 200:320] = masks[3, 400:404, 10:14] = True
    noise = ndimage.gaussian_filter(rng.standard_normal(masks.shape).astype(np.float32), (0, 8, 8))
    maps = (1 / (1 + np.exp(-20 * noise - masks + 2))).astype(np.float32)
    exact, binned = (
        evaluate(maps.max(axis=(1, 2)), [0, 1, 0, 1], maps, masks, thresholds=bins) for bins in (None, 2**16)
    )
    assert binned.mean == pytest.approx(exact.mean, abs=1e-4)


def test_memory_of_a_histogram_does_not_grow():
    maps, mask = np.random.default_rng(0).random((518, 518), np.float32), np.zeros((518, 518), bool)
    mask[:9, :9] = True
    scores = Scores(thresholds=2**16)
    peaks = []
    for count in (2, 20):
        tracemalloc.start()
        for _ in range(count):
            scores.add([0.5], [1], maps[None], mask[None])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000  # of 5 million pixels, 20 MB
    assert peaks[1] < 40e6
