# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Published CoPS weights.

Our names differ from the published ones where a stacked tensor saves a loop (``prompts``, ``queries``, ``deep_tokens``,
the classes and layers in dimension 0) and where the published name says nothing (``net.0``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from anomalib_zsad.adapters import AdapterError, check_tensors
from anomalib_zsad.clip.archive import sha256_of_file


class Training(NamedTuple):
    """What a released file was trained with and does not tell."""

    data: str
    neighbourhood: int


_RELEASED = {
    "9fe3682d79f40b0acf8dde8808098e1365c161f8baefc0663e3131905704909c": Training("VisA", 5),
    "ccb6caf98709e04d3e6faa35031c20114f9937f60d7a1e82834109e2b3bed1bf": Training("MVTec AD", 3),
}
_EXTRACTOR = {
    f"extractor.{published}.{kind}": f"extractor.{ours}.{kind}"
    for published, ours in {
        "attn.out_proj": "attn.out_proj", "ln_1": "ln_1", "ln_2": "ln_2", "mlp.c_fc": "c_fc", "mlp.c_proj": "c_proj",
    }.items()
    for kind in ("weight", "bias")
} | {f"extractor.attn.in_proj_{kind}": f"extractor.attn.in_proj_{kind}" for kind in ("weight", "bias")}  # fmt: skip
_DECODER = {
    f"vae_decoder.net.{layer}.{kind}": f"vae.decoder.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")
}
_ENCODER = {
    f"vae_encoder.{published}.{kind}": f"vae.{ours}.{kind}"
    for published, ours in {"net.0": "hidden", "mean": "mean", "log_var": "log_var"}.items()
    for kind in ("weight", "bias")
}
_DEEP = "compound_prompts_text."


def convert_official(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Rename the tensors of a published CoPS checkpoint.

    Args:
        state (Mapping[str, Any]): ``{"prompt_learner": tensors}``, as ``torch.load(path, weights_only=True)`` returns
            it. The published files leave out the VAE encoder; it is taken along where it is present.

    Returns:
        dict[str, Tensor]: State dict of :class:`~anomalib_zsad.models.cops.torch_model.CoPSModel` in float32. The
            encoder is NaN where the file has none.

    Raises:
        AdapterError: If it is no CoPS checkpoint, or a tensor is missing, not known or of another shape.
    """
    found = state.get("prompt_learner")
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        entries = ", ".join(sorted(map(str, state))[:5]) or "nothing"
        msg = f"A published CoPS checkpoint is {{'prompt_learner': tensors}}; this file has {entries}."
        raise AdapterError(msg)
    prototypes, width = _last_two(found, "t_n")
    length, _ = _last_two(found, "ctx_pos")
    count, _ = _last_two(found, f"{_DEEP}0")
    deep = max(1, sum(key.startswith(_DEEP) for key in found))
    with_encoder = any(key.startswith("vae_encoder.") for key in found)
    layers = _EXTRACTOR | _DECODER | (_ENCODER if with_encoder else {})
    wanted = {
        **dict.fromkeys(("ctx_pos", "ctx_neg"), (1, 1, length, width)),
        **dict.fromkeys(("t_n", "t_a"), (prototypes, width)),
        **dict.fromkeys((f"{_DEEP}{index}" for index in range(deep)), (count, width)),
        **{key: _shape(key, width) for key in layers},
    }
    check_tensors(found, {key: torch.empty(shape, device="meta") for key, shape in wanted.items()})

    encoder = {key: torch.full(_shape(key, width), torch.nan) for key in _ENCODER}
    tensors = {
        "prompts": torch.cat([found["ctx_pos"][0], found["ctx_neg"][0]]),
        "queries": torch.stack([found["t_n"], found["t_a"]]),
        "deep_tokens": torch.stack([found[f"{_DEEP}{index}"] for index in range(deep)]),
    }
    tensors |= {ours: {**encoder, **found}[key] for key, ours in (_EXTRACTOR | _DECODER | _ENCODER).items()}
    return {key: tensor.float() for key, tensor in tensors.items()}


def released_training(path: str | Path) -> Training | None:
    """How one of the two released files was trained, known by the file's sha256; ``None`` for any other file."""
    return _RELEASED.get(sha256_of_file(Path(path)))


def _last_two(tensors: Mapping[str, Tensor], key: str) -> tuple[int, int]:
    """Last dimensions of a tensor, of which the rest of the layout follows; 1 where there are none."""
    shape = tuple(tensors[key].shape) if key in tensors else ()
    *_, rows, columns = (1, 1, *shape)
    return rows, columns


def _shape(key: str, width: int) -> tuple[int, ...]:
    rows = 3 * width if "in_proj" in key else width
    return (rows,) if key.endswith("bias") or ".ln_" in key else (rows, width)
