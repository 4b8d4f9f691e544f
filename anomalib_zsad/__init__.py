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
    from anomalib_zsad.data import AITEX as AITEX
    from anomalib_zsad.data import CVC300 as CVC300
    from anomalib_zsad.data import DAGM as DAGM
    from anomalib_zsad.data import ISIC as ISIC
    from anomalib_zsad.data import KSDD2 as KSDD2
    from anomalib_zsad.data import RSDD as RSDD
    from anomalib_zsad.data import TN3K as TN3K
    from anomalib_zsad.data import Br35H as Br35H
    from anomalib_zsad.data import BrainMRI as BrainMRI
    from anomalib_zsad.data import ClinicDB as ClinicDB
    from anomalib_zsad.data import ColonDB as ColonDB
    from anomalib_zsad.data import DTDSynthetic as DTDSynthetic
    from anomalib_zsad.data import Endo as Endo
    from anomalib_zsad.data import HeadCT as HeadCT
    from anomalib_zsad.data import Kvasir as Kvasir
    from anomalib_zsad.data import MADReal as MADReal
    from anomalib_zsad.data import MADSim as MADSim
    from anomalib_zsad.data import MetaJson as MetaJson
    from anomalib_zsad.data import SyntheticSurfaces as SyntheticSurfaces
    from anomalib_zsad.data import ZeroShot as ZeroShot
    from anomalib_zsad.deploy import Detector as Detector
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
    "AITEX": "anomalib_zsad.data",
    "Br35H": "anomalib_zsad.data",
    "BrainMRI": "anomalib_zsad.data",
    "CVC300": "anomalib_zsad.data",
    "ClinicDB": "anomalib_zsad.data",
    "ColonDB": "anomalib_zsad.data",
    "DAGM": "anomalib_zsad.data",
    "DTDSynthetic": "anomalib_zsad.data",
    "Endo": "anomalib_zsad.data",
    "HeadCT": "anomalib_zsad.data",
    "ISIC": "anomalib_zsad.data",
    "KSDD2": "anomalib_zsad.data",
    "Kvasir": "anomalib_zsad.data",
    "MADReal": "anomalib_zsad.data",
    "MADSim": "anomalib_zsad.data",
    "MetaJson": "anomalib_zsad.data",
    "RSDD": "anomalib_zsad.data",
    "SyntheticSurfaces": "anomalib_zsad.data",
    "TN3K": "anomalib_zsad.data",
    "ZeroShot": "anomalib_zsad.data",
}
TOOLS = {
    "Detector": "anomalib_zsad.deploy",
}

__all__ = [*MODELS, *DATAMODULES, *TOOLS]


def __getattr__(name: str) -> Any:
    source = (MODELS | DATAMODULES | TOOLS).get(name)
    if source is None:
        msg = f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}"
        raise AttributeError(msg)
    from anomalib_zsad.requirements import explained

    with explained():
        return getattr(import_module(source), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_anomalib_zsad_autoload.arm()
