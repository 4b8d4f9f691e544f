# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Pictures of a test run."""

from anomalib_zsad.visualization.routing import RoutingPicture
from anomalib_zsad.visualization.visualizer import ZeroShotVisualizer

__all__ = ["RoutingPicture", "ZeroShotVisualizer"]
