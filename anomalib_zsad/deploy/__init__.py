# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Using a trained model on photographs, without PyTorch where the model is an exported one.

Nothing here imports anomalib or PyTorch, except :mod:`anomalib_zsad.deploy.engines` when it is given an adapter, a
checkpoint or a torch export.
"""

from anomalib_zsad.deploy.detector import Detection, Detector, Unreadable
from anomalib_zsad.deploy.regions import Region
from anomalib_zsad.pictures import UnreadableImageError

__all__ = ["Detection", "Detector", "Region", "Unreadable", "UnreadableImageError"]
