# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The methods, one folder each: ``config.py``, ``torch_model.py``, ``lightning_model.py`` and a README."""
