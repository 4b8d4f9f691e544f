# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Released checkpoints of Bayes-PFL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

_MLP = [f"{layer}.{kind}" for layer in (0, 2, 4) for kind in ("weight", "bias")]
_BOTH = ("PFL_normal", "PFL_abnormal")
_SINGLETON = {".amor_u": (0, 3), ".amor_w": (0, 2), ".amor_b": (0, 2, 3), ".state": (0,), "q_proj_pre.weight": (2,)}
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


def official_names(layers: int) -> dict[str, tuple[str, ...]]:
    """Our key for each learned tensor, and the official one; two where ours stacks the normal and the anomalous one.

    Args:
        layers (int): Number of tapped layers.
    """
    names = {
        "context_bank": ("prompt_context",),
        "state_bank": ("prompt_state_normal", "prompt_state_abnormal"),
        "map_scale": ("temperature_pixel",),
        "image_scale": ("temperature_image",),
        "state_distribution.condition": tuple(f"{side}.state" for side in _BOTH),
    }
    for ours, theirs in {"u": "amor_u", "w": "amor_w", "bias": "amor_b"}.items():
        names[f"state_distribution.{ours}"] = tuple(f"{side}.{theirs}" for side in _BOTH)
    for ours, theirs in {"mean": "weight_mean", "log_variance": "weight_log_variance"}.items():
        for which in ("context", "state"):
            for key in _MLP:
                names[f"{which}_distribution.encoder.{ours}.{key}"] = (f"{which}_encoder.{theirs}.module.{key}",)
    for layer in range(layers):
        names[f"attention.projections.{layer}.weight"] = (f"RCA.linear_proj.{layer}.weight",)
    for ours, theirs in _LINEAR.items():
        for kind in ("weight", "bias"):
            names[f"{ours}.{kind}"] = (f"{theirs}.{kind}",)
    return names


def _aliases() -> dict[str, str]:
    """Keys that the official file stores again under another name."""
    parts = {
        "encoder": [f"{mlp}.module.{key}" for mlp in ("weight_mean", "weight_log_variance") for key in _MLP],
        "decoder": [f"weight_mean.module.{key}" for key in _MLP],
    }
    return {
        f"PFL_{side}.{part}.{key}": f"{which}_{part}.{key}"
        for side, which in {"context": "context", "normal": "state", "abnormal": "state"}.items()
        for part, keys in parts.items()
        for key in keys
    }


def _dead() -> set[str]:
    """Decoders and one more map, which no output and no loss depends on."""
    decoders = {f"{which}_decoder.weight_mean.module.{key}" for which in ("context", "state") for key in _MLP}
    maps = {f"PFL_{side}.p_mu.0" for side in ("context", "normal", "abnormal")}
    return decoders | {f"{key}.{kind}" for key in maps for kind in ("weight", "bias")}


def convert_official(checkpoint: Mapping[str, object], stage: int = 2) -> dict[str, Tensor]:
    """Turn a released checkpoint into the learned tensors of :class:`BayesPFLModel`.

    Weights that nothing depends on are left behind. Shapes are checked where the result is loaded into a model.

    Args:
        checkpoint (Mapping[str, object]): ``{"MyModel": state_dict}`` as read by
            ``torch.load(path, weights_only=True)``.
        stage (int): Stage it was saved in, see :func:`official_stage`.

    Raises:
        ValueError: If it is no such checkpoint, lacks a tensor, has one too many, or an alias differs.
    """
    state = checkpoint.get("MyModel")
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        msg = f"A released Bayes-PFL checkpoint is {{'MyModel': tensors}}; this file has {_some(checkpoint)}."
        raise ValueError(msg)
    layers = sum(key.startswith("RCA.linear_proj.") for key in state)
    names, aliases = official_names(layers), _aliases()
    expected = {key for keys in names.values() for key in keys} | set(aliases) | _dead()
    if set(state) != expected:
        msg = (
            "This is not a complete Bayes-PFL checkpoint; "
            f"missing: {_some(expected - set(state))}; not known: {_some(set(state) - expected)}."
        )
        raise ValueError(msg)
    different = [key for key, original in aliases.items() if not torch.equal(state[key], state[original])]
    if different:
        msg = f"Tensors that are stored twice differ: {_some(different)}. The file was edited or damaged."
        raise ValueError(msg)

    try:
        tensors = {key: torch.stack([_drop(name, state[name]) for name in sources]) for key, sources in names.items()}
    except (IndexError, RuntimeError) as error:
        msg = f"A tensor has a shape that Bayes-PFL does not have ({error}). The file was edited or damaged."
        raise ValueError(msg) from error
    tensors = {key: value[0] if len(names[key]) == 1 else value for key, value in tensors.items()}
    return {key: value.float() for key, value in tensors.items()} | {"stage": torch.tensor(stage)}


def official_stage(path: str | Path) -> int:
    """Stage that the released test code reads from a file name such as ``epoch_post_12_1.pth``; 2 for any other name.

    Example:
        >>> official_stage("epoch_post_12_1.pth"), official_stage("train_visa.pth")
        (1, 2)
    """
    found = re.fullmatch(r"epoch_post_\d+_([12])", Path(path).stem)
    return int(found[1]) if found else 2


def _drop(name: str, value: Tensor) -> Tensor:
    """Without the dimensions of size 1 that only the official layout has."""
    for suffix, dims in _SINGLETON.items():
        if name.endswith(suffix):
            return value.squeeze(dims)
    return value


def _some(keys: object) -> str:
    keys = sorted(map(str, keys))
    return (", ".join(keys[:5]) + (" ..." if len(keys) > 5 else "")) or "nothing"
