# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""PromptAD without Lightning."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F  # noqa: N812
from anomalib.data import InferenceBatch
from torch import Tensor, nn

from anomalib_zsad.clip.tokenizer import tokenize
from anomalib_zsad.data.definitions import DEFECTS, DEFINITIONS
from anomalib_zsad.data.words import OBJECT
from anomalib_zsad.functional import gaussian_smooth, to_grid, topk_mean, upsample
from anomalib_zsad.losses import dice_loss, focal_terms
from anomalib_zsad.models.base import MethodModel
from anomalib_zsad.models.promptad.components import Branch, attention_of
from anomalib_zsad.models.promptad.config import PromptADConfig
from anomalib_zsad.models.promptad.loss import deviation_loss

logger = logging.getLogger(__name__)


class PromptADOutput(NamedTuple):
    """What training needs.

    Attributes:
        maps (Tensor): ``(B, blocks, branches, L)`` of every block of every branch, not bounded, abnormality first.
        scores (Tensor): ``(B, blocks, branches)`` image scores of these maps.
    """

    maps: Tensor
    scores: Tensor


class PromptADModel(MethodModel):
    """A normality and an abnormality branch over frozen image tokens, each told by a text what to look for.

    In training mode it returns :class:`PromptADOutput`, in evaluation mode anomalib's ``InferenceBatch`` with
    ``pred_score`` ``(B,)`` and the smoothed ``anomaly_map`` ``(B, 1, H, W)``, both in (0, 1).

    Texts are encoded when a class is first seen and kept. They are no part of the state. A graph traced after
    ``texts([None])`` has the text of the config's class as a constant, and no text tower.

    Args:
        config (PromptADConfig): A resolved config.

    Attributes:
        references (dict[str | None, Tensor]): Embeddings ``(C,)`` of normal images by category, for few-shot use;
            ``None`` stands for every category that has none of its own. They are no part of the state either.
    """

    config: PromptADConfig

    def __init__(self, config: PromptADConfig) -> None:
        super().__init__(config)
        sizes = self.sizes
        self.view = {"taps": tuple(config.layers or ()), "stop": True}
        signs = {"abnormal": 1, "normal": -1}
        self.branches = nn.ModuleDict({
            name: Branch(config, sizes.vision.width, sizes.embed_dim, sign)
            for name, sign in signs.items()
            if config.branches in {"both", name}
        })
        self._texts: dict[tuple[str | None, bool], Tensor] = {}
        self.references: dict[str | None, Tensor] = {}

    # ---- text ----------------------------------------------------------------------------------------------------

    def prompts(self, class_name: str | None = None, described: bool = False) -> tuple[str, str]:
        """Normality and abnormality prompt.

        Args:
            class_name (str | None): A class word. ``None``: the config's, and described by it.
            described (bool): Whether the config's definition and defects, where it has them, go before the table's.
        """
        config = self.config
        word, definition, defects = class_name or config.class_name or OBJECT, None, None
        if class_name is None or described:
            definition, defects = config.class_definition, config.defect_types
        if definition is None and word not in DEFINITIONS:
            logger.warning(
                "No definition of %r is known: its normality prompt is 'a photo of a normal %s'. "
                "Say what a good one looks like with class_definition.",
                word,
                word,
            )
        known = DEFINITIONS.get(word)
        definition = definition or (known.text if known else f"a photo of a normal {word}")
        words = defects or (known.defects if known else DEFECTS["any"])
        return definition, f"abnormality of {word} is {', '.join(words)}"

    def _encode(self, prompts: Sequence[str]) -> Tensor:
        """Normality and abnormality text ``(2, C)``."""
        clip = self.load_clip()
        device = next(clip.buffers()).device
        # Kept for training, whichever loop asks first: neither an inference tensor nor one of half precision.
        with torch.inference_mode(mode=False), torch.no_grad(), torch.autocast(device.type, enabled=False):
            ids = tokenize(prompts, clip.config.text.context_length)
            return to_unit_mean_square(clip.encode_text(ids.to(device))).cpu()

    def texts(self, class_names: Sequence[str | None], described: bool = False) -> Tensor:
        """Normality and abnormality text ``(N, 2, C)`` of ``N`` classes; arguments as those of :meth:`prompts`."""
        keys = [(name, described) for name in class_names]
        for key in set(keys) - self._texts.keys():
            self._texts[key] = self._encode(self.prompts(*key))
        return torch.stack([self._texts[key] for key in keys])

    # ---- few-shot ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def embed(self, images: Iterable[Tensor]) -> Tensor:
        """Mean embedding ``(C,)`` of normal images, a substitute for the normality text in the cross-view score.

        Args:
            images (Iterable[Tensor]): Each ``(3, H, W)`` at the model's image size, normalised for CLIP.
        """
        clip = self.load_clip()
        like = next(clip.buffers())
        features = [clip.encode_image(image[None].to(like))[0] for image in images]
        return to_unit_mean_square(F.normalize(torch.stack(features), dim=-1).mean(dim=0)).cpu()

    def prototypes(self, categories: Sequence[str | None], texts: Tensor) -> Tensor:
        """What the abnormality branch takes for normal, ``(N, C)``: reference images, or else the normality text."""
        if self.training or not self.references:
            return texts[:, 0]
        everywhere = self.references.get(None)
        known = zip((self.references.get(name, everywhere) for name in categories), texts[:, 0], strict=True)
        return torch.stack([text if images is None else images.to(text) for images, text in known])

    # ---- image ---------------------------------------------------------------------------------------------------

    def forward(
        self,
        images: Tensor,
        class_names: Sequence[str] | None = None,
        described: bool = False,
        categories: Sequence[str] | None = None,
    ) -> PromptADOutput | InferenceBatch:
        """Score images.

        Args:
            images (Tensor): ``(B, 3, H, W)`` at the model's image size, normalised for CLIP.
            class_names (Sequence[str] | None): Class word of each image. ``None``: all show the class that the config
                describes.
            described (bool): Whether the config's definition and defects describe these classes, too.
            categories (Sequence[str] | None): Category of each image, whose references are used; several may share a
                class word. ``None``: those for all.
        """
        tokens = self.see(images).patches
        names = [None] if class_names is None else class_names
        texts = self.texts(names, described).to(images)  # (B or 1, 2, C)
        maps = self._look(tokens, texts, self.prototypes(categories or [None] * len(names), texts))
        if self.training:
            stacked = torch.stack([torch.stack(list(block.values()), dim=1) for block in maps], dim=1)
            scores = topk_mean(stacked.flatten(0, 2), self.count).unflatten(0, stacked.shape[:-1])
            return PromptADOutput(stacked, scores)
        final = torch.stack(list(maps[-1].values())).sum(dim=0)  # (B, L)
        smooth = gaussian_smooth(upsample(to_grid(final), images.shape[-1]), self.config.smoothing_sigma)
        return InferenceBatch(
            pred_score=self._squash(topk_mean(final, self.count)), anomaly_map=self._squash(smooth)[:, None]
        )

    def _look(self, tokens: Sequence[Tensor], texts: Tensor, prototypes: Tensor) -> list[dict[str, Tensor]]:
        """Map ``(B, L)`` of each branch behind each block."""
        own = {"abnormal": texts[:, 1], "normal": texts[:, 0]}
        other = {"abnormal": prototypes, "normal": texts[:, 1]}
        branches = cast("dict[str, Branch]", dict(self.branches.items()))
        features = {name: branch.enter(tokens[0], own[name]) for name, branch in branches.items()}
        maps = [{name: branch.map(features[name], other[name]) for name, branch in branches.items()}]
        for number in range(1, len(tokens)):
            if self.config.interaction and len(branches) == 2:
                features = {
                    "abnormal": attention_of(maps[-1]["normal"])[..., None] * features["abnormal"],
                    "normal": attention_of(maps[-1]["abnormal"])[..., None] * features["normal"],
                }
            features = {name: one.advance(number, features[name], tokens[number]) for name, one in branches.items()}
            maps.append({name: branch.map(features[name], other[name]) for name, branch in branches.items()})
        return maps

    @property
    def count(self) -> int:
        """Number K of tokens, those with the largest values, that make an image score."""
        grid = (self.config.image_size or 0) // self.sizes.vision.patch_size
        return math.ceil(self.config.top_fraction * grid**2)

    def _squash(self, values: Tensor) -> Tensor:
        """Strictly increasing, into (0, 1)."""
        return torch.sigmoid(values / (2 * self.config.margin))

    # ---- loss ----------------------------------------------------------------------------------------------------

    def losses(self, output: PromptADOutput, labels: Tensor, masks: Tensor, has_mask: Tensor) -> dict[str, Tensor]:
        """Terms of the training loss, which is their sum.

        Args:
            output (PromptADOutput): Of the same batch.
            labels (Tensor): ``(B,)`` true where anomalous.
            masks (Tensor): ``(B, H, W)`` true where anomalous; used with ``mask_supervision`` only.
            has_mask (Tensor): ``(B,)`` true where the mask is known; images without one train the image term only.
        """
        losses = {"deviation": deviation_loss(output.scores, labels, self.config.margin).mean(dim=0).sum()}
        if self.config.mask_supervision and has_mask.any():
            final = output.maps[has_mask, -1].sum(dim=1)  # (B', L)
            target = masks[has_mask].to(final.dtype)
            probability = self._squash(upsample(to_grid(final), target.shape[-1]))
            losses["focal"] = focal_terms(torch.where(target > 0, probability, 1 - probability)).mean()
            losses["dice"] = (dice_loss(probability, target) + dice_loss(1 - probability, 1 - target)).mean()
        return losses


def to_unit_mean_square(features: Tensor) -> Tensor:
    """Features ``(..., C)`` scaled to length ``sqrt(C)``: the size that linear layers are initialised for.

    Texts and images, whose raw features differ in length, become exchangeable.

    Example:
        >>> to_unit_mean_square(torch.tensor([3.0, 4.0]))
        tensor([0.8485, 1.1314])
    """
    return F.normalize(features, dim=-1) * features.shape[-1] ** 0.5
