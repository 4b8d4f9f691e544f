# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""PromptMoE as an anomalib model."""

from pathlib import Path
from typing import Literal

from anomalib.metrics import Evaluator
from anomalib.models.components import AnomalibModule
from anomalib.visualization import Visualizer
from lightning.pytorch import Callback
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from anomalib_zsad.models.base import document
from anomalib_zsad.models.promptmoe.config import PromptMoEConfig
from anomalib_zsad.models.promptmoe.torch_model import PromptMoEModel
from anomalib_zsad.visualization import RoutingPicture
from anomalib_zsad.zero_shot import ZeroShotMixin


@document(PromptMoEConfig)
class PromptMoE(ZeroShotMixin, AnomalibModule):
    """Zero-shot detection with prompts that a mixture of experts composes for each image (PromptMoE, AAAI 2026).

    The routers, the expert prompt segments and a shared context are trained on auxiliary data with defects; both CLIP
    towers stay frozen. Without ``weights`` the model trains; with ``weights`` it is a zero-shot model that tests,
    predicts and exports.

    Args:
        {fields}
        weights: Adapter file of an earlier training (``.safetensors``). ``None`` starts a new model. Options at
            their default take the adapter's values, also where the default is given; the log names them.
        pre_processor: Pre-processor, or whether to use CLIP's.
        post_processor: Post-processor, or whether to use the one calibrated on auxiliary data.
        evaluator: Evaluator, or whether to compute the six metrics per class.
        visualizer: Visualizer, or whether to write pictures.

    Example:
        >>> model = PromptMoE(backbone="tiny-random", image_size=224)
        >>> model.learning_type
        <LearningType.ONE_CLASS: 'one_class'>
    """

    config: PromptMoEConfig
    config_class = PromptMoEConfig
    model_class = PromptMoEModel

    def __init__(
        self,
        backbone: str | None = None,
        pretrained: str | None = None,
        activation: Literal["recorded", "gelu", "quick_gelu"] = "recorded",
        image_size: int | None = None,
        seed: int | None = None,
        cache: Literal["none", "memory", "disk"] = "none",
        cache_dir: str | Path | None = None,
        layers: list[int] | None = None,
        patch_features: Literal["value_attention", "projection"] = "value_attention",
        class_name: str | None = "object",
        num_experts: int = 8,
        top_k: int = 4,
        num_queries: int = 8,
        num_heads: int = 8,
        router_hidden: int = 256,
        normal_tokens: int = 5,
        anomalous_tokens: int = 6,
        context_tokens: int = 8,
        temperature: float = 0.07,
        image_temperature: float = 0.07,
        balance_weight: float = 0.01,
        decouple_weight: float = 0.005,
        focal_gamma: float = 2.0,
        map_supervision: Literal["mean", "per_layer"] = "mean",
        smoothing_sigma: float = 4.0,
        learning_rate: float = 1e-3,
        warmup_epochs: float = 3.0,
        epochs: int = 15,
        weights: str | Path | None = None,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        config, adapter = self.read(locals())
        super().__init__(
            pre_processor=self.components(config, pre_processor),
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        self.build(config, adapter)

    def configure_callbacks(self) -> list[Callback]:
        """Add the picture of which experts fire, unless pictures are switched off."""
        pictures = [] if self.visualizer is None else [RoutingPicture()]
        return [*super().configure_callbacks(), *pictures]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with a learning rate that rises linearly over the first epochs, step by step, and stays."""
        optimizer = Adam(self.model.parameters(), lr=self.config.learning_rate, betas=(0.5, 0.999))
        warmup = max(1, round(self.config.warmup_epochs * self.steps_per_epoch))
        schedule = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
