# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""One checksum for tensors, wherever they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from torch import Tensor


def sha256_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and values; floats count as 32-bit ones, in whatever precision they are stored."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu()
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update((value.float() if value.is_floating_point() else value).contiguous().numpy().data)
    return digest.hexdigest()
