# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Methods x data sets x seeds from one YAML file, beside the published numbers."""
