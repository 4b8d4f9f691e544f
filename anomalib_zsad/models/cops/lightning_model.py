# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""CoPS as an anomalib model."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from anomalib.metrics import Evaluator
from anomalib.models.components import AnomalibModule
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Adam

from anomalib_zsad.adapters import Adapter, read_checkpoint
from anomalib_zsad.models.base import document
from anomalib_zsad.models.cops.config import CoPSConfig
from anomalib_zsad.models.cops.convert import convert_official, released_training
from anomalib_zsad.models.cops.torch_model import CoPSModel
from anomalib_zsad.zero_shot import ZeroShotMixin

logger = logging.getLogger(__name__)


@document(CoPSConfig)
class CoPS(ZeroShotMixin, AnomalibModule):
    """Zero-shot detection with prompts synthesised from each image's own prototypes (CoPS, CVPR 2026 Findings).

    The prompt vectors, the prototype extractor, the deep text tokens and the variational auto-encoder of the class
    vector are trained on auxiliary data with defects; both CLIP towers stay frozen. Prompts hold no class word. Without
    ``weights`` the model trains; with ``weights`` it is a zero-shot model that tests, predicts and exports.

    Args:
        {fields}
        weights: Adapter file of an earlier training (``.safetensors``), or a released checkpoint (``.pth``). ``None``
            starts a new model. Options at their default take the adapter's values, also where the default is given;
            the log names them.
        pre_processor: Pre-processor, or whether to use CLIP's.
        post_processor: Post-processor, or whether to use the one calibrated on auxiliary data.
        evaluator: Evaluator, or whether to compute the six metrics per class.
        visualizer: Visualizer, or whether to write pictures.

    Example:
        >>> model = CoPS(backbone="tiny-random", image_size=224)
        >>> model.learning_type
        <LearningType.ONE_CLASS: 'one_class'>
    """

    config_class = CoPSConfig
    model_class = CoPSModel

    config: CoPSConfig
    model: CoPSModel

    def __init__(
        self,
        backbone: str | None = None,
        pretrained: str | None = None,
        activation: Literal["recorded", "gelu", "quick_gelu"] = "recorded",
        image_size: int | None = None,
        seed: int | None = None,
        cache: Literal["none", "memory", "disk"] = "none",
        cache_dir: str | Path | None = None,
        neighbourhood: int = 5,
        reconstruction: bool = False,
        rules: Literal["deployable", "official"] = "deployable",
        official_target: Literal["visa", "other"] | None = None,
        num_samples: int = 10,
        noise_seed: int = 0,
        context_tokens: int = 6,
        num_prototypes: int = 6,
        class_tokens: int = 2,
        deep_layers: int | None = None,
        deep_tokens: int = 4,
        num_heads: int | None = None,
        swap_prototypes: bool = True,
        half_tokens: bool = True,
        temperature: float = 0.07,
        patch_weight: float = 4.0,
        smoothing_sigma: float = 4.0,
        distance_maps: bool = False,
        learning_rate: float = 1e-3,
        epochs: int = 10,
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

    @classmethod
    def read(cls, arguments: Mapping[str, Any]) -> tuple[Any, Adapter | None]:
        """Resolve the arguments, and warn where weights do not say with which neighbourhood they were trained."""
        config, adapter = super().read(arguments)
        default = CoPSConfig.model_fields["neighbourhood"].default
        unknown = adapter is not None and "neighbourhood" not in adapter.config
        if unknown and config.rules == "deployable" and config.neighbourhood == default:
            logger.warning(
                "%s is neither of the two published files and does not say with which neighbourhood it was trained: %d "
                "is taken, as for training on VisA. If it was another one, such as 3 for training on MVTec AD, say "
                "--model.neighbourhood 3.",
                arguments["weights"],
                default,
            )
        return config, adapter

    @classmethod
    def convert(cls, path: str | Path) -> Adapter:
        """Turn a released checkpoint (``{"prompt_learner": tensors}``) into an adapter.

        The two published files are recognised and bring the neighbourhood they were trained with.
        """
        tensors = convert_official(read_checkpoint(path))
        origin, training = {"released_checkpoint": Path(path).name}, released_training(path)
        if training is None:
            return Adapter(cls.__name__, {}, tensors, origin=origin)
        config = {"neighbourhood": training.neighbourhood}
        return Adapter(cls.__name__, config, tensors, origin={**origin, "data": training.data})

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam at a constant learning rate."""
        return Adam(self.model.parameters(), lr=self.config.learning_rate, betas=(0.5, 0.999))
