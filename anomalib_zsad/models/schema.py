# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""JSON Schemas of the methods' YAML files, for editors that complete and check them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anomalib_zsad


def json_schema(name: str) -> dict[str, Any]:
    """Schema of ``configs/model/<name>.yaml``: an anomalib config whose model is the method ``name``.

    Args:
        name (str): Class name out of the catalogue, e.g. ``"PromptMoE"``.
    """
    fields = getattr(anomalib_zsad, name).config_class.model_json_schema()
    arguments = {
        **fields,
        "properties": {
            **fields["properties"],
            "weights": {"type": ["string", "null"], "default": None, "description": "Adapter file to start from."},
        },
    }
    definitions = arguments.pop("$defs", {})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"anomalib configuration with {name}",
        "$defs": definitions,
        "type": "object",
        "properties": {
            "model": {
                "type": "object",
                "properties": {"class_path": {"enum": [name, f"anomalib_zsad.{name}"]}, "init_args": arguments},
                "required": ["class_path"],
                "additionalProperties": False,
            },
        },
        "required": ["model"],
    }


def write_schemas(folder: Path) -> list[Path]:
    """Write the schema of every method as ``<folder>/<method>.json``, named like the method's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, module in anomalib_zsad.MODELS.items():
        path = folder / f"{module.rpartition('.')[2]}.json"
        path.write_text(json.dumps(json_schema(name), indent=2) + "\n", encoding="utf-8")
        paths.append(path)
    return paths
