# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The frozen CLIP model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from typing_extensions import Self

from anomalib_zsad.clip.digest import sha256_of_tensors
from anomalib_zsad.clip.text import TextTower
from anomalib_zsad.clip.vision import VisionTower, resample_positions

if TYPE_CHECKING:
    from anomalib_zsad.clip.config import Activation, ClipConfig, Positions


class Clip(nn.Module):
    """CLIP's two towers, frozen.

    The weights are non-persistent buffers. That one choice keeps them out of ``parameters()`` and so out of every
    optimiser, out of ``state_dict()`` and so out of every checkpoint, and out of autograd; they still follow ``to()``.
    Gradients flow through the towers to whatever prompts or tokens are fed in.

    Args:
        config (ClipConfig): Sizes.
        state_dict (Mapping[str, Tensor]): Weights in the OpenAI layout (``visual.conv1.weight``, ``ln_final.bias``).
        activation (Activation): Activation that the weights were trained with.
        image_size (int | None): Side of the square input in pixels; ``None`` is the native size. The positional
            embedding is resampled once, here.
        positions (Positions): How it is resampled.
        name (str): Shown in logs and results.

    Raises:
        ValueError: If a weight is missing or has another shape, or the patch size does not divide ``image_size``.
    """

    logit_scale: Tensor

    def __init__(
        self,
        config: ClipConfig,
        state_dict: Mapping[str, Tensor],
        *,
        activation: Activation,
        image_size: int | None = None,
        positions: Positions = "bicubic_antialias",
        name: str = "",
    ) -> None:
        super().__init__()
        self.config = config
        self.activation = activation
        self.name = name
        with torch.device("meta"):  # shapes only: the given tensors become the weights, nothing is initialised
            self.visual = VisionTower(config, activation, image_size or config.vision.image_size)
            self.text = TextTower(config, activation)
        self.image_size = self.visual.image_size
        weights, positional = dict(state_dict), "visual.positional_embedding"
        native = config.vision.image_size // config.vision.patch_size
        table = _weight(weights, positional, (native**2 + 1, config.vision.width))
        weights[positional] = resample_positions(table, self.visual.grid, positions)
        self.register_buffer("logit_scale", _weight(weights, "logit_scale", ()).clone(), persistent=False)
        _freeze(self.visual, weights, "visual.")
        _freeze(self.text, weights, "")
        self.eval()

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002
        """Stay in evaluation mode, whatever the module around does."""
        return super().train(mode=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        if fn(self.logit_scale).dtype != self.logit_scale.dtype:
            self.sha256()  # while the weights are those that were read: rounded ones have another hash
        return super()._apply(fn, recurse)

    @cached_property
    def _digest(self) -> str:
        size_dependent = "visual.positional_embedding"
        return sha256_of_tensors({key: value for key, value in self.named_buffers() if key != size_dependent})

    def sha256(self) -> str:
        """Hash of the weights that were read, in float32: the same whatever file, layout or image size they came in."""
        return self._digest

    def facts(self) -> dict[str, str]:
        """What a file that depends on these towers says of them."""
        return {"name": self.name, "activation": self.activation, "sha256": self.sha256()}

    def encode_image(self, images: Tensor) -> Tensor:
        """Image features ``(B, C)`` of normalised ``images`` ``(B, 3, H, W)``, not L2-normalised."""
        return self.visual.project(self.visual(images).cls)

    def encode_text(self, ids: Tensor) -> Tensor:
        """Text features ``(N, C)`` of token ``ids`` ``(N, L)``, not L2-normalised; read at the largest id."""
        return self.text(self.text.embed(ids), ids.argmax(dim=-1).tolist())


def _weight(weights: Mapping[str, Tensor], key: str, shape: tuple[int, ...]) -> Tensor:
    """A weight in float32."""
    found = tuple(weights[key].shape) if key in weights else "nothing"
    if found != shape:
        msg = f"CLIP weight {key} should have shape {shape}, found {found}."
        raise ValueError(msg)
    return weights[key].detach().float()


def _freeze(module: nn.Module, weights: Mapping[str, Tensor], prefix: str) -> None:
    for path, owner in module.named_modules():
        for name, shape in [(name, parameter.shape) for name, parameter in owner.named_parameters(recurse=False)]:
            key = prefix + (f"{path}.{name}" if path else name)
            weight = _weight(weights, key, tuple(shape))
            delattr(owner, name)
            owner.register_buffer(name, weight.contiguous(), persistent=False)
