# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""BayesPFL as an anomalib model."""

import logging
from pathlib import Path
from typing import Any, Literal

import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.models.components import AnomalibModule
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import STEP_OUTPUT, OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from anomalib_zsad.adapters import Adapter, read_checkpoint
from anomalib_zsad.functional import gaussian_smooth
from anomalib_zsad.models.base import document
from anomalib_zsad.models.bayes_pfl.config import BayesPFLConfig
from anomalib_zsad.models.bayes_pfl.convert import convert_official, official_stage
from anomalib_zsad.models.bayes_pfl.evaluator import OfficialEvaluator
from anomalib_zsad.models.bayes_pfl.schedule import parameter_groups, stage_factor
from anomalib_zsad.models.bayes_pfl.torch_model import BayesPFLModel
from anomalib_zsad.models.bayes_pfl.words import SMALL_DEFECTS, WITHOUT_MAP, official_word
from anomalib_zsad.zero_shot import ZeroShotMixin

logger = logging.getLogger(__name__)


@document(BayesPFLConfig)
class BayesPFL(ZeroShotMixin, AnomalibModule):
    """Zero-shot detection with prompts drawn from learned distributions (Bayes-PFL, CVPR 2025).

    Prompt banks, the distributions around them, a cross-attention and an image branch are trained on auxiliary data
    with defects, in two stages; both CLIP towers stay frozen. Without ``weights`` the model trains; with ``weights`` it
    is a zero-shot model that tests, predicts and exports.

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
        >>> model = BayesPFL(backbone="tiny-random", image_size=224)
        >>> model.learning_type
        <LearningType.ONE_CLASS: 'one_class'>
    """

    config_class = BayesPFLConfig
    model_class = BayesPFLModel

    config: BayesPFLConfig
    model: BayesPFLModel
    score_parts: Tensor

    def __init__(
        self,
        backbone: str | None = None,
        pretrained: str | None = None,
        activation: Literal["recorded", "gelu", "quick_gelu"] = "gelu",
        image_size: int | None = None,
        seed: int | None = None,
        cache: Literal["none", "memory", "disk"] = "none",
        cache_dir: str | Path | None = None,
        layers: list[int] | None = None,
        class_name: str | None = None,
        rules: Literal["deployable", "official"] = "deployable",
        num_samples: int = 10,
        noise_seed: int = 0,
        num_prompts: int = 3,
        context_tokens: int = 5,
        state_tokens: int = 5,
        num_flows: int = 10,
        num_heads: int = 4,
        top_fraction: float = 0.0075,
        smoothing_sigma: float = 8.0,
        uncertainty_map: bool = False,
        divergence_weight: float = 0.01,
        prompt_learning_rate: float = 1e-3,
        temperature_learning_rate: float = 1e-2,
        learning_rate: float = 1e-4,
        warmup_share: float = 0.1,
        first_stage_epochs: int = 15,
        epochs: int = 20,
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
            evaluator=OfficialEvaluator() if evaluator is True and config.rules == "official" else evaluator,
            visualizer=visualizer,
        )
        self.build(config, adapter)
        self._sets: dict[str, str] = {}

    @classmethod
    def convert(cls, path: str | Path) -> Adapter:
        """Turn a released checkpoint (``{"MyModel": tensors}``) into an adapter."""
        tensors = convert_official(read_checkpoint(path), official_stage(path))
        return Adapter(cls.__name__, {}, tensors, origin={"released_checkpoint": Path(path).name})

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with four learning rates: warm-up and cosine over stage 1, constant for what trains in stage 2."""
        config = self.config
        optimizer = Adam(parameter_groups(self.model), betas=(0.5, 0.999))
        first, total = config.first_stage_epochs * self.steps_per_epoch, self.trainer.estimated_stepping_batches
        if total <= first and config.first_stage_epochs < config.epochs:
            logger.warning(
                "The training ends within the first of two stages: first_stage_epochs=%d are %d steps, and there are "
                "%d. The image branch, which stage 2 trains, stays unused. Give --model.first_stage_epochs a smaller "
                "number, such as three quarters of the epochs.",
                config.first_stage_epochs,
                first,
                total,
            )
        first = int(min(first, total))

        def first_stage(step: int) -> float:
            return stage_factor(step, first, config.warmup_share)

        def both_stages(step: int) -> float:
            return first_stage(step) if step < first else 1.0

        schedule = LambdaLR(optimizer, [first_stage, first_stage, first_stage, both_stages])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:
        """Refuse to train on several devices: what stage 2 trains would not be synchronised between them.

        Raises:
            ValueError: If there are several devices.
        """
        super().on_fit_start()
        if self.trainer.world_size > 1:
            msg = f"BayesPFL trains on one device, not on {self.trainer.world_size}; use --trainer.devices 1."
            raise ValueError(msg)

    def on_train_epoch_start(self) -> None:
        """Enter the stage of this epoch."""
        super().on_train_epoch_start()
        stage = 1 if self.current_epoch < self.config.first_stage_epochs else 2
        if stage == 2 and self.model.stage.item() == 1:
            (optimizer,) = self.trainer.optimizers
            for parameter in self.model.text_map.parameters():  # as with a new optimizer
                optimizer.state.pop(parameter, None)
        self.model.enter_stage(stage)

    def setup(self, stage: str) -> None:
        """Note which data set each class is of, where the data are made of several."""
        super().setup(stage)
        data = getattr(self.trainer.datamodule, "train_data" if stage in {"fit", "validate"} else "test_data", None)
        samples = getattr(data, "samples", {})
        self._sets = dict(zip(samples["category"], samples["dataset"], strict=True)) if "dataset" in samples else {}

    def prompt_words(self, batch: ImageBatch) -> dict[str, Any]:
        """Class words; under official rules the published ones, where a user gave no others."""
        words = super().prompt_words(batch)
        if self.config.rules == "deployable" or not words:
            return words
        classes = zip(self._classes(batch), words["class_names"], strict=True)
        return {"class_names": [official_word(*names, word) if names[1] else word for names, word in classes]}

    def _described_words(self) -> dict[str, str]:
        words = super()._described_words()
        if self.config.rules == "deployable" or self.config.class_name is not None:
            return words
        return {"class_words": words["class_words"].replace("folder", "bayes_pfl")}

    def _classes(self, batch: ImageBatch) -> list[tuple[str, str]]:
        """Data set and class of each image, as they are spelt in the data; ``""`` for what is not known."""
        datamodule = getattr(self.trainer, "datamodule", None)
        name, common = getattr(datamodule, "name", ""), getattr(datamodule, "category", None) or ""
        categories = getattr(batch, "category", None) or [common] * batch.batch_size
        pairs = [(self._sets.get(category, name), category) for category in categories]
        return [(data_set, category.removeprefix(f"{data_set}/")) for data_set, category in pairs]

    def _infer(self, batch: ImageBatch) -> STEP_OUTPUT:
        if self.config.rules == "deployable":
            return super()._infer(batch)
        classes = self._classes(batch)
        small = [(category or data_set) in SMALL_DEFECTS for data_set, category in classes]
        prediction = self.model.predict(batch.image, small_defects=small, **self.prompt_words(batch))  # type: ignore[arg-type]
        without = torch.tensor([data_set in WITHOUT_MAP for data_set, _ in classes], device=self.device)
        map_score = torch.where(without, prediction.text_score, prediction.map_score)
        self.score_parts = torch.stack([prediction.text_score, map_score], dim=1)
        if self.config.uncertainty_map:
            batch.extra_maps = {"uncertainty_map": prediction.uncertainty[:, None]}  # type: ignore[attr-defined]
        maps = gaussian_smooth(prediction.anomaly_map, self.config.smoothing_sigma)
        return batch.update(pred_score=self.score_parts.mean(dim=1), anomaly_map=maps[:, None])

    def to_torch(self, *args, **kwargs) -> Path:
        """Export for anomalib's ``TorchInferencer``; not under official rules."""
        self._refuse_official()
        return super().to_torch(*args, **kwargs)

    def to_onnx(self, *args, **kwargs) -> Path:  # type: ignore[override]
        """Export to ONNX, which ``to_openvino`` starts with, too; not under official rules."""
        self._refuse_official()
        return super().to_onnx(*args, **kwargs)

    def _refuse_official(self) -> None:
        if self.config.rules == "official":
            msg = (
                "rules='official' scales image scores over the whole test set of a class, which an exported model does "
                "not see. Export with rules='deployable'."
            )
            raise ValueError(msg)
