# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What was measured, one file a cell: written whole or not at all."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from anomalib_zsad.files import whole
from anomalib_zsad.metrics import Report, Row


@dataclass(frozen=True)
class Result:
    """A finished cell.

    Attributes:
        report (Report): The metrics per class.
        facts (dict[str, Any]): What determined it, as :attr:`Cell.facts`.
        model (dict[str, Any]): Backbone, image size and what else the model says of itself.
        seconds (float): Duration of the test, for the time left; not part of any table.
    """

    report: Report
    facts: dict[str, Any]
    model: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


class Results:
    """The finished cells in a folder.

    A file's name ends in the hash of what determines the cell, so that a changed plan never meets an old figure. To
    measure a cell anew, delete its file.

    Args:
        folder (Path): Folder of the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """File of a cell."""
        return self.folder / f"{key}.json"

    def get(self, key: str) -> Result | None:
        """The result of a cell, ``None`` while it is not finished.

        Raises:
            ValueError: If the file is not what :meth:`put` writes.
        """
        path = self.path(key)
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            rows = tuple(Row(**{**row, "notes": tuple(row["notes"])}) for row in content.pop("rows"))
            return Result(Report(rows), **content)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            msg = f"{path} is damaged ({error!r}). Delete it to measure that cell again."
            raise ValueError(msg) from error

    def put(self, key: str, result: Result) -> None:
        """Keep a result. Killed at any moment, this leaves the whole file or none."""
        content: dict[str, Any] = {"rows": [asdict(row) for row in result.report.rows]}
        content |= {"facts": result.facts, "model": result.model, "seconds": result.seconds}
        write_whole(self.path(key), json.dumps(content, indent=1, default=str))


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that it is never seen in parts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
