# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Files that are there as a whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def whole(path: Path) -> Generator[Path]:
    """Write a file that replaces ``path`` when the block ends well, and leaves it alone when it does not.

    A process that is killed leaves the old file, or the new one, and perhaps ``<name>.partial`` beside it, which the
    next writer overwrites.

    Args:
        path (Path): The file to make or to replace; its folder exists.

    Yields:
        Path: Where to write.

    Raises:
        OSError: If the disk is full, with the name of the file.
    """
    partial = path.with_name(path.name + ".partial")
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
