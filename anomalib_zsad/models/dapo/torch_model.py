# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""DAPO without Lightning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from anomalib.data import InferenceBatch
from torch import Tensor, nn

from anomalib_zsad.clip.blocks import insert_tokens
from anomalib_zsad.clip.model import Clip
from anomalib_zsad.data.defect_tables import words_of
from anomalib_zsad.functional import gaussian_smooth, similarity, to_grid, upsample
from anomalib_zsad.losses import dice_of_layers, focal_terms
from anomalib_zsad.models.base import MethodModel
from anomalib_zsad.models.dapo.components import HybridPrompts
from anomalib_zsad.models.dapo.config import DAPOConfig


class DAPOOutput(NamedTuple):
    """What training needs.

    Attributes:
        logits (Tensor): ``(B, 2)`` of the image branch, normal first.
        normal_maps (Tensor): ``(B, layers, H, W)`` probability of the normal state, in [0, 1].
        type_maps (Tensor): ``(B, layers, H, W)`` probability of the image's own kind of defect, in [0, 1]; of any kind
            where the image's own is unknown.
    """

    logits: Tensor
    normal_maps: Tensor
    type_maps: Tensor


class DAPOPrediction(NamedTuple):
    """What :meth:`DAPOModel.predict` returns.

    Attributes:
        pred_score (Tensor): ``(B,)`` in [0, 1].
        anomaly_map (Tensor): ``(B, 1, H, W)`` in [0, 1].
        type_grid (Tensor): ``(B, K, g, g)`` probability of every kind of defect at each patch, the mean over layers.
            Up-sampled (bilinear, corners aligned) they are the type maps, and sum to the anomaly map before smoothing.
        type_scores (Tensor): ``(B, K)`` highest probability of every kind at any patch. This image-level ranking is
            ours; the method has none.
        state_grid (Tensor): ``(B, layers, K + 1, g, g)`` probability of the normal state and every kind in each layer.
    """

    pred_score: Tensor
    anomaly_map: Tensor
    type_grid: Tensor
    type_scores: Tensor
    state_grid: Tensor


class TypedBatch(NamedTuple):
    """anomalib's ``InferenceBatch`` with the kinds of defect, which exported graphs return as outputs.

    Attributes:
        pred_score (Tensor | None): As in ``InferenceBatch``, and so the next three.
        pred_label (Tensor | None): Verdict on the image.
        anomaly_map (Tensor | None): ``(B, 1, H, W)``.
        pred_mask (Tensor | None): Verdict on each pixel.
        type_maps (Tensor | None): ``(B, K, H, W)`` probability of every kind of defect, in [0, 1].
        type_scores (Tensor | None): ``(B, K)``, see :class:`DAPOPrediction`.
    """

    pred_score: Tensor | None = None
    pred_label: Tensor | None = None
    anomaly_map: Tensor | None = None
    pred_mask: Tensor | None = None
    type_maps: Tensor | None = None
    type_scores: Tensor | None = None


class DAPOModel(MethodModel):
    """Prompts with defect words, tokens in every layer of both towers, maps for every kind of defect.

    In training mode it returns :class:`DAPOOutput`, in evaluation mode anomalib's ``InferenceBatch`` with
    ``pred_score`` ``(B,)`` and ``anomaly_map`` ``(B, 1, H, W)``, both in [0, 1]; :meth:`predict` has the kinds of
    defect as well, and the result of an evaluation where the config has ``type_maps``. In evaluation mode the text is
    encoded once.

    Args:
        config (DAPOConfig): A resolved config. Without ``defect_types`` the words are those of MVTec AD.

    Attributes:
        words (tuple[str, ...]): The ``K`` defect words.
    """

    config: DAPOConfig
    text: Tensor | None

    def __init__(self, config: DAPOConfig) -> None:
        super().__init__(config)
        vision, joint = self.sizes.vision, self.sizes.embed_dim
        self.layers = tuple(config.layers or ())
        self.prompts = HybridPrompts(config, self.sizes.text.width)
        bound = (6 / (3 * vision.patch_size**2 + vision.width)) ** 0.5
        shape = (config.vision_depth or 1, config.vision_tokens, vision.width)
        self.vision_tokens = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.adapters = nn.ModuleList(nn.Linear(vision.width, joint) for _ in self.layers)
        self.register_buffer("text", None, persistent=False)
        self._fresh = True
        self.name_defects(config.defect_types or words_of("MVTecAD"))

    def name_defects(self, words: Sequence[str]) -> None:
        """Change the defect words. Nothing is trained; the text is encoded anew when it is next needed."""
        self.words = tuple(words)
        self.text = None

    def load_clip(self) -> Clip:
        """The frozen towers; their first arrival completes the initial values of new prompts."""
        clip = super().load_clip()
        if self._fresh:
            self.prompts.match(clip.text)
            self._fresh = False
        return clip

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._fresh = False
        self.text = None

    def forward(self, images: Tensor, types: Tensor | None = None) -> DAPOOutput | InferenceBatch | TypedBatch:
        """Score images.

        Args:
            images (Tensor): ``(B, 3, H, W)`` at the model's image size, normalised for CLIP.
            types (Tensor | None): ``(B,)`` number of each image's kind of defect in ``words``, counted from 1, and 0
                where it is normal or unknown. Used in training only.
        """
        if not self.training:
            found = self.predict(images)
            if not self.config.type_maps:
                return InferenceBatch(pred_score=found.pred_score, anomaly_map=found.anomaly_map)
            type_maps = upsample(found.type_grid, images.shape[-1], align_corners=True)
            return TypedBatch(
                found.pred_score, anomaly_map=found.anomaly_map, type_maps=type_maps, type_scores=found.type_scores
            )
        grids, logits = self._score(images)
        normal = grids[:, :, 0]
        own = 1 - normal
        if types is not None:
            chosen = grids[torch.arange(len(grids), device=grids.device), :, types]
            own = torch.where((types > 0)[:, None, None, None], chosen, own)
        # Up-sampling is linear: two maps are enlarged, not K + 1.
        return DAPOOutput(logits, *(upsample(grid, images.shape[-1], align_corners=True) for grid in (normal, own)))

    def predict(self, images: Tensor) -> DAPOPrediction:
        """Score images (as :meth:`forward`) and name their defects."""
        grids, logits = self._score(images)
        type_grid = grids.mean(dim=1)[:, 1:]
        anomaly_map = upsample(type_grid.sum(dim=1, keepdim=True), images.shape[-1], align_corners=True).clamp(0, 1)
        score = logits.softmax(dim=-1)[:, 1]
        if self.config.image_score == "both":
            score = (score + anomaly_map.amax(dim=(1, 2, 3))) / 2
        smooth = gaussian_smooth(anomaly_map, self.config.smoothing_sigma)
        return DAPOPrediction(score, smooth, type_grid, type_grid.amax(dim=(-2, -1)), grids)

    def _score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities ``(B, layers, K + 1, g, g)`` of each patch and logits ``(B, 2)`` of the image."""
        text = self.text_features()
        tower = self.load_clip().visual
        seen = tower(images, taps=self.layers, before_block=insert_tokens(self.vision_tokens, self.config.carry))
        patches = torch.stack(
            [adapter(patch) for adapter, patch in zip(self.adapters, seen.patches, strict=True)], dim=1
        )
        similar = similarity(patches, text) / self.config.temperature  # (B, layers, L, K + 1)
        states = torch.stack([text[0], text[1:].mean(dim=0)])
        logits = similarity(tower.project(seen.cls)[:, None], states)[:, 0] / self.config.temperature
        return to_grid(similar.softmax(dim=-1).mT), logits

    def text_features(self) -> Tensor:
        """Features ``(K + 1, C)`` of the normal state and the defect words, L2-normalised."""
        if self.training:
            self.text = None  # here and not in train(), which Lightning passes by after a validation
            return self._speak()
        if self.text is None:
            device = self.vision_tokens.device.type
            # Kept beyond the caller's mode, and its precision.
            with torch.inference_mode(mode=False), torch.no_grad(), torch.autocast(device, enabled=False):
                self.text = self._speak()
        return self.text

    def _speak(self) -> Tensor:
        return F.normalize(self.prompts(self.load_clip().text, self.words), dim=-1)

    def losses(self, output: DAPOOutput, labels: Tensor, masks: Tensor, has_mask: Tensor) -> dict[str, Tensor]:
        """Terms of the loss, weights included; their sum is the training loss.

        Args:
            output (DAPOOutput): Of the same batch.
            labels (Tensor): ``(B,)`` true where anomalous.
            masks (Tensor): ``(B, H, W)`` true where anomalous.
            has_mask (Tensor): ``(B,)`` true where the mask is known; images without one train the image branch only.
        """
        losses = {"image": F.cross_entropy(output.logits, labels.long())}
        if has_mask.any():
            normal, own = output.normal_maps[has_mask], output.type_maps[has_mask]
            target = masks[has_mask].to(normal.dtype)[:, None].expand_as(normal)
            true = torch.where(target > 0, own, normal)
            focal = focal_terms(true, self.config.focal_gamma).mean(dim=(0, 2, 3)).sum()
            dice = dice_of_layers(normal, 1 - target) + dice_of_layers(1 - normal, target)
            losses["focal"] = self.config.local_weight * focal
            losses["dice"] = self.config.local_weight * dice
        else:  # training on several devices waits for the gradients of the adapters
            losses["image"] = losses["image"] + 0 * output.normal_maps.mean()
        return losses
