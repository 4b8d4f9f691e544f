# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The report: one HTML file that needs no other and no network."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path
from typing import Any

from anomalib_zsad.deploy.drawing import heat_table, type_colour
from anomalib_zsad.files import whole

REGIONS = 20
"""A card lists this many regions at most."""


def write_report(
    path: Path,
    facts: dict[str, Any],
    type_names: tuple[str, ...],
    records: list[dict[str, Any]],
    cards: Iterable[dict[str, Any]],
) -> None:
    """Write the report, whole or not at all; cards are taken one at a time.

    Args:
        path (Path): The file.
        facts (dict[str, Any]): ``model``, ``threshold`` and ``pixel_threshold``.
        type_names (tuple[str, ...]): Kinds of defect.
        records (list[dict[str, Any]]): Results of all images, as :func:`anomalib_zsad.deploy.inspection.record_of`.
        cards (Iterable[dict[str, Any]]): Results of those to be shown, each with its pictures, see
            :func:`anomalib_zsad.deploy.drawing.embedded`.
    """
    start, end = files("anomalib_zsad.deploy").joinpath("report.html").read_text(encoding="utf-8").split("%DATA%")
    data = {
        **facts,
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "heat": heat_table().tolist(),
        "types": [{"name": name, "colour": type_colour(number)} for number, name in enumerate(type_names)],
        "scores": [record["score"] for record in records if record["verdict"] != "unreadable"],
        "unreadable": [record for record in records if record["verdict"] == "unreadable"],
    }
    with whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(start + _json(data)[:-1] + ', "images": [')
        for number, card in enumerate(cards):
            file.write(("," if number else "") + "\n" + _json({**card, "regions": card["regions"][:REGIONS]}))
        file.write("]}" + end)


def _json(data: dict[str, Any]) -> str:
    """JSON that cannot end the script element that it stands in, whatever a file is called."""
    return json.dumps(data).replace("<", "\\u003c")
