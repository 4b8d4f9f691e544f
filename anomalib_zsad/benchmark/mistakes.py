# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Mistakes of a YAML file in words."""

from __future__ import annotations

import inspect
import re

_UNEXPECTED = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")


def explain(error: Exception) -> str:
    """What is wrong; of an argument that does not exist, which there are.

    Example:
        >>> from anomalib.data import Kolektor
        >>> try:
        ...     Kolektor(folder="here")
        ... except TypeError as error:
        ...     explain(error).partition(", train_batch_size")[0]
        "Kolektor has no argument 'folder'. It has root"
    """
    text = str(error) or type(error).__name__
    if not isinstance(error, TypeError):
        return text
    if (found := _UNEXPECTED.search(text)) is None:
        return f"{type(error).__name__}: {text}"  # which alone says little
    name, argument = found.groups()
    known = ", ".join(_arguments(name))
    return f"{name} has no argument {argument!r}." + (f" It has {known}." if known else "")


def _arguments(name: str) -> list[str]:
    """Arguments of a class that a YAML file gives some to; none if it is not known."""
    import anomalib.data
    import anomalib.models
    from lightning import pytorch

    import anomalib_zsad

    homes = (anomalib_zsad, anomalib.data, anomalib.models, pytorch)
    cls = next((getattr(home, name) for home in homes if hasattr(home, name)), None)
    if cls is None:
        return []
    return [one.name for one in inspect.signature(cls).parameters.values() if one.kind != one.VAR_KEYWORD]
