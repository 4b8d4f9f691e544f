# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The folder of a report: who made it, and who is writing to it."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anomalib_zsad.pictures import SUFFIXES

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

logger = logging.getLogger(__name__)

MARKER, FORMAT = "anomalib_zsad_report", 1
"""Key of ``run.json`` by which a folder is known as ours."""

FILES = ("results.jsonl", "gallery.jsonl", "results.csv", "report.html")
OVERLAYS = "overlays"

_LOCK = ".anomalib-zsad.lock"
_LONGEST = 2**16
_HELD = frozenset({errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK})


def read_run(folder: Path) -> dict[str, Any] | None:
    """What the results in a folder depend on; ``None`` if it is no report of ours."""
    path = folder / "run.json"
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            run: Any = json.loads(file.read(_LONGEST))
    except (OSError, ValueError, RecursionError):
        return None
    return run if isinstance(run, dict) and MARKER in run else None


def refuse_foreign(folder: Path) -> None:
    """Leave alone what others have written.

    Raises:
        ValueError: If we have not made the folder's ``run.json``, and it has a file of the name of one of ours, or
            images, which would be taken for parts of the report.
    """
    if read_run(folder) is None:
        images = [path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
        if images:
            msg = (
                f"{folder} has {len(images)} images, {min(images)} for one, which would not be found any more in the "
                "folder of a report. Choose an empty folder for it, or a new one."
            )
            raise ValueError(msg)
        foreign = [name for name in ("run.json", *FILES, OVERLAYS) if os.path.lexists(folder / name)]
        if foreign:
            msg = (
                f"{folder} has {', '.join(foreign)}, not made by this version of `anomalib-zsad detect`, which would "
                "replace them. Choose an empty folder for the report, or a new one."
            )
            raise ValueError(msg)


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Keep every other run from writing to a folder meanwhile.

    The lock is the system's and ends with the process, however it ends. Its empty file stays: another run may have
    opened it already, and would then hold a lock that a third one does not see.

    Raises:
        BlockingIOError: If another run has the lock.
    """
    with (folder / _LOCK).open("ab") as file:
        try:
            if sys.platform == "win32":
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                msg = f"another run is writing to {folder}. Wait for its end, or choose another folder for the report."
                raise BlockingIOError(msg) from error
            logger.warning("%s cannot be locked (%s): let no other run write to it.", folder, error.strerror)
        yield
