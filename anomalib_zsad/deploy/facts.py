# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What an exported graph says of itself, believed only where it can be true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FORMAT = 1
_PLACE = ["framework", "anomalib_zsad"]
_LONGEST_TEXT, _MOST_TYPES = 2**20, 1000


def read_facts(model: Any, path: Path) -> dict[str, Any]:
    """Read the facts in a graph, and check that the graph takes images and gives scores.

    Args:
        model (openvino.Model): The graph.
        path (Path): Its file, for messages.

    Returns:
        dict[str, Any]: See :meth:`anomalib_zsad.zero_shot.ZeroShotMixin.export_facts`; empty for graphs of others.

    Raises:
        ValueError: If the facts are damaged or cannot be true, or the graph is not one of an anomaly detector.
    """
    shape = model.input(0).partial_shape
    outputs = {name: output.partial_shape for output in model.outputs for name in output.names}
    images = shape.rank.is_static and len(shape) == 4 and _may_be(shape[1], 3)
    if len(model.inputs) != 1 or not images or "pred_score" not in outputs:
        msg = (
            f"{path} is no model of anomalib: expected one input of shape (B, 3, H, W) and an output named pred_score; "
            f"it has {len(model.inputs)}, the first of shape {shape}, and {', '.join(sorted(outputs)) or 'no names'}."
        )
        raise ValueError(msg)
    if not model.has_rt_info(_PLACE):
        return {}
    try:
        text = model.get_rt_info(_PLACE).astype(str)
        facts: Any = json.loads(text) if len(text) <= _LONGEST_TEXT else None
    except (ValueError, RuntimeError, RecursionError) as error:
        msg = f"What {path} says of itself is damaged ({error}). Copy it again, or export it anew."
        raise ValueError(msg) from error
    if isinstance(facts, dict) and isinstance(facts.get("format"), int) and facts["format"] > FORMAT:
        msg = f"{path} has format {facts['format']}; this version reads up to {FORMAT}. Update anomalib-zsad."
        raise ValueError(msg)
    if problem := _problem(facts, outputs):
        msg = f"What {path} says of itself cannot be true: {problem}. Copy it again, or export it anew."
        raise ValueError(msg)
    return facts


def _may_be(dimension: Any, length: int) -> bool:
    return dimension.is_dynamic or dimension.get_length() == length


def _problem(facts: Any, outputs: dict[str, Any]) -> str:
    """What is wrong with the facts that results depend on, or nothing."""
    if not isinstance(facts, dict):
        return f"expected an object of at most {_LONGEST_TEXT} characters"
    thresholds, types = facts.get("thresholds", {}), facts.get("defect_types", [])
    if not isinstance(thresholds, dict):
        return "thresholds is no object"
    for name, value in thresholds.items():
        if not isinstance(value, int | float) or not 0 <= value <= 1:  # NaN is neither
            return f"the threshold {name!r} is not in [0, 1]"
    if not isinstance(types, list) or len(types) > _MOST_TYPES or not all(isinstance(word, str) for word in types):
        return f"defect_types is no list of at most {_MOST_TYPES} words"
    scores = outputs.get("type_scores")
    if types and scores is not None and not _may_be(scores[len(scores) - 1], len(types)):
        return f"{len(types)} defect_types for type_scores of shape {scores}"
    return ""
