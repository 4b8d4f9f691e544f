# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The photographs below a folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from anomalib_zsad.deploy.report_folder import read_run
from anomalib_zsad.pictures import SUFFIXES

logger = logging.getLogger(__name__)


def find_images(folder: Path, leave_out: Path | None = None) -> Iterator[Path]:
    """Images below a folder, in order, by suffix. Links are followed, but no folder is entered twice.

    Hidden files and folders are left out, and so are folders of reports, whose overlays are no photographs; of these a
    warning tells. A folder that may not be read comes as if it were an image, so that it is listed among the unreadable
    ones.

    Args:
        folder (Path): Where to look.
        leave_out (Path | None): A folder below it that is not looked into.

    Raises:
        ValueError: If the folder itself is that of a report.
    """
    if read_run(folder) is not None:
        msg = f"{folder} is the folder of a report, whose overlays are no photographs; name the folder of photographs."
        raise ValueError(msg)
    seen = set() if leave_out is None else {os.path.realpath(leave_out)}
    yield from _walk(folder, seen)


def _walk(folder: Path, seen: set[str]) -> Iterator[Path]:
    place = os.path.realpath(folder)  # numbers of files would not do: some network drives have one for all
    if place in seen:
        return
    seen.add(place)
    if read_run(folder) is not None:
        logger.warning("Left out: %s (a report of anomalib-zsad detect).", folder)
        return
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        yield folder
        return
    for path in paths:
        if _is_folder(path):
            yield from _walk(path, seen)
        elif path.suffix.lower() in SUFFIXES:
            yield path


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a link to itself
        return False
