# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""A world of generated surfaces and objects with defects; needs numpy and OpenCV only."""

from anomalib_zsad.data.surfaces.catalogue import CLASSES, DEFECTS, caption, members
from anomalib_zsad.data.surfaces.render import Picture, render, render_pair, visible_change

__all__ = ["CLASSES", "DEFECTS", "Picture", "caption", "members", "render", "render_pair", "visible_change"]
