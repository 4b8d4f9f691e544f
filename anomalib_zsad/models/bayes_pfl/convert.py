# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Released checkpoints of Bayes-PFL.

Our names differ where one stacked tensor holds the normal and the anomalous state (dimension 0, normal first) and where
the released name says nothing (``amor_u``). Released files store the encoders up to three times and carry decoders that
nothing depends on; one copy of the former is kept and none of the latter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anomalib_zsad.adapters import AdapterError, check_tensors

_SIDES = ("normal", "abnormal")
_KINDS = ("weight", "bias")
_LINEAR = {
    "context_distribution.u": "PFL_context.amor_u",
    "context_distribution.w": "PFL_context.amor_w",
    "context_distribution.bias": "PFL_context.amor_b",
    "attention.query": "RCA.q_proj_pre",
    "pooling.reduce": "fuse.fuse_modules",
    "pooling.score": "fuse.compress",
    "pooling.output": "fuse.post_process",
    "text_map": "class_mapping",
    "image_map": "image_mapping",
}
_SINGLETON = {".amor_u": (0, 3), ".amor_w": (0, 2), ".amor_b": (0, 2, 3), ".state": (0,), "q_proj_pre.weight": (2,)}


def official_names(layers: int) -> dict[str, tuple[str, ...]]:
    """Our name of each learned tensor, and the released one; two where ours stacks the normal and the anomalous.

    Args:
        layers (int): Number of tapped layers.
    """
    names = {
        "context_bank": ("prompt_context",),
        "state_bank": ("prompt_state_normal", "prompt_state_abnormal"),
        "map_scale": ("temperature_pixel",),
        "image_scale": ("temperature_image",),
    }
    for ours, theirs in {"condition": "state", "u": "amor_u", "w": "amor_w", "bias": "amor_b"}.items():
        names[f"state_distribution.{ours}"] = tuple(f"PFL_{side}.{theirs}" for side in _SIDES)
    linear = dict(_LINEAR)
    for which in ("context", "state"):
        for ours, theirs in {"mean": "weight_mean", "log_variance": "weight_log_variance"}.items():
            for layer in (0, 2, 4):
                linear[f"{which}_distribution.encoder.{ours}.{layer}"] = f"{which}_encoder.{theirs}.module.{layer}"
    names |= {f"{ours}.{kind}": (f"{theirs}.{kind}",) for ours, theirs in linear.items() for kind in _KINDS}
    return names | {f"attention.projections.{i}.weight": (f"RCA.linear_proj.{i}.weight",) for i in range(layers)}


def convert_official(state: Mapping[str, Any], stage: int = 2) -> dict[str, Tensor]:
    """Rename the tensors of a released Bayes-PFL checkpoint.

    Args:
        state (Mapping[str, Any]): ``{"MyModel": tensors}``, as ``torch.load(path, weights_only=True)`` returns it.
        stage (int): Stage it was saved in, see :func:`official_stage`.

    Returns:
        dict[str, Tensor]: State dict of :class:`~anomalib_zsad.models.bayes_pfl.torch_model.BayesPFLModel`, float32.

    Raises:
        AdapterError: If it is no Bayes-PFL checkpoint, a tensor is missing, not known or of another shape, or copies of
            a tensor differ.
    """
    found = state.get("MyModel")
    if set(state) != {"MyModel"} or not isinstance(found, Mapping) or "prompt_context" not in found:
        msg = (
            "This is no released Bayes-PFL checkpoint: expected {'MyModel': tensors} with prompt_context, "
            f"RCA.linear_proj and others, found the entries {sorted(map(str, state))[:5]}."
        )
        raise AdapterError(msg)
    if odd := [str(key) for key, value in found.items() if not isinstance(value, Tensor)]:
        msg = f"A released Bayes-PFL checkpoint holds nothing but tensors; this file has others: {', '.join(odd[:5])}."
        raise AdapterError(msg)
    aliases = _aliases()
    check_tensors(found, {key: torch.empty(shape, device="meta") for key, shape in _shapes(found, aliases).items()})
    different = [key for key, original in aliases.items() if not torch.equal(found[key], found[original])]
    if different:
        msg = f"Copies of a tensor differ, so the file was edited or damaged: {', '.join(different[:5])}."
        raise AdapterError(msg)

    tensors = {}
    for ours, names in official_names(_count_layers(found)).items():
        parts = [_drop(name, found[name]).float() for name in names]
        tensors[ours] = torch.stack(parts) if len(parts) == 2 else parts[0].clone()
    return tensors | {"stage": torch.tensor(stage)}


def official_stage(path: str | Path) -> int:
    """Stage that the released test code reads from a file name such as ``epoch_post_12_1.pth``; 2 for any other name.

    Example:
        >>> official_stage("epoch_post_12_1.pth"), official_stage("train_visa.pth")
        (1, 2)
    """
    name = re.fullmatch(r"epoch_post_\d+_([12])", Path(path).stem)
    return int(name[1]) if name else 2


def _count_layers(found: Mapping[str, Any]) -> int:
    return sum(key.startswith("RCA.linear_proj.") for key in found)


def _drop(name: str, value: Tensor) -> Tensor:
    """Without the dimensions of size 1 that only the released layout has."""
    for suffix, dims in _SINGLETON.items():
        if name.endswith(suffix):
            return value.squeeze(dims)
    return value


def _aliases() -> dict[str, str]:
    """Names under which a released file stores a tensor again, and its first name."""
    mlps = {"encoder": ("weight_mean", "weight_log_variance"), "decoder": ("weight_mean",)}
    return {
        f"PFL_{side}.{part}.{mlp}.module.{layer}.{kind}": f"{which}_{part}.{mlp}.module.{layer}.{kind}"
        for side, which in {"context": "context", "normal": "state", "abnormal": "state"}.items()
        for part in mlps
        for mlp in mlps[part]
        for layer in (0, 2, 4)
        for kind in _KINDS
    }


def _shapes(found: Mapping[str, Any], aliases: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a checkpoint with the numbers that ``found`` seems to have."""

    def size(key: str, dim: int) -> int:
        shape = getattr(found.get(key), "shape", ())
        return shape[dim] if dim < len(shape) else 0

    layers = _count_layers(found)
    prompts, width = size("prompt_context", 0), size("prompt_context", 2)
    hidden, flows = size("fuse.compress.weight", 1), size("PFL_normal.amor_u", 1)
    linear = {
        "PFL_context.amor_u": (flows * width, width),
        "PFL_context.amor_w": (flows * width, width),
        "PFL_context.amor_b": (flows, width),
        "fuse.fuse_modules": (hidden, layers * size("RCA.linear_proj.0.weight", 1)),
        "fuse.compress": (1, hidden),
        "fuse.post_process": (width, hidden),
        "class_mapping": (width, width),
        "image_mapping": (width, width),
    } | {f"PFL_{side}.p_mu.0": (width, width) for side in ("context", *_SIDES)}
    for key in {name.rsplit(".", 1)[0] for name in aliases.values()}:
        linear[key] = {"0": (hidden, width), "2": (hidden, hidden), "4": (width, hidden)}[key[-1]]
    shapes: dict[str, tuple[int, ...]] = {f"{key}.weight": shape for key, shape in linear.items()}
    shapes |= {f"{key}.bias": shape[:1] for key, shape in linear.items()}
    for side in _SIDES:
        shapes[f"prompt_state_{side}"] = (prompts, size("prompt_state_normal", 1), width)
        shapes[f"PFL_{side}.amor_u"] = (1, flows, width, 1)
        shapes[f"PFL_{side}.amor_w"] = (1, flows, 1, width)
        shapes[f"PFL_{side}.amor_b"] = (1, flows, 1, 1)
        shapes[f"PFL_{side}.state"] = (1, width)
    shapes |= {"prompt_context": (prompts, size("prompt_context", 1), width)}
    shapes |= {"temperature_pixel": (), "temperature_image": ()}
    shapes |= {"RCA.q_proj_pre.weight": (width, width, 1), "RCA.q_proj_pre.bias": (width,)}
    patch = size("RCA.linear_proj.0.weight", 1)
    shapes |= {f"RCA.linear_proj.{layer}.weight": (width, patch) for layer in range(layers)}
    return shapes | {alias: shapes[original] for alias, original in aliases.items()}
