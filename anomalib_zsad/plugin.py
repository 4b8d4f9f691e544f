# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Makes our models and datamodules visible to anomalib, which has no plugin interface of its own.

anomalib looks classes up in two ways, and one step serves both. The short names of its command line, ``get_model``
with a name and ``list_models`` go through the subclasses of ``AnomalibModule`` and ``AnomalibDataModule``, so the
classes must have been imported. ``get_model`` and ``get_datamodule`` with a configuration, hence the benchmark and
tiled-ensemble pipelines, look for an attribute of ``anomalib.models`` or ``anomalib.data``, so they are set there.
"""

from __future__ import annotations

import logging
import sys
from collections import defaultdict
from importlib import import_module

from _anomalib_zsad_autoload import OPT_OUT
from anomalib_zsad import DATAMODULES, MODELS
from anomalib_zsad.requirements import explained

logger = logging.getLogger(__name__)

_failed: set[str] = set()


def register() -> None:
    """Add the catalogue to ``anomalib.data`` and ``anomalib.models``, each if it is imported.

    There is no need to call this: importing :mod:`anomalib_zsad` does, and an installed package does so by itself.
    Calling it again adds only what is missing. A name that anomalib has already is left to anomalib, and a class that
    cannot be imported is left out: one warning names the cause, and all other models keep working.

    The name of this package also joins ``anomalib.models.ALLOWED_MODULES``, the short list of modules from which
    ``get_model`` imports what a configuration names. It is there for security, so it is extended by this one module
    and by nothing below it; without it, benchmark configurations could not say ``anomalib_zsad.PromptMoE``.
    """
    faults = defaultdict(list)
    # The data first: importing a datamodule of ours may import anomalib.models.
    for host, catalogue in (("anomalib.data", DATAMODULES), ("anomalib.models", MODELS)):
        for name, source in catalogue.items() if host in sys.modules else ():
            if hasattr(sys.modules[host], name) or name in _failed:
                continue
            try:
                with explained():
                    setattr(sys.modules[host], name, getattr(import_module(source), name))
            except Exception as error:  # noqa: BLE001 - no fault of ours may break anomalib
                faults[f"{type(error).__name__}: {error}"].append(name)
    if faults:
        _failed.update(*faults.values())
        text = "; ".join(f"{', '.join(names)} ({fault})" for fault, names in faults.items())
        logger.warning("Not available in anomalib: %s. %s=0 stops the attempt.", text, OPT_OUT)
    if "anomalib.models" in sys.modules:
        sys.modules["anomalib.models"].ALLOWED_MODULES.add("anomalib_zsad")
