# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Trained CLIP-based zero-shot anomaly detection as first-class anomalib models.

Importing the package is cheap: a class is imported when it is first asked for. The import also makes the classes
known to anomalib (see :mod:`anomalib_zsad.plugin`), at once if anomalib is already imported and otherwise as soon as
it is. An installed package does this by itself at interpreter start, so no import line is needed.

Example:
    >>> from anomalib_zsad import PromptMoE
    >>> model = PromptMoE()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import _anomalib_zsad_autoload

if TYPE_CHECKING:
    from anomalib_zsad.data import SyntheticSurfaces as SyntheticSurfaces
    from anomalib_zsad.data import ZeroShot as ZeroShot
    from anomalib_zsad.models.bayes_pfl import BayesPFL as BayesPFL
    from anomalib_zsad.models.cops import CoPS as CoPS
    from anomalib_zsad.models.dapo import DAPO as DAPO
    from anomalib_zsad.models.promptad import PromptAD as PromptAD
    from anomalib_zsad.models.promptmoe import PromptMoE as PromptMoE

__version__ = "0.1.0"

# The catalogue, class -> module that has it. A new class is added here and, for type checkers, above.
MODELS = {
    "BayesPFL": "anomalib_zsad.models.bayes_pfl",
    "CoPS": "anomalib_zsad.models.cops",
    "DAPO": "anomalib_zsad.models.dapo",
    "PromptAD": "anomalib_zsad.models.promptad",
    "PromptMoE": "anomalib_zsad.models.promptmoe",
}
DATAMODULES = {
    "SyntheticSurfaces": "anomalib_zsad.data",
    from anomalib_zsad.deploy import Detector as Detector
    "ZeroShot": "anomalib_zsad.data",
}

__all__ = [*MODELS, *DATAMODULES, *TOOLS]


def __getattr__(name: str) -> Any:
    source = (MODELS | DATAMODULES | TOOLS).get(name)
    if source is None:
        msg = f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}"
        raise AttributeError(msg)
    return getattr(import_module(source), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_anomalib_zsad_autoload.arm()
TOOLS = {
    "Detector": "anomalib_zsad.deploy",
}
