# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of zero-shot anomaly detection: per class, and their mean."""

from anomalib_zsad.metrics.evaluator import PerClassEvaluator
from anomalib_zsad.metrics.report import METRICS, Report, Row
from anomalib_zsad.metrics.scores import evaluate

__all__ = ["METRICS", "PerClassEvaluator", "Report", "Row", "evaluate"]
