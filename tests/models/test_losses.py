# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The loss terms that the methods share."""

import pytest
import torch

from anomalib_zsad.losses import focal_terms


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 1.5, 2.0])
def test_focal_terms_of_sure_probabilities_are_finite_for_every_exponent(gamma: float) -> None:
    probability = torch.tensor([0.0, 0.3, 1 - 2e-5, 1 - 1e-5, 1.0], requires_grad=True)
    terms = focal_terms(probability, gamma)
    terms.sum().backward()
    p = probability.detach().double()
    torch.testing.assert_close(terms.double(), -((1 - p) ** gamma) * (p + 1e-5).log(), rtol=1e-4, atol=2e-5)
    assert probability.grad.isfinite().all()
    assert (probability.grad <= 1e-5).all()  # more probability of the truth is never punished
