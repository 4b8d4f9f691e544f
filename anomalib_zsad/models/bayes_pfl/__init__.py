# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""BayesPFL: Bayesian prompt flow learning."""

from anomalib_zsad.models.bayes_pfl.lightning_model import BayesPFL
from anomalib_zsad.models.bayes_pfl.torch_model import BayesPFLModel

__all__ = ["BayesPFL", "BayesPFLModel"]
