# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""BayesPFL without Lightning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from anomalib.data import InferenceBatch
from torch import Tensor, nn

from anomalib_zsad.clip.text import assemble_prompts
from anomalib_zsad.clip.tokenizer import word_ids
from anomalib_zsad.functional import gaussian_smooth, to_grid, topk_mean, upsample
from anomalib_zsad.models.base import MethodModel, init_linear
from anomalib_zsad.models.bayes_pfl.components import (
    AttentionPooling,
    ContextDistribution,
    Posterior,
    ResidualCrossAttention,
    StateDistribution,
)
from anomalib_zsad.models.bayes_pfl.config import BayesPFLConfig
from anomalib_zsad.models.bayes_pfl.loss import dice, focal_loss, orthogonality, regularisation
from anomalib_zsad.models.bayes_pfl.words import class_word


class ImageFeatures(NamedTuple):
    """What the frozen image tower gives.

    Attributes:
        image (Tensor): ``(B, C)`` global feature in the joint space, not normalised.
        patches (tuple[Tensor, ...]): For each tapped block ``(B, L, D)`` raw patch tokens.
    """

    image: Tensor
    patches: tuple[Tensor, ...]


class Noise(NamedTuple):
    """Standard normal draws: ``context`` ``(B or 1, R, C)`` and ``state`` ``(2, R, C)``, normal first."""

    context: Tensor
    state: Tensor


class BayesPFLOutput(NamedTuple):
    """What training needs. One sample is drawn, so ``T`` is the number of prompts in a bank.

    Attributes:
        image_logits (Tensor): ``(B, 2, T)``.
        pair (int): Prompt that carries classification and segmentation in this step.
        layer_logits (Tensor | None): ``(B, layers, H, W)`` of that prompt, positive where anomalous. Not in stage 2.
        text (Tensor): ``(B, 2, T, C)`` normalised text features.
        context (Posterior): Of the context vectors, ``N = B``.
        state (Posterior): Of the state vectors, ``N = 2``.
    """

    image_logits: Tensor
    pair: int
    layer_logits: Tensor | None
    text: Tensor
    context: Posterior
    state: Posterior


class BayesPFLPrediction(NamedTuple):
    """Everything that a test image gives; all in [0, 1], maps at image size and not smoothed.

    Attributes:
        text_score (Tensor): ``(B,)`` mean anomaly probability of the image over all prompts.
        map_score (Tensor): ``(B,)`` mean of the largest values of ``anomaly_map``.
        layer_maps (Tensor): ``(B, layers, H, W)`` mean anomaly probability over all prompts.
        anomaly_map (Tensor): ``(B, H, W)`` mean of the layers.
        uncertainty (Tensor): ``(B, H, W)`` standard deviation of the anomaly probability over the ``R x B_p`` prompts,
            mean over the layers; at most 0.5.
    """

    text_score: Tensor
    map_score: Tensor
    layer_maps: Tensor
    anomaly_map: Tensor
    uncertainty: Tensor


class UncertainBatch(NamedTuple):
    """anomalib's ``InferenceBatch`` with one more field.

    Attributes:
        uncertainty_map (Tensor | None): ``(B, 1, H, W)``, see :class:`BayesPFLPrediction`; not smoothed.
    """

    pred_score: Tensor | None = None
    pred_label: Tensor | None = None
    anomaly_map: Tensor | None = None
    pred_mask: Tensor | None = None
    uncertainty_map: Tensor | None = None


class BayesPFLModel(MethodModel):
    """Distributions over prompts, sampled; text features refined by the patches of each layer.

    In training mode it returns :class:`BayesPFLOutput`, in evaluation mode anomalib's ``InferenceBatch`` with
    ``pred_score`` ``(B,)`` and the smoothed ``anomaly_map`` ``(B, 1, H, W)``, both in [0, 1].

    The noise at test time is drawn once, from ``noise_seed`` alone: an image has one score. The first ``R`` draws of a
    larger ``num_samples`` are those of a smaller one.

    Args:
        config (BayesPFLConfig): A resolved config.

    Attributes:
        stage (Tensor): ``()`` 1 or 2, part of the state: which image branch is in use.
    """

    config: BayesPFLConfig
    stage: Tensor
    noise_context: Tensor
    noise_state: Tensor

    def __init__(self, config: BayesPFLConfig) -> None:
        super().__init__(config)
        joint, width = self.sizes.embed_dim, self.sizes.vision.width
        self.layers = tuple(config.layers or ())
        self.view = {"taps": self.layers}
        contexts = torch.empty(config.num_prompts, config.context_tokens, joint)
        states = torch.empty(2, config.num_prompts, config.state_tokens, joint)
        around = torch.tensor([0.5, -0.5]).reshape(2, 1, 1, 1)  # normal, anomalous
        self.context_bank = nn.Parameter(nn.init.trunc_normal_(contexts, std=0.02))
        self.state_bank = nn.Parameter(nn.init.trunc_normal_(states, std=0.02) + around)
        self.context_distribution = ContextDistribution(joint, width // 2, config.num_flows)
        self.state_distribution = StateDistribution(joint, width // 2, config.num_flows)
        self.attention = ResidualCrossAttention(len(self.layers), width, joint, config.num_heads)
        self.pooling = AttentionPooling(len(self.layers), width, joint)
        self.text_map = nn.Linear(joint, joint)
        self.image_map = nn.Linear(joint, joint)
        init_linear(self.text_map)
        init_linear(self.image_map)
        self.map_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        self.image_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        self.register_buffer("stage", torch.tensor(1))
        self.enter_stage(1)
        noise = _fixed_noise(config.noise_seed, config.num_samples, joint)
        self.register_buffer("noise_context", noise[:, 0], persistent=False)
        self.register_buffer("noise_state", noise[:, 1:].transpose(0, 1).contiguous(), persistent=False)

    def enter_stage(self, stage: int) -> None:
        """Choose the image branch and what trains.

        Stage 1 trains everything but ``pooling`` and ``image_map``, stage 2 these two and ``text_map``.
        """
        self.stage.fill_(stage)
        self.requires_grad_(stage == 1)
        for module in (self.pooling, self.image_map):
            module.requires_grad_(stage == 2)
        self.text_map.requires_grad_(requires_grad=True)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.enter_stage(int(self.stage))  # a training may go on in the middle of an epoch

    def forward(
        self, images: Tensor, class_names: Sequence[str] | None = None
    ) -> BayesPFLOutput | InferenceBatch | UncertainBatch:
        """Score images.

        Args:
            images (Tensor): ``(B, 3, H, W)`` at the model's image size, normalised for CLIP.
            class_names (Sequence[str] | None): Class word of each image, used where the config has ``class_name=None``.
        """
        if not self.training and self.config.uncertainty_map:
            return self._with_uncertainty(images, class_names)
        features = self.look(images)
        if self.training:
            shape = (1, self.sizes.embed_dim)
            noise = Noise(
                torch.randn(len(images), *shape, device=images.device), torch.randn(2, *shape, device=images.device)
            )
            pair = int(torch.randint(self.config.num_prompts, ()))
            return self.train_step(features, noise, pair, class_names)
        text, _, _ = self.speak(features.image, self.noise, class_names)
        text_score = self._text_score(features, text)
        raw = torch.stack([maps.mean(dim=1) for maps in self._probabilities(features.patches, text)]).mean(dim=0)
        score = 0.5 * text_score + 0.5 * self._map_score(raw)
        smooth = gaussian_smooth(raw, self.config.smoothing_sigma)
        return InferenceBatch(pred_score=score, anomaly_map=smooth[:, None])

    def _with_uncertainty(self, images: Tensor, class_names: Sequence[str] | None) -> UncertainBatch:
        found = self.predict(images, class_names)
        smooth = gaussian_smooth(found.anomaly_map, self.config.smoothing_sigma)
        score = 0.5 * found.text_score + 0.5 * found.map_score
        return UncertainBatch(score, anomaly_map=smooth[:, None], uncertainty_map=found.uncertainty[:, None])

    def predict(
        self, images: Tensor, class_names: Sequence[str] | None = None, small_defects: Sequence[bool] | None = None
    ) -> BayesPFLPrediction:
        """The parts of the score, the map of each layer, and how far the prompts disagree.

        Args:
            images (Tensor): As for ``forward``.
            class_names (Sequence[str] | None): As for ``forward``.
            small_defects (Sequence[bool] | None): Of each image, whether official rules take 20 pixels instead of 2000
                into its map score (:data:`~anomalib_zsad.models.bayes_pfl.words.SMALL_DEFECTS`). ``None``: of none.
        """
        features = self.look(images)
        text, _, _ = self.speak(features.image, self.noise, class_names)
        moments = [
            torch.stack([maps.mean(dim=1), maps.std(dim=1, correction=0)])
            for maps in self._probabilities(features.patches, text)
        ]
        layer_maps, spread = torch.stack(moments, dim=2)  # 2 x (B, layers, H, W)
        raw = layer_maps.mean(dim=1)
        map_score = self._map_score(raw, small_defects)
        return BayesPFLPrediction(self._text_score(features, text), map_score, layer_maps, raw, spread.mean(dim=1))

    def train_step(
        self, features: ImageFeatures, noise: Noise, pair: int, class_names: Sequence[str] | None
    ) -> BayesPFLOutput:
        """The training pass behind the image tower; its randomness, noise of one sample and the pair, are arguments."""
        text, context, state = self.speak(features.image, noise, class_names)
        logits = None
        if self.stage.item() == 1:  # stage 2 has no loss on the maps
            chosen = text[:, :, pair : pair + 1]
            margins = [self._margin(layer, tokens, chosen) for layer, tokens in enumerate(features.patches)]
            logits = upsample(torch.cat(margins, dim=1), self._image_size, align_corners=True)
        return BayesPFLOutput(self.image_logits(features, text), pair, logits, text, context, state)

    @property
    def noise(self) -> Noise:
        """The fixed noise of test time."""
        return Noise(self.noise_context[None], self.noise_state)

    @property
    def _image_size(self) -> int:
        return self.load_clip().image_size

    def look(self, images: Tensor) -> ImageFeatures:
        """Frozen features of ``images`` ``(B, 3, H, W)``."""
        tokens = self.see(images)
        return ImageFeatures(self.load_clip().visual.project(tokens.cls), tokens.patches)

    def speak(
        self, image: Tensor, noise: Noise, class_names: Sequence[str] | None
    ) -> tuple[Tensor, Posterior, Posterior]:
        """Text features of all sampled prompts, in one pass of the text tower.

        Args:
            image (Tensor): ``(B, C)`` global image features, not normalised.
            noise (Noise): ``R`` draws.
            class_names (Sequence[str] | None): Class word of each image.

        Returns:
            tuple[Tensor, Posterior, Posterior]: Normalised text features ``(B, 2, T, C)`` with ``T = R x B_p``, samples
            of the context vectors and of the state vectors.
        """
        context, state = self.context_distribution(image, noise.context), self.state_distribution(noise.state)
        contexts = (self.context_bank + context.end[:, :, None, None])[:, :, :, None]  # (B, R, B_p, 1, P, C)
        states = (self.state_bank[:, None] + state.end[:, :, None, None]).movedim(0, 2)  # (R, B_p, 2, Q, C)
        leading = (image.shape[0], *states.shape[:3])  # len() would fix the batch size of an exported graph
        prefix = torch.cat([contexts.expand(*leading, -1, -1), states.expand(*leading, -1, -1)], dim=-2)

        tower = self.load_clip().text
        words = [word_ids(class_word(word)) for word in self.class_words(class_names)]
        prompts, ends = assemble_prompts(tower, prefix, words)
        # The prompts of a pair differ behind the context.
        text = tower(prompts, [[[[end]]] for end in ends], shared=1 + contexts.shape[-2])  # (B, R, B_p, 2, C)
        return F.normalize(text.flatten(1, 2).transpose(1, 2), dim=-1), context, state

    def image_logits(self, features: ImageFeatures, text: Tensor) -> Tensor:
        """Image logits ``(B, 2, T)`` of the text features ``(B, 2, T, C)``, by the image branch of the stage."""
        pooled = F.normalize(self.image_map(features.image + self.pooling(features.patches)), dim=-1)
        image = torch.where(self.stage.eq(2), pooled, F.normalize(features.image, dim=-1))
        texts = F.normalize(self.text_map(text), dim=-1)
        return self.image_scale.exp() * (texts @ image[:, None, :, None])[..., 0]

    def _text_score(self, features: ImageFeatures, text: Tensor) -> Tensor:
        logits = self.image_logits(features, text)
        return torch.sigmoid(logits[:, 1] - logits[:, 0]).mean(dim=-1)

    def _margin(self, layer: int, patches: Tensor, text: Tensor) -> Tensor:
        """Anomalous minus normal patch logits ``(B, T, grid, grid)`` of one layer."""
        keys = self.attention.project(layer, patches)
        refined = self.attention(text.flatten(1, 2), keys).unflatten(1, text.shape[1:3])
        return to_grid((self.map_scale.exp() * (refined[:, 1] - refined[:, 0])) @ keys.mT)

    def _probabilities(self, patches: Sequence[Tensor], text: Tensor) -> Iterator[Tensor]:
        """Anomaly probability ``(B, T, H, W)`` of every prompt, one layer after the other to bound the memory.

        The softmax over a pair follows the up-sampling; it is the sigmoid of the up-sampled difference.
        """
        for layer, tokens in enumerate(patches):
            margin = self._margin(layer, tokens, text)
            yield torch.sigmoid(upsample(margin, self._image_size, align_corners=True))

    def _map_score(self, maps: Tensor, small_defects: Sequence[bool] | None = None) -> Tensor:
        """Mean of the largest values of the raw ``maps`` ``(B, H, W)``; how many is what the rules say."""
        if self.config.rules == "deployable":
            return topk_mean(maps, max(1, round(self.config.top_fraction * maps.shape[-1] * maps.shape[-2])))
        small = torch.tensor(small_defects or [False], device=maps.device)
        return torch.where(small, topk_mean(maps, 20), topk_mean(maps, 2000))

    def losses(self, output: BayesPFLOutput, labels: Tensor, masks: Tensor, has_mask: Tensor) -> dict[str, Tensor]:
        """Terms of the loss, weights included; their sum is the training loss. Stage 2 has the image term only.

        Args:
            output (BayesPFLOutput): Of the same batch.
            labels (Tensor): ``(B,)`` true where anomalous.
            masks (Tensor): ``(B, H, W)`` true where anomalous.
            has_mask (Tensor): ``(B,)`` true where the mask is known; images without one train the other terms only.
        """
        losses = {"image": F.cross_entropy(_wide(output.image_logits[..., output.pair]), labels.long())}
        if output.layer_logits is None:
            return losses
        context, states = regularisation(output.context, output.state)
        losses["divergence"] = self.config.divergence_weight * (context + states.sum())
        losses["orthogonality"] = orthogonality(output.text)
        if has_mask.any():
            logits, target = _wide(output.layer_logits[has_mask]), masks[has_mask]
            losses["focal"], losses["dice"] = focal_loss(logits, target).sum(), dice(logits, target).sum()
        return losses


def _wide(x: Tensor) -> Tensor:
    """At least float32, whatever precision the training runs in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _fixed_noise(seed: int, samples: int, width: int) -> Tensor:
    """Draws ``(R, 3, C)``: context, normal, anomalous. NumPy's legacy generator, whose stream never changes."""
    draws = np.random.RandomState(seed).standard_normal((samples, 3, width))
    return torch.from_numpy(draws).float()
