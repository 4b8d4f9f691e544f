# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Every method learns something that holds for classes it has not seen, if its towers know something.

A method is trained for a few dozen steps on seen classes and tested on unseen ones, once with the small CLIP of this
package and once with random towers of the same size. Everything else is equal, so the difference is what the towers
brought along.
"""

import pytest

import anomalib_zsad
from anomalib_zsad.pretraining.evaluate import generated_sets, measure, trained

SIZE, PICTURES = 112, 132
STEPS = {"BayesPFL": 80, "CoPS": 40, "DAPO": 40, "PromptAD": 80, "PromptMoE": 40}
MARGIN = {"BayesPFL": 0.15, "CoPS": 0.12, "DAPO": 0.10, "PromptAD": 0.12, "PromptMoE": 0.12}
"""Least gain in pixel AUROC over random towers. Measured near these settings (40 or 80 steps, 132 or 240 pictures), mean
and standard deviation over seeds 0, 1, 2, small CLIP against random: BayesPFL 86 +- 1 against 54 +- 2, CoPS 70 +- 3
against 45 +- 5, DAPO 87 +- 1 against 69 +- 2, PromptAD 82 +- 2 against 58 (one seed), PromptMoE 84 +- 2 against
61 +- 1."""


@pytest.fixture(scope="module")
def unseen():
    """Pictures of unseen classes with unseen defects."""
    return next(test for test in generated_sets(PICTURES, SIZE) if test.name == "unseen classes, unseen defects")


@pytest.mark.parametrize("method", anomalib_zsad.MODELS)
def test_learns_what_holds_for_unseen_classes(method, unseen):
    figures = {}
    for name, weights in (("surfaces-tiny", None), ("random", "random:0")):
        detect = trained(method, "surfaces-tiny", weights, seed=0, images=4 * STEPS[method], epochs=2, size=SIZE)
        figures[name] = measure(detect, unseen)
    gain = figures["surfaces-tiny"]["pixel_AUROC"] - figures["random"]["pixel_AUROC"]
    assert gain > MARGIN[method], figures
