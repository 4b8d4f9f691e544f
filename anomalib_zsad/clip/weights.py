# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Sizes and published weights of CLIP: by open_clip's names, from a file, or seeded random.

The towers of this package implement one family: OpenAI's ViT with a class token and its causal text transformer. Every
other model of open_clip is refused by name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor

from anomalib_zsad.clip.archive import Archive, read_archive, sha256_of_file
from anomalib_zsad.clip.compact import expand
from anomalib_zsad.clip.config import Activation, ClipConfig, Positions, TextConfig, VisionConfig
from anomalib_zsad.clip.digest import sha256_of_tensors
from anomalib_zsad.clip.model import Clip
from anomalib_zsad.clip.random_weights import random_weights, weight_shapes
from anomalib_zsad.clip.sources import find_weights, is_path, plain_name, pretrained_tags
from anomalib_zsad.requirements import explained

OWN = {
    "surfaces-tiny": ClipConfig(VisionConfig(224, 14, 192, 8, 3), TextConfig(77, 49408, 128, 4, 2), 128),
    "tiny-random": ClipConfig(VisionConfig(224, 14, 64, 8, 2), TextConfig(77, 49408, 64, 4, 2), 64),
}
"""Backbones of our own. ``surfaces-tiny`` has weights in this package; ``tiny-random`` has random ones only."""

_EXAMPLES = f"for example ViT-B-16, ViT-L-14, ViT-L-14-336, ViT-H-14 or {', '.join(OWN)}"
_ANY = object()
# Options of open_clip that may be set, with the one value that the towers implement.
_MODEL = dict.fromkeys(("embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text"), _ANY)
_VISION = dict.fromkeys(("image_size", "layers", "width", "patch_size", "head_width"), _ANY) | {
    "mlp_ratio": 4.0,
    "output_tokens": _ANY,
    "patch_dropout": _ANY,
    "pool_type": "tok",
    "pos_embed_type": "learnable",
}
_TEXT = dict.fromkeys(("context_length", "width", "layers", "heads"), _ANY) | {
    "mlp_ratio": 4.0,
    "output_tokens": _ANY,
    "pool_type": "argmax",
    "proj_type": "linear",
    "vocab_size": 49408,
}


@dataclass(frozen=True)
class Weights:
    """Weights of one CLIP and where they come from.

    Attributes:
        backbone (str): Name as asked for.
        pretrained (str): Tag, file or ``random:SEED``.
        config (ClipConfig): Sizes.
        state_dict (dict[str, Tensor]): OpenAI layout, float32.
        activation (Activation): Activation that the weights were trained with.
        file (Path | None): Where they were read from; ``None`` for random weights.
    """

    backbone: str
    pretrained: str
    config: ClipConfig
    state_dict: dict[str, Tensor]
    activation: Activation
    file: Path | None

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file, or of the tensors if they are random."""
        return sha256_of_tensors(self.state_dict) if self.file is None else sha256_of_file(self.file)


def load_clip(
    backbone: str,
    pretrained: str | None = None,
    *,
    activation: Literal["recorded", "gelu", "quick_gelu"] = "recorded",
    image_size: int | None = None,
    positions: Positions = "bicubic_antialias",
) -> Clip:
    """Read weights and build the frozen towers.

    Args:
        backbone (str): As in :func:`clip_config`.
        pretrained (str | None): As in :func:`read_weights`.
        activation (Literal["recorded", "gelu", "quick_gelu"]): As in :func:`read_weights`.
        image_size (int | None): Side of the input in pixels, ``None`` for the native one.
        positions (Positions): How the positional embedding is resampled to ``image_size``.

    >>> load_clip("tiny-random", image_size=56).visual.grid
    4
    """
    weights = read_weights(backbone, pretrained, activation=activation)
    return Clip(
        weights.config,
        weights.state_dict,
        activation=weights.activation,
        image_size=image_size,
        positions=positions,
        name=f"{backbone}/{Path(weights.pretrained).name}",
    )


def read_weights(
    backbone: str,
    pretrained: str | None = None,
    *,
    activation: Literal["recorded", "gelu", "quick_gelu"] = "recorded",
    download: bool = True,
) -> Weights:
    """Read the weights of a backbone.

    Args:
        backbone (str): As in :func:`clip_config`.
        pretrained (str | None): A tag that open_clip knows, looked up in ``$ANOMALIB_ZSAD_HOME``, in open_clip's caches
            and then on the network; or a file (a path with a folder or one of the suffixes ``.pt``, ``.pth``, ``.bin``,
            ``.safetensors``); or ``"random"`` or ``"random:SEED"``, the same on every machine. ``None`` is
            ``"openai"``; for backbones of our own it is what this package brings, or ``"random"``.
        activation (Literal["recorded", "gelu", "quick_gelu"]): What the weights were trained with. ``"recorded"`` takes
            it from where it is written down: open_clip's table, a ``-quickgelu`` name, the entries that only OpenAI's
            files have, ``activation`` in a safetensors header, or an ``open_clip_config.json`` beside the file. Random
            weights are GELU unless the name says otherwise.
        download (bool): Whether the network may be asked for a tag.

    Raises:
        WeightsNotFoundError: If the file is not on this machine and cannot be downloaded.
        ArchiveError: If the file is damaged or wants code to be run.
        ValueError: If the backbone or tag is unknown, the weights do not fit the backbone, or nothing records the
            activation.
    """
    config = clip_config(backbone)
    pretrained = pretrained or _default(backbone)
    if match := re.fullmatch(r"random(?::(\d+))?", pretrained):
        state = random_weights(config, seed=int(match[1] or 0))
        return Weights(
            backbone, pretrained, config, state, _activation(backbone, activation, None) or "gelu", file=None
        )
    path = find_weights(backbone, pretrained, download=download)
    archive = read_archive(path)
    tensors = expand(archive.tensors, config.text.vocab_size)
    _check_fit(backbone, config, tensors, path)
    tags = pretrained_tags(backbone)
    written = _written_down(path, archive, config) if is_path(pretrained) else tags[pretrained].activation
    recorded = _activation(backbone, activation, written)
    if recorded is None:
        msg = (
            f"Nothing in or beside {path} tells whether it was trained with GELU or with QuickGELU, and a wrong guess "
            "would spoil every score without a word. Give activation='gelu' or activation='quick_gelu', or name the "
            f"tag of the weights in place of the file ({', '.join(tags) or 'none for this backbone'})."
        )
        raise ValueError(msg)
    return Weights(backbone, pretrained, config, tensors, recorded, path)


def weights_digest(backbone: str, pretrained: str | None = None) -> str:
    """First 12 digits of the sha256 of a backbone's weights.

    Raises:
        WeightsNotFoundError: If they are neither on this machine nor within reach.
        ValueError: If there is no such backbone, or they are not its weights.
    """
    return read_weights(backbone, pretrained).sha256[:12]


def _default(backbone: str) -> str:
    tags = pretrained_tags(backbone)
    if plain_name(backbone) in OWN:
        return next(iter(tags), "random")
    if "openai" in tags:
        return "openai"
    known = f"one of {', '.join(tags)}" if tags else "a file"
    msg = f"{backbone} has no 'openai' weights; say which ones are meant with pretrained: {known}, or 'random'."
    raise ValueError(msg)


# --- sizes ------------------------------------------------------------------------------------------------------------


@cache
def clip_config(backbone: str) -> ClipConfig:
    """Sizes of a backbone; reads no weights and needs no network.

    Args:
        backbone (str): A ViT of open_clip with OpenAI's text tower (``ViT-B-16``, ``ViT-L-14-336``, ...; an appended
            ``-quickgelu`` changes the activation only), ``surfaces-tiny`` or ``tiny-random``.

    Raises:
        ValueError: If the name is unknown or the model has parts that the towers do not implement.

    >>> clip_config("ViT-L-14-336").vision
    VisionConfig(image_size=336, patch_size=14, width=1024, layers=24, heads=16)
    """
    if plain_name(backbone) in OWN:
        return OWN[plain_name(backbone)]
    with explained():
        import open_clip

    if plain_name(backbone) not in open_clip.list_models():
        msg = f"Unknown backbone {backbone!r}. Supported are open_clip's plain ViTs, {_EXAMPLES}."
        raise ValueError(msg)
    return _config(open_clip.get_model_config(plain_name(backbone)), backbone)


def _config(model: Mapping[str, Any], backbone: str) -> ClipConfig:
    vision, text = model["vision_cfg"], model["text_cfg"]
    odd = _odd(model, _MODEL) + _odd(vision, _VISION) + _odd(text, _TEXT)
    odd += [f"{key}={vision[key]}" for key in ("layers", "image_size") if not odd and not isinstance(vision[key], int)]
    if odd:
        msg = (
            f"The backbone {backbone!r} is not supported because of {', '.join(odd[:4])}. Supported are ViTs with a "
            f"class token and OpenAI's text tower, {_EXAMPLES}."
        )
        raise ValueError(msg)
    return ClipConfig(
        VisionConfig(
            image_size=vision["image_size"],
            patch_size=vision["patch_size"],
            width=vision["width"],
            layers=vision["layers"],
            heads=vision["width"] // vision.get("head_width", 64),
        ),
        TextConfig(
            context_length=text.get("context_length", 77),
            vocab_size=text.get("vocab_size", 49408),
            width=text["width"],
            layers=text["layers"],
            heads=text["heads"],
        ),
        model["embed_dim"],
    )


def _odd(options: Mapping[str, Any], implemented: Mapping[str, Any]) -> list[str]:
    return [
        f"{key}={value!r}"
        for key, value in options.items()
        if value not in (None, False, {}) and implemented.get(key) is not _ANY and implemented.get(key) != value
    ]


def _check_fit(backbone: str, config: ClipConfig, tensors: Mapping[str, Tensor], path: Path) -> None:
    found = _measure(tensors)
    if found is not None and found != _measurable(config):
        fitting = [name for name in _supported() if _measurable(clip_config(name)) == found]
        advice = f"Use the backbone {' or '.join(fitting)}." if fitting else "No known backbone has these sizes."
        msg = f"{path} holds {_describe(found)}; {backbone} has {_describe(config)}. {advice}"
        raise ValueError(msg)
    expected = weight_shapes(config)
    wrong = [
        _some("missing", expected.keys() - tensors.keys()),
        _some("not part of the model", tensors.keys() - expected.keys()),
        _some(
            "of another shape",
            (
                f"{name} {tuple(tensors[name].shape)} instead of {shape}"
                for name, shape in expected.items()
                if name in tensors and tuple(tensors[name].shape) != shape
            ),
        ),
    ]
    if any(wrong):
        msg = f"The tensors in {path} are not those of {backbone}: {'; '.join(filter(None, wrong))}."
        raise ValueError(msg)


def _some(what: str, names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - 6} more" if len(listed) > 6 else ""
    return f"{what}: {', '.join(listed[:6])}{more}" if listed else ""


def _measure(tensors: Mapping[str, Tensor]) -> ClipConfig | None:
    """Sizes as far as tensors tell them; the number of heads is left 0."""
    try:
        patch = tensors["visual.conv1.weight"].shape[-1]
        tokens, width = tensors["visual.positional_embedding"].shape
        context_length, text_width = tensors["positional_embedding"].shape
        return ClipConfig(
            VisionConfig(math.isqrt(tokens - 1) * patch, patch, width, _blocks(tensors, "visual.transformer."), 0),
            TextConfig(
                context_length, len(tensors["token_embedding.weight"]), text_width, _blocks(tensors, "transformer."), 0
            ),
            tensors["visual.proj"].shape[-1],
        )
    except (KeyError, ValueError, IndexError):
        return None


def _blocks(tensors: Mapping[str, Tensor], prefix: str) -> int:
    prefix += "resblocks."
    return len({name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)})


def _measurable(config: ClipConfig) -> ClipConfig:
    patch = config.vision.patch_size
    vision = replace(config.vision, heads=0, image_size=config.vision.image_size // patch * patch)
    return replace(config, vision=vision, text=replace(config.text, heads=0))


def _describe(config: ClipConfig) -> str:
    vision, text = config.vision, config.text
    return (
        f"a ViT of width {vision.width}, {vision.layers} layers, patch {vision.patch_size}, {vision.image_size} px, "
        f"with a text tower of width {text.width}, {text.layers} layers, {text.context_length} positions, "
        f"{text.vocab_size} tokens, and a joint width of {config.embed_dim}"
    )


def _supported() -> list[str]:
    import open_clip

    names = list(OWN)
    for name in open_clip.list_models():
        try:
            clip_config(name)
        except ValueError:
            continue
        names += [name] if name == plain_name(name) else []
    return names


# --- activation -------------------------------------------------------------------------------------------------------


def _activation(backbone: str, asked: str, written: Activation | None) -> Activation | None:
    if asked in get_args(Activation):
        return asked  # type: ignore[return-value]
    if asked != "recorded":
        msg = f"activation={asked!r} is none of 'recorded', 'gelu', 'quick_gelu'."
        raise ValueError(msg)
    if backbone == plain_name(backbone):
        return written
    if written == "gelu":
        msg = (
            f"The name {backbone} asks for QuickGELU, but the weights are recorded as trained with GELU. Use the "
            f"backbone {plain_name(backbone)}, or activation='quick_gelu' if the record is wrong."
        )
        raise ValueError(msg)
    return "quick_gelu"


def _written_down(path: Path, archive: Archive, config: ClipConfig) -> Activation | None:
    """Activation by what lies in or beside a file."""
    if archive.metadata.get("activation") in get_args(Activation):
        return archive.metadata["activation"]  # type: ignore[return-value]
    if archive.openai:
        return "quick_gelu"
    beside = path.parent / "open_clip_config.json"
    try:
        model = json.loads(beside.read_text(encoding="utf-8"))["model_cfg"]
        speaks_of_this = _config(model, str(beside)) == config
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if not speaks_of_this else "quick_gelu" if model.get("quick_gelu") else "gelu"
