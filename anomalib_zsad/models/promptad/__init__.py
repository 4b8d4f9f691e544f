# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""PromptAD: a normality and an abnormality branch that look at each other."""

from anomalib_zsad.models.promptad.lightning_model import PromptAD
from anomalib_zsad.models.promptad.torch_model import PromptADModel

__all__ = ["PromptAD", "PromptADModel"]
