# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""How the small CLIP of this package is trained: pictures, texts, losses and the loop. Nothing here runs in use."""
