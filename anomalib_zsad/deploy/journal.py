# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Results that survive an interruption."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from anomalib_zsad.files import disk_full, whole


class Journal:
    """A file of JSON lines, one record for each image; where an image has several, the last one counts.

    A record is written with one call and is there when it returns. A line that an interruption left unfinished is cut
    off when the file is opened again, and one that cannot be read is passed over.

    Args:
        path (Path): The file; made if need be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, int] = {}
        path.touch()
        self._file = path.open("r+b", buffering=0)
        place = 0
        with path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                if (image := _image_of(line)) is not None:
                    self._places[image] = place
                place += len(line)
        self._file.truncate(place)
        self._file.seek(place)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __contains__(self, image: str) -> bool:
        return image in self._places

    def __getitem__(self, image: str) -> dict[str, Any]:
        with self.path.open("rb") as file:
            file.seek(self._places[image])
            return json.loads(file.readline())

    def append(self, record: dict[str, Any]) -> None:
        """Write a record with its ``image``."""
        place = self._file.tell()
        line = json.dumps(record).encode() + b"\n"
        try:
            written = self._file.write(line)
        except OSError as error:
            raise disk_full(self.path, error) from error
        if written != len(line):  # the rest of the line would not have fitted; it is cut off when read again
            raise disk_full(self.path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        self._places[record["image"]] = place

    def compact(self, images: Iterable[str]) -> None:
        """Leave one line for each of these images, in this order, and no others."""
        places: dict[str, int] = {}
        with whole(self.path) as partial:
            with partial.open("wb") as file, self.path.open("rb") as lines:
                for image in images:
                    lines.seek(self._places[image])
                    places[image] = file.tell()
                    file.write(lines.readline())
            self._file.close()
        self._places = places
        self._file = self.path.open("ab", buffering=0)


def _image_of(line: bytes) -> str | None:
    try:
        return json.loads(line)["image"]
    except (ValueError, KeyError, TypeError):
        return None
