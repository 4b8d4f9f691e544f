# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""CoPS without Lightning."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from anomalib.data import InferenceBatch
from torch import Tensor, nn

from anomalib_zsad.clip.blocks import overwrite_tokens
from anomalib_zsad.clip.text import assemble_prompts
from anomalib_zsad.clip.tokenizer import word_ids
from anomalib_zsad.functional import gaussian_smooth, similarity, to_grid
from anomalib_zsad.losses import dice_loss, focal_terms
from anomalib_zsad.models.base import INIT_STD, MethodModel
from anomalib_zsad.models.cops.components import (
    ClassVAE,
    PrototypeExtractor,
    distance_weight,
    neighbourhood_mean,
    prototype_distances,
)
from anomalib_zsad.models.cops.config import CoPSConfig


class Alignment(NamedTuple):
    """How an image lies to its prototypes and prompts.

    Attributes:
        distances (Tensor): ``(B, L, 2)`` cosine distance of each patch to the nearest prototype of either class.
        probability (Tensor): ``(B, L, 2)`` class probabilities of each patch.
        image_logits (Tensor): ``(B, 2)`` class logits of the image.
    """

    distances: Tensor
    probability: Tensor
    image_logits: Tensor


class CoPSOutput(NamedTuple):
    """What training needs.

    Attributes:
        alignment (Alignment): Distances, probabilities and logits.
        feature (Tensor): ``(B, C)`` global image feature.
        mean (Tensor): ``(B, C)`` mean of the VAE's latent.
        log_var (Tensor): ``(B, C)`` log variance of the VAE's latent.
        bias (Tensor): ``(B, C)`` decoded sample.
    """

    alignment: Alignment
    feature: Tensor
    mean: Tensor
    log_var: Tensor
    bias: Tensor


class PrototypeBatch(NamedTuple):
    """anomalib's ``InferenceBatch`` with two more fields, enlarged and smoothed like the map whose weight they make.

    Attributes:
        normal_distance_map (Tensor | None): ``(B, 1, H, W)`` in [0, 2], distance to the image's normal prototypes.
        anomalous_distance_map (Tensor | None): The same for its anomalous prototypes.
    """

    pred_score: Tensor | None = None
    pred_label: Tensor | None = None
    anomaly_map: Tensor | None = None
    pred_mask: Tensor | None = None
    normal_distance_map: Tensor | None = None
    anomalous_distance_map: Tensor | None = None


class CoPSModel(MethodModel):
    """Prompts synthesised for each image from its prototypes and from samples of a variational auto-encoder.

    In training mode it returns :class:`CoPSOutput`, in evaluation mode anomalib's ``InferenceBatch`` with
    ``pred_score`` ``(B,)`` and the smoothed ``anomaly_map`` ``(B, 1, H, W)``, both in [0, 1].

    Args:
        config (CoPSConfig): A resolved config.
    """

    config: CoPSConfig
    positions: ClassVar[Literal["bilinear"]] = "bilinear"
    prior: Tensor
    enlarge: Tensor

    def __init__(self, config: CoPSConfig) -> None:
        super().__init__(config)
        self.view = {"taps": (self.sizes.vision.layers,), "value_path_from": 1}
        width = self.sizes.embed_dim
        heads, deep_layers = config.num_heads or 1, config.deep_layers or 0  # a resolved config has numbers
        self.prompts = nn.Parameter(torch.empty(2, config.prompt_tokens, width).normal_(std=INIT_STD))
        self.queries = nn.Parameter(torch.empty(2, config.num_prototypes, width).normal_(std=INIT_STD))
        deep_tokens = torch.empty(deep_layers, config.deep_tokens, width).normal_(std=INIT_STD)
        # Training on several devices waits for the gradient of whatever may have one.
        self.deep_tokens = nn.Parameter(deep_tokens, requires_grad=deep_layers > 0)
        self.extractor = PrototypeExtractor(width, heads)
        self.vae = ClassVAE(width)
        # NumPy promises that this stream never changes, and fewer samples are the head of more: nothing needs storing.
        prior = np.random.RandomState(config.noise_seed).standard_normal((config.num_samples, width))
        self.register_buffer("prior", torch.tensor(prior, dtype=torch.float32), persistent=False)
        self.register_buffer("enlarge", self._enlarge(), persistent=False)

    def _enlarge(self) -> Tensor:
        """Matrix ``(image_size, grid)`` of nearest up-sampling followed by the Gaussian, for one axis."""
        patch = self.sizes.vision.patch_size
        nearest = torch.eye((self.config.image_size or 0) // patch).repeat_interleave(
            patch, dim=1
        )  # (grid, image_size)
        return gaussian_smooth(nearest[..., None], self.config.smoothing_sigma)[..., 0].T.contiguous()

    def forward(self, images: Tensor, noise: Tensor | None = None) -> CoPSOutput | InferenceBatch | PrototypeBatch:
        """Score images.

        Args:
            images (Tensor): ``(B, 3, H, W)`` at the model's image size, normalised for CLIP.
            noise (Tensor | None): Standard normal draws ``(B, C)`` for the VAE in training; drawn if not given.
        """
        feature, patches = self.encode(images)
        if not self.training:
            bias = self.vae.decoder(self.prior)[None]
            return self._infer(self.align(feature, neighbourhood_mean(patches, self.config.rule.neighbourhood), bias))
        mean, log_var = self.vae.encode(feature)
        sample = mean + (log_var / 2).exp() * (torch.randn_like(mean) if noise is None else noise)
        bias = self.vae.decoder(sample)
        alignment = self.align(feature, neighbourhood_mean(patches, self.config.neighbourhood), bias[:, None])
        return CoPSOutput(alignment, feature, mean, log_var, bias)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Frozen features of ``images``: global ``(B, C)`` and patches ``(B, L, C)`` of the V-V path, not normalised.

        The released code leaves out ``ln_post`` on the class token.
        """
        tower, tokens = self.load_clip().visual, self.see(images)
        return tower.project(tokens.cls, norm=False), tower.project(tokens.patches[0])

    def align(self, feature: Tensor, patches: Tensor, bias: Tensor) -> Alignment:
        """Compare an image with its prototypes and with the prompts made of them.

        Args:
            feature (Tensor): ``(B, C)`` global feature.
            patches (Tensor): ``(B, L, C)`` patch features, averaged over their neighbourhoods.
            bias (Tensor): ``(B or 1, R, C)`` decoded samples.
        """
        prototypes = self.extractor(self.queries, patches)
        text = F.normalize(self.encode_prompts(prototypes.detach(), bias).mean(dim=2), dim=-1)  # (B, 2, C)
        return Alignment(
            distances=prototype_distances(patches, prototypes),
            probability=(similarity(patches, text) / self.config.temperature).softmax(dim=-1),
            image_logits=similarity(feature[:, None], text)[:, 0] / self.config.temperature,
        )

    def encode_prompts(self, prototypes: Tensor, bias: Tensor) -> Tensor:
        """Normalised text features ``(B, 2, R, C)`` of the prompts made for one image each.

        Args:
            prototypes (Tensor): ``(B, 2, P, C)``.
            bias (Tensor): ``(B or 1, R, C)`` decoded samples.
        """
        config, tower = self.config, self.load_clip().text
        sizes = (config.context_tokens, config.num_prototypes, config.class_tokens)
        context, state, word = self.prompts[:, None].split(sizes, dim=2)  # (2, 1, tokens, C)
        states = state + (prototypes.flip(1) if config.swap_prototypes else prototypes)[:, :, None]  # (B, 2, 1, P, C)
        words = word + bias[:, None, :, None]  # (B or 1, 2, R, tokens, C)
        leading = (prototypes.shape[0], 2, bias.shape[1], -1, -1)
        vectors = torch.cat([part.expand(leading) for part in (context, states, words)], dim=3)

        prompts, ends = assemble_prompts(tower, vectors, [word_ids(".")])
        deep = self.deep_tokens.half().to(self.deep_tokens) if config.half_tokens else self.deep_tokens
        # The samples differ behind the states. Deep tokens that reach further would have to be written into each.
        common = 1 + config.context_tokens + config.num_prototypes
        shared = common if config.deep_tokens < common else 0
        text = tower(prompts, ends[0], before_block=overwrite_tokens(deep), shared=shared)
        return F.normalize(text, dim=-1)

    def _infer(self, alignment: Alignment) -> InferenceBatch | PrototypeBatch:
        rule = self.config.rule
        image = alignment.image_logits.softmax(dim=-1)[:, 1]
        patch = alignment.probability[..., 1] * distance_weight(alignment.distances, rule.alpha)  # (B, L)
        score, anomaly_map = rule.beta * image + (1 - rule.beta) * patch.amax(dim=-1), self._to_map(patch[:, None])
        if not self.config.distance_maps:
            return InferenceBatch(pred_score=score, anomaly_map=anomaly_map)
        normal, anomalous = self._to_map(alignment.distances.mT).split(1, dim=1)
        return PrototypeBatch(
            score, anomaly_map=anomaly_map, normal_distance_map=normal, anomalous_distance_map=anomalous
        )

    def _to_map(self, patches: Tensor) -> Tensor:
        """Enlarge and smooth ``(..., L)`` to ``(..., H, W)``."""
        return self.enlarge @ to_grid(patches) @ self.enlarge.T

    def losses(self, output: CoPSOutput, labels: Tensor, masks: Tensor, has_mask: Tensor) -> dict[str, Tensor]:
        """Loss terms, weights included; their sum is the training loss.

        The pixel losses are those of the probabilities after nearest up-sampling. There every pixel has the probability
        of its patch, so the share of anomalous pixels in a patch gives the same sums without enlarging anything.

        Args:
            output (CoPSOutput): Of the same batch.
            labels (Tensor): ``(B,)`` true where anomalous.
            masks (Tensor): ``(B, H, W)`` true where anomalous.
            has_mask (Tensor): ``(B,)`` true where the mask is known; images without one train the image terms only.
        """
        log_var, mean = output.log_var, output.mean
        losses = {
            "image": F.cross_entropy(output.alignment.image_logits, labels.long()),
            "kl": -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(dim=1).mean(),
        }
        if self.config.reconstruction:  # every feature with every sample, not only its own, as released
            losses["reconstruction"] = (output.feature - output.bias[:, None]).square().mean()
        if has_mask.any():
            distances, probability = output.alignment.distances[has_mask], output.alignment.probability[has_mask]
            size = self.sizes.vision.patch_size
            share = F.avg_pool2d(masks[has_mask].to(probability)[:, None], size).flatten(1)  # (B, L)
            normal, anomalous = probability.unbind(dim=-1)
            touched = (share > 0).to(share)
            losses["gather"] = _masked_mean(distances[..., 0], 1 - touched)
            losses["scatter"] = _masked_mean(distances[..., 1], touched)
            focal = (share * _focal(anomalous) + (1 - share) * _focal(normal)).mean()
            smooth = size**-2  # one pixel
            losses["focal"] = self.config.patch_weight * focal
            losses["dice_anomalous"] = self.config.patch_weight * dice_loss(anomalous, share, smooth).mean()
            losses["dice_normal"] = self.config.patch_weight * dice_loss(normal, 1 - share, smooth).mean()
        else:  # training on several devices waits for the gradients of queries and extractor
            losses["image"] = losses["image"] + 0 * output.alignment.distances.mean()
        return losses


def _focal(probability: Tensor, clamp: float = 1e-5) -> Tensor:
    """Focal terms against a one-hot target clamped to ``[clamp, 1 - clamp]``."""
    return focal_terms((1 - clamp) * probability + clamp * (1 - probability))


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values`` where ``mask`` is 1; zero where it is nowhere 1."""
    return (values * mask).sum() / mask.sum().clamp(min=1)
