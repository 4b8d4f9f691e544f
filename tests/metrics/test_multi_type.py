# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Multi-type metrics against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from anomalib_zsad.metrics.multi_type import TypeCounts, image_type_metrics, log_odds, pixel_type_metrics


def draw(seed, n, classes, kinds=None, digits=None):
    rng = np.random.default_rng(seed)
    types = rng.choice(kinds if kinds is not None else classes, n)
    scores = rng.random((n, classes)) + 0.6 * np.eye(classes)[types]
    scores /= scores.sum(axis=1, keepdims=True)
    return (scores if digits is None else scores.round(digits)), types


@pytest.mark.parametrize("digits", [None, 1])  # one digit: nearly all scores are tied
@pytest.mark.parametrize(("seed", "classes"), [(0, 2), (1, 4), (2, 21)])
def test_pixel_metrics_equal_scikit_learn(seed, classes, digits):
    scores, types = draw(seed, 4000, classes, digits=digits)
    before = scores.copy()
    got = pixel_type_metrics(scores, types)
    assert np.array_equal(scores, before)
    own = np.eye(classes, dtype=bool)[types]
    auroc = [roc_auc_score(own[:, k], scores[:, k]) for k in range(classes)]
    ap = [average_precision_score(own[:, k], scores[:, k]) for k in range(classes)]
    f1 = f1_score(types, scores.argmax(axis=1), labels=range(classes), average=None)
    np.testing.assert_allclose(got.auroc, auroc, atol=1e-12)
    np.testing.assert_allclose(got.ap, ap, atol=1e-12)
    np.testing.assert_allclose(got.f1, f1, atol=1e-12)
    assert got.macro() == pytest.approx({"auroc": np.mean(auroc), "ap": np.mean(ap), "f1": np.mean(f1)})
    without = {"auroc": np.mean(auroc[1:]), "ap": np.mean(ap[1:]), "f1": np.mean(f1[1:])}
    assert got.macro(normal=False) == pytest.approx(without)
    if classes > 2 and digits is None:
        assert got.macro()["auroc"] == pytest.approx(roc_auc_score(types, scores, multi_class="ovr", average="macro"))


def test_what_does_not_occur_is_left_out():
    scores, types = draw(3, 500, 5, kinds=[0, 1, 3])
    got = pixel_type_metrics(scores, types)
    assert np.isnan(got.auroc).tolist() == [False, False, True, False, True]
    assert np.isnan(got.ap).tolist() == np.isnan(got.auroc).tolist()
    assert got.f1[2] == 0  # predicted somewhere, never right
    assert got.macro()["auroc"] == pytest.approx(np.mean([got.auroc[k] for k in (0, 1, 3)]))
    alone = pixel_type_metrics(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 0]))
    assert np.isnan(alone.auroc).all()
    assert np.isnan(alone.macro(normal=False)["f1"])
    assert alone.f1[0] == 1


def test_image_metrics_equal_scikit_learn():
    scores, types = draw(4, 300, 6)
    got = image_type_metrics(scores, types + 1)
    assert got["top1"] == pytest.approx((scores.argmax(axis=1) == types).mean())
    assert got["macro_f1"] == pytest.approx(f1_score(types, scores.argmax(axis=1), average="macro"))


def test_extremes():
    types = np.array([0, 1, 2, 1, 0])
    perfect = pixel_type_metrics(np.eye(3)[types], types)
    assert perfect.macro() == {"auroc": 1, "ap": 1, "f1": 1}
    flat = pixel_type_metrics(np.full((5, 3), 1 / 3), types)
    assert flat.macro()["auroc"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("scores", "types", "match"),
    [
        (np.ones((3, 2)), np.zeros(4, int), "N > 0"),
        (np.ones((0, 2)), np.zeros(0, int), "N > 0"),
        (np.ones((3, 2)), np.array([0, 1, 2]), r"0\.\.1"),
    ],
)
def test_what_does_not_fit_is_refused(scores, types, match):
    with pytest.raises(ValueError, match=match):
        pixel_type_metrics(scores, types)


def test_normal_images_have_no_kind():
    with pytest.raises(ValueError, match=r"1\.\.2"):
        image_type_metrics(np.ones((2, 2)), [0, 1])


@pytest.mark.parametrize("sharp", [1, 8])  # 8: probabilities down to 1e-15, which float32 tells apart, 1 - 1e-15 not
def test_counts_equal_the_metrics_of_all_pixels_at_once(sharp):
    rng = np.random.default_rng(3)
    types = rng.choice(4, 6000, p=[0.9, 0.06, 0.04, 0])
    logits = sharp * rng.normal(size=(6000, 4)) + sharp * np.eye(4)[types]
    scores = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    halves = [TypeCounts(4), TypeCounts(4)]
    for part in np.array_split(np.arange(6000), 7):
        halves[part[0] % 2].add(scores[part], types[part])
    halves[0].merge(halves[1])
    got = halves[0].metrics()
    exact = pixel_type_metrics(np.stack([log_odds(scores, number) for number in range(4)], axis=1), types)
    np.testing.assert_allclose(got.auroc, exact.auroc, atol=1e-4)
    np.testing.assert_allclose(got.ap, exact.ap, atol=1e-3)
    np.testing.assert_allclose(got.f1, exact.f1, atol=0)
    assert np.isnan(got.auroc[3])


def test_counts_of_nothing_are_undefined():
    assert np.isnan(list(TypeCounts(3).metrics().macro().values())).all()


def test_log_odds_do_not_cancel():
    scores = np.array([[1.0, 1e-12, 1e-13], [0.25, 0.5, 0.25]], np.float32)
    np.testing.assert_allclose(log_odds(scores, 0), [-np.log(1.1e-12), np.log(1 / 3)], rtol=1e-6)
