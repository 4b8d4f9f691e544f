# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""CoPS: conditional prompt synthesis."""

from anomalib_zsad.models.cops.lightning_model import CoPS
from anomalib_zsad.models.cops.torch_model import CoPSModel

__all__ = ["CoPS", "CoPSModel"]
