# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What an installation may lack: the package alone brings neither OpenVINO nor anomalib with PyTorch."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

RUNTIME = 'pip install "anomalib-zsad[openvino-runtime]"'
TRAINING = 'pip install "anomalib-zsad[cpu]" (or one of cu126, cu130, rocm, xpu, as for anomalib)'


class MissingPackageError(ModuleNotFoundError):
    """A package is not installed; the message has the command that installs what goes with it."""


@contextmanager
def explained() -> Generator[None, None, None]:
    """Say how to install what an import in this block does not find.

    Raises:
        MissingPackageError: In place of a ``ModuleNotFoundError``, unless it is a module of ours that is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "anomalib_zsad").partition(".")[0]
        if package == "anomalib_zsad" or isinstance(error, MissingPackageError):
            raise
        msg = f"{error}. This installs what is missing: {RUNTIME if package == 'openvino' else TRAINING}"
        raise MissingPackageError(msg, name=error.name) from error
