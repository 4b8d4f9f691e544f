# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Files that are there as a whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PARTIAL = re.compile(r"\.[0-9a-f]{8}\.partial$")
_DAY = 24 * 60 * 60


@contextmanager
def whole(path: Path) -> Generator[Path]:
    """Write a file that replaces ``path`` when the block ends well, and leaves it alone when it does not.

    Every writer has a file of its own to write to, ``<start of the name>.<8 digits>.partial`` beside ``path``: of
    several at once, the last to end well is the one whose file stays. A process that is killed leaves the old file, or
    the new one, and perhaps its partial one, which goes when a process writes to that folder a day or more later.

    Args:
        path (Path): The file to make or to replace; its folder exists.

    Yields:
        Path: Where to write.

    Raises:
        OSError: If the disk is full, with the name of the file.
    """
    _tidy(path.parent)
    start = os.fsencode(path.name)[:200].decode(errors="ignore")  # a name has 255 bytes at most
    partial = path.with_name(f"{start}.{secrets.token_hex(4)}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno in _FULL:
            raise disk_full(path, error) from error
        raise
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def disk_full(path: Path, error: OSError) -> OSError:
    """The error to raise if there is no room to write ``path``."""
    text = (
        f"{error.strerror}, while writing {path}. Nothing half-written was left. Make room there and in the folder for "
        "temporary files (TMPDIR), or choose another disk, and run the same command again."
    )
    return OSError(error.errno, text)


@cache
def _tidy(folder: Path) -> None:
    """Remove what processes that were killed have left in a folder; once per process, as folders may be large."""
    with suppress(OSError):
        for path in folder.iterdir():
            if _PARTIAL.search(path.name) and time.time() - path.stat().st_mtime > _DAY:
                path.unlink(missing_ok=True)
