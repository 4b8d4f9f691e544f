# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""PromptMoE without Lightning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from anomalib.data import InferenceBatch
from torch import Tensor, nn

from anomalib_zsad.clip.text import assemble_prompts
from anomalib_zsad.clip.tokenizer import word_ids
from anomalib_zsad.functional import gaussian_smooth, similarity, to_grid, upsample
from anomalib_zsad.losses import dice_of_layers, focal_terms, load_balance_loss, orthogonality_loss
from anomalib_zsad.models.base import MethodModel
from anomalib_zsad.models.promptmoe.components import PromptMixture
from anomalib_zsad.models.promptmoe.config import PromptMoEConfig


class PromptMoEOutput(NamedTuple):
    """What training needs.

    Attributes:
        score (Tensor): ``(B,)`` image score of Eq. 7, in [0, 1].
        layer_maps (Tensor): ``(B, layers, H, W)`` anomaly probability of each layer, in [0, 1].
        routing (Tensor): ``(B, layers, 2, E)`` router logits; normal state first.
    """

    score: Tensor
    layer_maps: Tensor
    routing: Tensor


class PromptMoEModel(MethodModel):
    """Prompts mixed from experts under visual guidance, per image, layer and state.

    In training mode it returns :class:`PromptMoEOutput`, in evaluation mode anomalib's ``InferenceBatch`` with
    ``pred_score`` ``(B,)`` and the smoothed ``anomaly_map`` ``(B, 1, H, W)``, both in [0, 1].

    Args:
        config (PromptMoEConfig): A resolved config.
    """

    config: PromptMoEConfig

    def __init__(self, config: PromptMoEConfig) -> None:
        super().__init__(config)
        sizes = self.sizes
        width = sizes.text.width
        projected = config.patch_features == "value_attention"
        visual_width = sizes.embed_dim if projected else sizes.vision.width
        self.layers = tuple(config.layers or ())
        self.view = {"taps": self.layers, **({"value_path_from": self.layers[0]} if projected else {})}
        self.normal = nn.ModuleList(
            PromptMixture(config, visual_width, width, config.normal_tokens) for _ in self.layers
        )
        self.anomalous = nn.ModuleList(
            PromptMixture(config, visual_width, width, config.anomalous_tokens) for _ in self.layers
        )
        self.context = nn.Parameter(torch.empty(config.context_tokens, width).normal_(std=0.02))
        self.projections = nn.ModuleList(
            () if projected else (nn.Linear(sizes.vision.width, sizes.embed_dim) for _ in self.layers)
        )

    def forward(self, images: Tensor, class_names: Sequence[str] | None = None) -> PromptMoEOutput | InferenceBatch:
        """Score images.

        Args:
            images (Tensor): ``(B, 3, H, W)`` at the model's image size, normalised for CLIP.
            class_names (Sequence[str] | None): Class word of each image, used where the config has ``class_name=None``.
        """
        patches, visual, global_feature = self._look(images)
        text, routing = self._speak(visual, class_names)  # (B, layers, 2, C), (B, layers, 2, E)

        similar = similarity(patches, text)  # (B, layers, L, 2)
        # A softmax over two states is the sigmoid of their difference, and up-sampling is linear.
        margin = upsample(to_grid(similar[..., 1] - similar[..., 0]), images.shape[-1])
        layer_maps = torch.sigmoid(margin / self.config.temperature)
        mean_map = layer_maps.mean(dim=1)  # Eq. 6, the sum over layers scaled to [0, 1]

        image_margin = similarity(global_feature[:, None], text[:, -1])[:, 0]  # (B, 2)
        image_probability = torch.sigmoid((image_margin[:, 1] - image_margin[:, 0]) / self.config.image_temperature)
        score = (mean_map.amax(dim=(-2, -1)) + image_probability) / 2  # Eq. 7

        if self.training:
            return PromptMoEOutput(score, layer_maps, routing)
        smooth = gaussian_smooth(mean_map, self.config.smoothing_sigma)
        return InferenceBatch(pred_score=score, anomaly_map=smooth[:, None])

    def _look(self, images: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Patch features ``(B, layers, L, C)``, routers' guides ``layers x (B, 1 + L, D_x)``, global ``(B, C)``."""
        tower, tokens = self.load_clip().visual, self.see(images)
        if self.config.patch_features == "value_attention":
            patches = [tower.project(patch) for patch in tokens.patches]
            global_feature = tower.project(tokens.cls)
            guides, guide_cls = patches, global_feature
        else:
            patches = [linear(patch) for linear, patch in zip(self.projections, tokens.patches, strict=True)]
            global_feature = tower.project(tokens.cls)
            guides, guide_cls = list(tokens.patches), tokens.cls
        visual = [torch.cat([guide_cls[:, None], guide], dim=1) for guide in guides]
        return torch.stack(patches, dim=1), visual, global_feature

    def _speak(self, visual: Sequence[Tensor], class_names: Sequence[str] | None) -> tuple[Tensor, Tensor]:
        """Text features ``(B, layers, 2, C)`` of the mixed prompts (Eq. 1) and router logits ``(B, layers, 2, E)``."""
        normal, normal_logits = zip(*(mix(x) for mix, x in zip(self.normal, visual, strict=True)), strict=True)
        anomalous, anomalous_logits = zip(*(mix(x) for mix, x in zip(self.anomalous, visual, strict=True)), strict=True)
        segment_n, segment_a = torch.stack(normal, dim=1), torch.stack(anomalous, dim=1)  # (B, layers, M, D)

        words = [word_ids(word) for word in self.class_words(class_names)]
        tower = self.load_clip().text
        suffix = self.context.expand(*segment_n.shape[:2], -1, -1)
        prompt_n, ends_n = assemble_prompts(tower, segment_n, words, suffix)
        prompt_a, ends_a = assemble_prompts(tower, torch.cat([segment_n, segment_a], dim=2), words, suffix)
        prompt_n = F.pad(prompt_n, (0, 0, 0, prompt_a.shape[-2] - prompt_n.shape[-2]))
        prompts = torch.stack([prompt_n, prompt_a], dim=2)  # (B, layers, 2, tokens, D)
        ends = [[[n, a]] for n, a in zip(ends_n, ends_a, strict=True)]  # (B or 1, 1, 2)
        routing = torch.stack([torch.stack(normal_logits, dim=1), torch.stack(anomalous_logits, dim=1)], dim=2)
        return tower(prompts, ends, shared=1 + segment_n.shape[2]), routing  # both states begin with the normal segment

    def losses(self, output: PromptMoEOutput, labels: Tensor, masks: Tensor, has_mask: Tensor) -> dict[str, Tensor]:
        """Terms of Eq. 8, weights included; their sum is the training loss.

        Args:
            output (PromptMoEOutput): Of the same batch.
            labels (Tensor): ``(B,)`` true where anomalous.
            masks (Tensor): ``(B, H, W)`` true where anomalous.
            has_mask (Tensor): ``(B,)`` true where the mask is known; images without one train the image terms only.
        """
        score = output.score.to(torch.promote_types(output.score.dtype, torch.float32))
        with torch.autocast(score.device.type, enabled=False):
            image = F.binary_cross_entropy(score, labels.to(score.dtype))
        losses = {"image": image, "balance": self._balance(output.routing), "decouple": self._decouple()}
        if has_mask.any():
            maps, target = output.layer_maps[has_mask], masks[has_mask].to(output.layer_maps.dtype)[:, None]
            if self.config.map_supervision == "mean":
                maps = maps.mean(dim=1, keepdim=True)
            true = torch.where(target > 0, maps, 1 - maps)  # (B, 1 or layers, H, W)
            losses["focal"] = focal_terms(true, self.config.focal_gamma).mean(dim=(0, 2, 3)).sum()
            losses["dice"] = dice_of_layers(maps, target) + dice_of_layers(1 - maps, 1 - target)
        return losses

    def _balance(self, routing: Tensor) -> Tensor:
        """Eq. 4, over layers and both states."""
        return self.config.balance_weight * load_balance_loss(routing).sum()

    def _decouple(self) -> Tensor:
        """Eq. 5, over layers and both states: the experts' mean vectors should be orthogonal."""
        means = torch.stack([mixture.experts.mean(dim=1) for mixture in (*self.normal, *self.anomalous)])
        return self.config.decouple_weight * orthogonality_loss(means).sum()
