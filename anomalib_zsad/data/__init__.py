# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Auxiliary data to train on, targets to test on, and the batches that keep the two apart."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomalib_zsad.data.auxiliary import class_names_of, use_auxiliary_data
    from anomalib_zsad.data.batches import (
        AuxiliaryBatch,
        AuxiliaryItem,
        NumpyZeroShotBatch,
        NumpyZeroShotItem,
        ZeroShotBatch,
        ZeroShotItem,
    )
    from anomalib_zsad.data.datasets import AuxiliaryDataset, ZeroShotDataset
    from anomalib_zsad.data.meta_json import MetaJson
    from anomalib_zsad.data.public_sets import (
        AITEX,
        CVC300,
        DAGM,
        ISIC,
        KSDD2,
        RSDD,
        TN3K,
        Br35H,
        BrainMRI,
        ClinicDB,
        ColonDB,
        DTDSynthetic,
        Endo,
        HeadCT,
        Kvasir,
        MADReal,
        MADSim,
    )
    from anomalib_zsad.data.synthetic_surfaces import SyntheticSurfaces
    from anomalib_zsad.data.zero_shot import ZeroShot

__all__ = [
    "AITEX",
    "AuxiliaryBatch",
    "AuxiliaryDataset",
    "AuxiliaryItem",
    "Br35H",
    "BrainMRI",
    "CVC300",
    "ClinicDB",
    "ColonDB",
    "DAGM",
    "DTDSynthetic",
    "Endo",
    "HeadCT",
    "ISIC",
    "KSDD2",
    "Kvasir",
    "MADReal",
    "MADSim",
    "MetaJson",
    "NumpyZeroShotBatch",
    "NumpyZeroShotItem",
    "RSDD",
    "SyntheticSurfaces",
    "TN3K",
    "ZeroShot",
    "ZeroShotBatch",
    "ZeroShotDataset",
    "ZeroShotItem",
    "class_names_of",
    "use_auxiliary_data",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in (
            "batches",
            "datasets",
            "auxiliary",
            "zero_shot",
            "synthetic_surfaces",
            "public_sets",
            "meta_json",
        ):
            if hasattr(source := import_module(f"{__name__}.{module}"), name):
                return getattr(source, name)
    msg = f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}"
    raise AttributeError(msg)


# Importing anomalib.data makes the package's hook ask this module for ZeroShot (see anomalib_zsad.plugin). That must
# happen here, before one of the modules above is half imported.
import anomalib.data  # noqa: E402, F401
