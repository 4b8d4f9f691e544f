# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Batches whose predictions name the kind of defect."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from anomalib.data import ImageBatch
from torch import Tensor
from typing_extensions import Self

from anomalib_zsad.data.batches import NumpyZeroShotBatch, NumpyZeroShotItem, ZeroShotBatch, ZeroShotItem
from anomalib_zsad.functional import upsample


@dataclass
class NumpyDefectTypeItem(NumpyZeroShotItem):
    """Numpy form of :class:`DefectTypeItem`."""

    type_grid: Any = None
    type_scores: Any = None
    type_names: Any = None
    state_grid: Any = None


@dataclass
class NumpyDefectTypeBatch(NumpyZeroShotBatch):
    """Numpy form of :class:`DefectTypeBatch`."""

    item_class: ClassVar[type] = NumpyDefectTypeItem

    type_grid: Any = None
    type_scores: Any = None
    type_names: Any = None
    state_grid: Any = None


class _TypeMaps:
    """Maps at the size of the anomaly map, made when asked for: a folder of photographs would fill the memory."""

    type_grid: Tensor | None
    anomaly_map: Tensor | None
    pred_mask: Tensor | None

    @property
    def type_maps(self) -> Tensor | None:
        """Probability of every kind of defect, ``(B, K, H, W)``, without ``B`` for an item."""
        if self.type_grid is None or self.anomaly_map is None:
            return None
        return upsample(self.type_grid, self.anomaly_map.shape[-1], align_corners=True)

    @property
    def type_map(self) -> Tensor | None:
        """Number of the likeliest kind where ``pred_mask`` is true, counted from 1, and 0 elsewhere; ``(B, H, W)``."""
        maps = self.type_maps
        if maps is None or self.pred_mask is None:
            return None
        return torch.where(self.pred_mask.bool(), maps.argmax(dim=-3) + 1, 0)


@dataclass
class DefectTypeItem(ZeroShotItem, _TypeMaps):
    """An image with the kinds of defect found in it.

    Fields besides those of :class:`~anomalib_zsad.data.batches.ZeroShotItem`:
        type_grid (Tensor | None): ``(K, g, g)`` probability of every kind at each patch.
        type_scores (Tensor | None): ``(K,)`` highest of them.
        type_names (tuple[str, ...] | None): The ``K`` words.
        state_grid (Tensor | None): ``(layers, K + 1, g, g)``, in tests only: see :class:`DefectTypeBatch`.
    """

    numpy_class: ClassVar[type] = NumpyDefectTypeItem

    type_grid: Tensor | None = None
    type_scores: Tensor | None = None
    type_names: tuple[str, ...] | None = None
    state_grid: Tensor | None = None


@dataclass
class DefectTypeBatch(ZeroShotBatch, _TypeMaps):
    """A batch of :class:`DefectTypeItem`.

    Fields besides those of :class:`~anomalib_zsad.data.batches.ZeroShotBatch`:
        type_grid (Tensor | None): ``(B, K, g, g)`` probability of every kind at each patch.
        type_scores (Tensor | None): ``(B, K)`` highest of them.
        type_names (list[tuple[str, ...]] | None): The ``K`` words, for each image.
        state_grid (Tensor | None): ``(B, layers, K + 1, g, g)`` probability of the normal state and every kind, layer
            by layer: what the multi-type metrics are made of. In tests only; predictions are kept, and it is large.
    """

    item_class: ClassVar[type] = DefectTypeItem
    numpy_class: ClassVar[type] = NumpyDefectTypeBatch

    type_grid: Tensor | None = None
    type_scores: Tensor | None = None
    type_names: list[tuple[str, ...]] | None = None
    state_grid: Tensor | None = None

    @classmethod
    def of(cls, batch: ImageBatch) -> Self:
        """A batch with the same tensors and room for the kinds of defect."""
        values = {field.name: getattr(batch, field.name) for field in fields(batch)}
        if values.get("has_mask") is None:
            values["has_mask"] = torch.full((batch.batch_size,), batch.gt_mask is not None)
        return cls(**values)
