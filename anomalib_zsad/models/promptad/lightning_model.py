# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""PromptAD as an anomalib model."""

import logging
import math
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from anomalib import LearningType
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.models.components import AnomalibModule
from anomalib.visualization import Visualizer
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from anomalib_zsad.data.auxiliary import class_names_of
from anomalib_zsad.data.batches import AuxiliaryBatch
from anomalib_zsad.data.episodes import EpisodeSampler, SampledTraining
from anomalib_zsad.models.base import document
from anomalib_zsad.models.promptad.config import PromptADConfig
from anomalib_zsad.models.promptad.few_shot import images_in_folder, normal_images
from anomalib_zsad.models.promptad.torch_model import PromptADModel
from anomalib_zsad.zero_shot import ZeroShotMixin

logger = logging.getLogger(__name__)


class EndOfEpisodes(Callback):
    """Leaves the datamodule of a training without episodes, as it was, however the training ends."""

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Take the sampler away."""
        del pl_module  # This variable is not used.
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        if stage == "fit" and isinstance(datamodule, SampledTraining):
            datamodule.train_sampler = None

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Take the sampler away, as there is no teardown."""
        del exception  # This variable is not used.
        if trainer.state.fn == TrainerFn.FITTING:
            self.teardown(trainer, pl_module, "fit")


@document(PromptADConfig)
class PromptAD(ZeroShotMixin, AnomalibModule):
    """Zero-shot detection with a normality and an abnormality branch, told by texts what to look for (WACV 2024).

    The two branches are trained on auxiliary data with few labelled anomalies, from image labels alone; both CLIP
    towers stay frozen. Without ``weights`` the model trains; with ``weights`` it is a zero-shot model that tests,
    predicts and exports.

    ``k_shot`` above 0 makes it a **few-shot** model, as the paper's few-shot setting does: normal images *of the
    target* then say what normal is, instead of words. Its results are not zero-shot results. The thresholds stay those
    of the zero-shot calibration.

    Args:
        {fields}
        weights: Adapter file of an earlier training (``.safetensors``). ``None`` starts a new model. Options at
            their default take the adapter's values, also where the default is given; the log names them.
        pre_processor: Pre-processor, or whether to use CLIP's.
        post_processor: Post-processor, or whether to use the one calibrated on auxiliary data.
        evaluator: Evaluator, or whether to compute the six metrics per class.
        visualizer: Visualizer, or whether to write pictures.

    Example:
        >>> model = PromptAD(backbone="tiny-random", image_size=224, class_name="bolt",
        ...                  class_definition="a steel bolt with a hexagonal head and a clean thread")
        >>> model.learning_type
        <LearningType.ONE_CLASS: 'one_class'>
    """

    config_class = PromptADConfig
    model_class = PromptADModel

    config: PromptADConfig
    model: PromptADModel

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
        width: int = 64,
        num_heads: int = 4,
        branches: Literal["both", "abnormal", "normal"] = "both",
        cross_view: bool = True,
        interaction: bool = True,
        class_name: str | None = None,
        class_definition: str | None = None,
        defect_types: list[str] | None = None,
        k_shot: int = 0,
        few_shot_source: str | Path | None = None,
        top_fraction: float = 0.1,
        margin: float = 5.0,
        anomaly_repeats: int = 10,
        mask_supervision: bool = False,
        smoothing_sigma: float = 4.0,
        learning_rate: float = 1e-4,
        warmup_share: float = 0.05,
        epochs: int = 30,
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

    @property
    def learning_type(self) -> LearningType:
        """``ZERO_SHOT`` with an adapter, ``FEW_SHOT`` with ``k_shot`` as well, ``ONE_CLASS`` (trainable) without."""
        return LearningType.FEW_SHOT if self.zero_shot and self.config.k_shot else super().learning_type

    def describe(self) -> dict[str, str]:
        """Facts that belong beside every figure; with ``k_shot``, that it is no zero-shot figure."""
        shots = self.config.k_shot
        return super().describe() | ({"few_shot": f"{shots} normal images of the target"} if shots else {})

    def setup(self, stage: str) -> None:
        """Train in episodes of one class; for tests and predictions, look at the normal images of few-shot use."""
        super().setup(stage)
        datamodule = self.trainer.datamodule
        if stage == "fit" and isinstance(datamodule, SampledTraining):
            datamodule.train_sampler = partial(EpisodeSampler, anomaly_repeats=self.config.anomaly_repeats)
        elif stage == "fit" and datamodule is not None:
            self._warn_of_mixed_batches(datamodule)
        self.model.references = self._references() if stage in {"test", "predict"} else {}

    def _warn_of_mixed_batches(self, datamodule: Any) -> None:
        data, repeats = datamodule.train_data, self.config.anomaly_repeats
        classes = data.samples.groupby(["dataset", "category"]).ngroups
        if classes > 1 or (repeats > 1 and data.synthetic_seed is None):
            name = type(datamodule).__name__
            logger.warning(
                "%s does not train in episodes: batches are drawn from all of its %d classes, and an anomalous image "
                "is shown once an epoch, not anomaly_repeats=%d times. For episodes: --data ZeroShot --data.source %s.",
                name,
                classes,
                repeats,
                name,
            )

    def configure_callbacks(self) -> list[Callback]:
        """With what ends the episodes."""
        return [*super().configure_callbacks(), EndOfEpisodes()]

    def prompt_words(self, batch: ImageBatch) -> dict[str, Any]:
        """Class words and categories of the images; nothing of a target whose class the config names."""
        target = not isinstance(batch, AuxiliaryBatch)
        if target and self.config.class_name is not None:
            return {}
        return {
            "class_names": class_names_of(batch, getattr(self.trainer, "datamodule", None)),
            "described": target,
            "categories": getattr(batch, "category", None),
        }

    def _references(self) -> dict[str | None, Tensor]:
        """Embeddings of the few-shot images by category; ``None`` stands for every category that has none of its own.

        Raises:
            ValueError: If there are no such images, or the images of several classes for the one that is named.
        """
        config = self.config
        if not config.k_shot:
            return {}
        if config.few_shot_source is not None:
            return {None: self._embed(images_in_folder(config.few_shot_source, config.k_shot))}
        datamodule = getattr(self._trainer, "datamodule", None)
        if datamodule is None:
            msg = f"k_shot={config.k_shot} needs normal images: give their folder as few_shot_source."
            raise ValueError(msg)
        found = normal_images(datamodule, config.k_shot)
        if config.class_name is not None and len(found) > 1:
            msg = (
                f"class_name={config.class_name!r} names one class, but the data has {', '.join(found)}. With k_shot, "
                "leave it out or test one class."
            )
            raise ValueError(msg)
        references: dict[str | None, Tensor] = {name: self._embed(images) for name, images in found.items()}
        return references | {None: next(iter(references.values()))} if len(references) == 1 else references

    def _embed(self, images: Iterable[Tensor]) -> Tensor:
        return self.model.embed(self.pre_processor(image[None])[0] if self.pre_processor else image for image in images)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with a learning rate that rises linearly over the first steps and stays."""
        optimizer = AdamW(self.model.parameters(), lr=self.config.learning_rate)
        steps = self.trainer.estimated_stepping_batches
        if math.isinf(steps):  # time is the limit, or none
            steps = self.config.epochs * self.steps_per_epoch
        warmup = max(1.0, self.config.warmup_share * steps)
        schedule = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def to_torch(self, *args, **kwargs) -> Path:
        """Export for anomalib's ``TorchInferencer``, few-shot images included."""
        self._prepare_export()
        return super().to_torch(*args, **kwargs)

    def to_onnx(self, *args, **kwargs) -> Path:  # type: ignore[override]
        """Export to ONNX, which ``to_openvino`` starts with, too; few-shot images included."""
        self._prepare_export()
        return super().to_onnx(*args, **kwargs)

    def _prepare_export(self) -> None:
        """A graph is made for the class that the config describes, and has its text as a constant."""
        self.model.texts([None])
        if self.config.k_shot and None not in self.model.references:
            if self.config.few_shot_source is None:
                msg = "An export with k_shot needs normal images of its class: give their folder as few_shot_source."
                raise ValueError(msg)
            self.model.references = self._references()
