# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""PromptMoE: visually guided prompt mixtures."""

from anomalib_zsad.models.promptmoe.lightning_model import PromptMoE
from anomalib_zsad.models.promptmoe.torch_model import PromptMoEModel

__all__ = ["PromptMoE", "PromptMoEModel"]
