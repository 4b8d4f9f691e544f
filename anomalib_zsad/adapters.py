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

from anomalib_zsad.clip.archive import check_zip
from anomalib_zsad.files import whole

HEADER = "anomalib_zsad"
FORMAT = 1

_HEADER_TYPES = {"format": int, "method": str, "config": dict, "calibration": dict, "clip": dict, "origin": dict}
_LONGEST_HEADER, _LONGEST_LIST, _LONGEST_TEXT, _LARGEST_NUMBER = 2**20, 1000, 4096, 10_000


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
        clip (dict): ``name`` (backbone and weights), ``activation`` and the ``sha256`` of the weights.
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
        with whole(path) as partial:
            partial.write_bytes(save(tensors, metadata={HEADER: json.dumps(facts)}))
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
        facts = read_header(path)
        if facts["method"] != method:
            msg = f"{path} is an adapter of {facts['method']}, not of {method}. Use --model {facts['method']}."
            raise AdapterError(msg)
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        released = "released_checkpoint" in facts["origin"]  # a tensor that was not published is all NaN
        broken = [
            key
            for key, value in tensors.items()
            if value.is_floating_point() and not (value.isfinite().all() or (released and value.isnan().all()))
        ]
        if broken:
            msg = f"{path} has NaN or infinite values in {', '.join(broken[:5])}: the training failed. Train it again."
            raise AdapterError(msg)
        return cls(facts["method"], facts["config"], tensors, facts["calibration"], facts["clip"], facts["origin"])

    def load_into(self, module: nn.Module) -> None:
        """Copy the tensors into ``module``, which must have exactly these keys and shapes.

        Raises:
            AdapterError: Naming what is missing, superfluous or of another shape.
        """
        check_tensors(self.tensors, module.state_dict())
        module.load_state_dict(self.tensors)


def read_header(path: str | Path) -> dict[str, Any]:
    """Read what an adapter says of itself; its tensors are not read.

    Returns:
        dict[str, Any]: ``format``, ``method``, ``config``, ``calibration``, ``clip`` and ``origin``, of the types that
        :class:`Adapter` has them in; values of the config may still be out of the method's ranges.

    Raises:
        AdapterError: If the file is damaged, no adapter, of a later format, or says what no training writes.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(HEADER)
    except (SafetensorError, OSError) as error:
        msg = f"{path} is not a safetensors file, or it is damaged ({error}). Copy it again."
        raise AdapterError(msg) from error
    if text is None:
        msg = f"{path} holds tensors but no adapter of this package: its header lacks the entry {HEADER!r}."
        raise AdapterError(msg)
    try:
        facts: Any = json.loads(text) if len(text) <= _LONGEST_HEADER else None
        form = facts["format"]
        wrong = [name for name, kind in _HEADER_TYPES.items() if not isinstance(facts[name], kind)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        msg = f"The header of {path} is not that of an adapter ({type(error).__name__}: {error}). Copy it again."
        raise AdapterError(msg) from error
    if isinstance(form, int) and form > FORMAT:
        msg = f"{path} has format {form}; this version reads up to {FORMAT}. Update anomalib-zsad."
        raise AdapterError(msg)
    if not wrong:
        wrong = [f"clip.{name}" for name in ("name", "sha256") if not isinstance(facts["clip"].get(name, ""), str)]
        wrong += [f"clip.{name}" for name in ("name", "sha256") if facts["clip"] and name not in facts["clip"]]
        wrong += _implausible("config", facts["config"]) + _implausible("calibration", facts["calibration"])
        wrong += [f"calibration.{name}" for name, value in facts["calibration"].items() if not _are_numbers(value)]
    if wrong:
        msg = f"The header of {path} has values that no training writes: {', '.join(wrong[:5])}. Copy it again."
        raise AdapterError(msg)
    return facts


def _implausible(part: str, values: Mapping[str, Any]) -> list[str]:
    return [f"{part}.{name}" for name, value in values.items() if not _is_plausible(name, value)]


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, int | float) for one in value)


def _is_plausible(name: str, value: Any) -> bool:
    """Whether a value of a config is small plain data: a few bytes must not ask for terabytes."""
    match value:
        case bool() | None:
            return True
        case int() | float():
            return abs(value) <= (2**63 if name.endswith("seed") else _LARGEST_NUMBER)  # false for NaN
        case str():
            return len(value) <= _LONGEST_TEXT
        case list():
            return len(value) <= _LONGEST_LIST and all(
                not isinstance(one, list | dict) and _is_plausible(name, one) for one in value
            )
    return False


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
        check_zip(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0]
        msg = f"{path} is damaged, or holds more than tensors; nothing in it was executed ({reason})."
        raise AdapterError(msg) from error
    if not isinstance(state, Mapping):
        msg = f"{path} holds a {type(state).__name__}, not the mapping of tensors that a checkpoint is."
        raise AdapterError(msg)
    return state


def read_model_checkpoint(path: str | Path) -> str | None:
    """Check a checkpoint of training before Lightning builds a model from it.

    Returns:
        str | None: Name of the method; ``None`` if it was made by another program.

    Raises:
        FileNotFoundError: If there is no such file.
        AdapterError: If it is damaged, holds more than tensors and plain data, or has values that no training writes.
    """
    state = read_checkpoint(path)
    facts, config, tensors = (state.get(name, {}) for name in ("anomalib_zsad", "hyper_parameters", "state_dict"))
    wrong = [name for name in ("anomalib_zsad", "hyper_parameters", "state_dict") if not isinstance(
        state.get(name, {}), Mapping)]  # fmt: skip
    wrong = wrong or _implausible("hyper_parameters", {name: value for name, value in config.items() if name})
    wrong = wrong or [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    method = None if wrong else facts.get("method")
    if wrong or not isinstance(method, str | None):
        msg = f"{path} has values that no training writes: {', '.join(wrong[:5]) or 'method'}. Copy it again."
        raise AdapterError(msg)
    return method


def check_tensors(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Compare keys, shapes, and whether values are whole numbers.

    Raises:
        AdapterError: Naming up to five of each kind of difference.
    """
    shapes = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in found and found[key].shape != wanted[key].shape
    ]
    types = [
        f"{key} {found[key].dtype} instead of {wanted[key].dtype}"
        for key in wanted
        if key in found and found[key].is_floating_point() != wanted[key].is_floating_point()
    ]
    problems = {
        "missing": [key for key in wanted if key not in found],
        "not known": [key for key in found if key not in wanted],
        "of another shape": shapes,
        "of another type": types,
    }
    texts = [
        f"{kind}: {', '.join(keys[:5])}{' ...' if len(keys) > 5 else ''}" for kind, keys in problems.items() if keys
    ]
    if texts:
        msg = f"The weights do not fit the model; {'; '.join(texts)}."
        raise AdapterError(msg)
