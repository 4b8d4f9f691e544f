# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""DAPO: defect-aware prompts that name the kind of a defect."""

from anomalib_zsad.models.dapo.lightning_model import DAPO
from anomalib_zsad.models.dapo.torch_model import DAPOModel

__all__ = ["DAPO", "DAPOModel"]
