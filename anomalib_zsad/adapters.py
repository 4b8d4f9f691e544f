# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Adapter files: what a method has learned, without CLIP, and how it came about.

An adapter is a ``.safetensors`` file of a few MB. Its header carries one JSON object: method, config, backbone and the
sha256 of its weights, auxiliary data, seed, version and the statistics of the calibration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

HEADER = "anomalib_zsad"
FORMAT = 1


class AdapterError(ValueError):
    """An adapter file that cannot be used, with the reason and the way out."""


@dataclass(frozen=True)
class Adapter:
    """Contents of an adapter file.

    Attributes:
        method (str): Class name of the model, e.g. ``"PromptMoE"``.
        config (dict): The resolved config it was trained with.
        tensors (dict[str, Tensor]): Learned tensors by state-dict key.
        calibration (dict): Statistics of the post-processor; empty when it was never calibrated.
        clip (dict): ``backbone``, ``pretrained``, ``activation`` and the ``sha256`` of the weights.
        origin (dict): Free facts: auxiliary data, protocol, seed, package version.
    """

    method: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    calibration: dict[str, list[float]] = field(default_factory=dict)
    clip: dict[str, str] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path) -> Path:
        """Write the file whole or not at all, making folders as needed."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {
            "format": FORMAT,
            "method": self.method,
            "config": self.config,
            "calibration": self.calibration,
            "clip": self.clip,
            "origin": self.origin,
        }
        tensors = {key: value.detach().cpu().contiguous() for key, value in self.tensors.items()}
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(save(tensors, metadata={HEADER: json.dumps(facts)}))
        partial.replace(path)
        return path

    @classmethod
    def load(cls, path: str | Path, method: str) -> Adapter:
        """Read an adapter of ``method``.

        Raises:
            FileNotFoundError: If there is no such file.
            AdapterError: If it is not an adapter, is damaged, or belongs to another method.
        """
        path = Path(path)
        if not path.is_file():
            msg = f"Adapter {path} does not exist. Training writes one to <results>/weights/adapter/."
            raise FileNotFoundError(msg)
        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads((file.metadata() or {}).get(HEADER, "null"))
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, json.JSONDecodeError) as error:
            msg = f"{path} is not a safetensors file, or it is damaged ({error}). Copy it again."
            raise AdapterError(msg) from error
        if facts is None:
            msg = f"{path} holds tensors but no adapter of this package: its header lacks the entry {HEADER!r}."
            raise AdapterError(msg)
        if facts["format"] > FORMAT:
            msg = f"{path} has format {facts['format']}; this version reads up to {FORMAT}. Update anomalib-zsad."
            raise AdapterError(msg)
        if facts["method"] != method:
            msg = f"{path} is an adapter of {facts['method']}, not of {method}. Use --model {facts['method']}."
            raise AdapterError(msg)
        return cls(
            facts["method"], facts["config"], tensors, facts["calibration"], facts["clip"], facts["origin"]
        )

    def load_into(self, module: nn.Module) -> None:
        """Copy the tensors into ``module``, which must have exactly these keys and shapes.

        Raises:
            AdapterError: Naming what is missing, superfluous or of another shape.
        """
        check_tensors(self.tensors, module.state_dict())
        module.load_state_dict(self.tensors)


def read_checkpoint(path: str | Path) -> Mapping[str, Any]:
    """Read a pickled checkpoint of tensors without running any code in it.

    Raises:
        FileNotFoundError: If there is no such file.
        AdapterError: If it is damaged, or holds anything but tensors and plain data.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"Checkpoint {path} does not exist."
        raise FileNotFoundError(msg)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0]
        msg = f"{path} is damaged, or holds more than tensors; nothing in it was executed ({reason})."
        raise AdapterError(msg) from error
    if not isinstance(state, Mapping):
        msg = f"{path} holds a {type(state).__name__}, not the mapping of tensors that a checkpoint is."
        raise AdapterError(msg)
    return state


def check_tensors(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Compare keys and shapes.

    Raises:
        AdapterError: Naming up to five of each kind of difference.
    """
    shapes = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in found and found[key].shape != wanted[key].shape
    ]
    problems = {
        "missing": [key for key in wanted if key not in found],
        "not known": [key for key in found if key not in wanted],
        "of another shape": shapes,
    }
    texts = [
        f"{kind}: {', '.join(keys[:5])}{' ...' if len(keys) > 5 else ''}" for kind, keys in problems.items() if keys
    ]
    if texts:
        msg = f"The weights do not fit the model; {'; '.join(texts)}."
        raise AdapterError(msg)
