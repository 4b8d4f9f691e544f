# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The Lightning side that the methods share."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from anomalib import LearningType
from anomalib.data import InferenceBatch
from lightning.pytorch import LightningModule, seed_everything
from lightning.pytorch.callbacks import Callback, Timer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from anomalib_zsad.adapters import Adapter
from anomalib_zsad.calibration import CalibratedPostProcessor
from anomalib_zsad.data.auxiliary import class_names_of, use_auxiliary_data
from anomalib_zsad.data.batches import AuxiliaryBatch
from anomalib_zsad.data.reading import DeepImages
from anomalib_zsad.exporting import ZeroShotExport
from anomalib_zsad.feature_cache import FeatureCaching
from anomalib_zsad.metrics import PerClassEvaluator
from anomalib_zsad.preprocessing import ClipPreProcessor
from anomalib_zsad.resuming import write_whole_checkpoints
from anomalib_zsad.saving import ZeroShotFiles
from anomalib_zsad.visualization import ZeroShotVisualizer

if TYPE_CHECKING:
    from anomalib.data import ImageBatch
    from lightning.pytorch.utilities.types import STEP_OUTPUT
    from torch import nn

    from anomalib_zsad.data.synthetic_surfaces import SyntheticSurfaces
    from anomalib_zsad.models.base import MethodConfig, MethodModel

logger = logging.getLogger(__name__)

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
"""Precisions of Lightning's trainer that a method runs in."""


class ZeroShotMixin(ZeroShotFiles, ZeroShotExport):
    """Training on auxiliary data, zero-shot use with an adapter, and what keeps the two apart.

    A method is ``class Method(ZeroShotMixin, AnomalibModule)``: anomalib finds direct subclasses only. Without
    ``weights`` its learning type is ``ONE_CLASS``, which is what makes anomalib's engine train; with ``weights`` it is
    ``ZERO_SHOT``. Neither labels nor statistics of the target can enter: training and calibration take
    :class:`~anomalib_zsad.data.batches.AuxiliaryBatch` and nothing else.
    """

    model_class: ClassVar[type[MethodModel]]

    _generated: SyntheticSurfaces | None = None  # the data, if none were given

    # ---- construction --------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, arguments: Mapping[str, Any]) -> tuple[Any, Adapter | None]:
        """Resolve a constructor's arguments: its config and, if ``weights`` is given, the adapter."""
        weights = arguments.get("weights")
        adapter = cls.load_adapter(weights) if weights is not None else None
        fields = {name: arguments[name] for name in cls.config_class.model_fields}
        return cls.config_class.resolve(fields, adapter.config if adapter else None), adapter

    def build(self, config: MethodConfig, adapter: Adapter | None) -> None:
        """Make the torch model. Called by the method's constructor right after anomalib's."""
        if config.seed is not None:
            seed_everything(config.seed, workers=True, verbose=False)
        self.config = config
        self.zero_shot = adapter is not None
        self.model = self.model_class(config)
        self._expected_clip = dict(adapter.clip) if adapter else {}
        self.origin = dict(adapter.origin) if adapter else {}
        if adapter is not None:
            adapter.load_into(self.model)
            if adapter.calibration and isinstance(self.post_processor, CalibratedPostProcessor):
                self.post_processor.load_statistics(adapter.calibration)
        # A checkpoint must rebuild the model without the adapter file: it holds the tensors and the resolved config.
        self.hparams.update({**config.model_dump(), "weights": None})

    @staticmethod
    def components(config: MethodConfig, pre_processor: nn.Module | bool) -> nn.Module | bool:
        """The pre-processor for ``config``: anomalib configures its default one before it knows the image size."""
        size = config.image_size or config.default_image_size
        return ClipPreProcessor(size) if pre_processor is True else pre_processor

    @classmethod
    def configure_pre_processor(cls, image_size: tuple[int, int] | None = None) -> ClipPreProcessor:
        """CLIP's resize and normalisation.

        Raises:
            ValueError: If ``image_size`` is not square.
        """
        height, width = image_size or (cls.config_class.default_image_size,) * 2
        if height != width:
            msg = f"image_size={image_size}: CLIP sees squares; give the same number twice."
            raise ValueError(msg)
        return ClipPreProcessor(height)

    @staticmethod
    def configure_post_processor() -> CalibratedPostProcessor:
        """Thresholds and ranges from auxiliary data."""
        return CalibratedPostProcessor()

    @staticmethod
    def configure_evaluator() -> PerClassEvaluator:
        """Six metrics per class and their mean."""
        return PerClassEvaluator()

    @staticmethod
    def configure_visualizer() -> ZeroShotVisualizer:
        """Pictures, each class in a folder of its own."""
        return ZeroShotVisualizer()

    @property
    def learning_type(self) -> LearningType:
        """``ZERO_SHOT`` with an adapter, ``ONE_CLASS`` (trainable) without."""
        return LearningType.ZERO_SHOT if self.zero_shot else LearningType.ONE_CLASS

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """Nothing: anomalib lets these win over what a user asked for. Its engine asks at the start of each verb."""
        self._engine_verbs += 1
        return {}

    def configure_callbacks(self) -> list[Callback]:
        """What reads deep images, and what keeps image features in training if the config asks for it."""
        caching = [] if self.config.cache == "none" else [FeatureCaching()]
        return [DeepImages(), *super().configure_callbacks(), *caching]  # type: ignore[misc]

    def describe(self) -> dict[str, str]:
        """Facts that belong beside every figure."""
        clip = self.model.load_clip()
        return {
            "method": type(self).__name__,
            "backbone": clip.name,
            "image_size": str(self.config.image_size),
            **self._described_words(),
            "trained_on": self.origin.get("data", self.origin.get("released_checkpoint", "")),
            "seed": str(self.origin.get("seed", "")),
        }

    def _described_words(self) -> dict[str, str]:
        """Where class words came from, for models whose prompts carry one."""
        if not hasattr(self.config, "class_name"):
            return {}
        if self.config.class_name is not None:
            return {"class_words": self.config.class_name}
        datamodule = getattr(self._trainer, "datamodule", None)
        style = getattr(datamodule, "class_words", "folder")
        return {"class_words": getattr(datamodule, "word_style", style)}

    # ---- Lightning -----------------------------------------------------------------------------------------------

    def configure_model(self) -> None:
        """Read CLIP's weights; Lightning calls this before it moves the model to its device."""
        clip = self.model.load_clip()
        if "random" in clip.name:
            logger.warning("%s is a random tower for trying things out: scores say nothing about quality.", clip.name)
        # The frozen weights never change: nothing to synchronise between devices.
        self._ddp_params_and_buffers_to_ignore = [f"model.clip.{name}" for name, _ in clip.named_buffers()]
        self._check_clip()

    @property
    def trainer(self) -> Any:
        """The trainer this module is attached to."""
        return LightningModule.trainer.fget(self)  # type: ignore[attr-defined]

    @trainer.setter
    def trainer(self, trainer: Any) -> None:
        LightningModule.trainer.fset(self, trainer)  # type: ignore[attr-defined]
        if trainer is None:
            return
        self._default_data(trainer)
        # The last moment at which Lightning still tells "not asked for" (None) from its default of 1000 epochs.
        if trainer.state.fn != TrainerFn.FITTING or trainer.max_epochs is not None:
            return
        if trainer.max_steps == -1 and not any(isinstance(callback, Timer) for callback in trainer.callbacks):
            logger.info("No max_epochs given: training for %d epochs, the method's recipe.", self.config.epochs)
            trainer.fit_loop.max_epochs = self.config.epochs

    def _default_data(self, trainer: Any) -> None:
        """Train, and then test, on generated surfaces if no data are given at all."""
        fitting = trainer.state.fn == TrainerFn.FITTING
        loop = trainer.fit_loop if fitting else trainer.test_loop
        wanted = fitting or trainer.state.fn == TrainerFn.TESTING
        if not wanted or loop._data_source.instance is not self:  # noqa: SLF001
            return
        if fitting and self._generated is None:
            from anomalib_zsad.data.synthetic_surfaces import SyntheticSurfaces

            logger.info(
                "No data given: training on SyntheticSurfaces, generated pictures of surfaces and objects with defects."
                " Real defects teach more: --data ZeroShot --data.source Visa (or MVTecAD, or a Folder of your own)."
            )
            self._generated = SyntheticSurfaces(num_workers=min(8, os.cpu_count() or 1))
        if self._generated is not None:
            trainer._data_connector.attach_datamodule(self, self._generated)  # noqa: SLF001

    def setup(self, stage: str) -> None:
        """Make sure that training sees auxiliary data only; drop the validation that zero-shot use has no need of.

        Raises:
            ValueError: If the trainer converts the weights to half or double precision: anomalib's batches stay as they
                are, and PyTorch's message names neither.
        """
        if self.trainer.precision not in PRECISIONS:
            msg = f"precision={self.trainer.precision!r} converts weights; use one of {', '.join(PRECISIONS)}."
            raise ValueError(msg)
        if stage == "fit" and self.trainer.datamodule is not None:
            use_auxiliary_data(self.trainer.datamodule)
            self.origin = self._origin(self.trainer.datamodule)
            write_whole_checkpoints(self.trainer)
        if stage in {"test", "predict"} and self.trainer.ckpt_path is None:
            self._warn_if_untrained()
        if stage == "validate" and self.zero_shot:
            self._limit_val_batches = self.trainer.limit_val_batches
            if self.calibrated:
                logger.info("Nothing to validate: thresholds and ranges come with the adapter, not from target data.")
            elif self._has_calibration_share():
                logger.info("The weights come without calibration: calibrating on the source's calibration share.")
                return
            else:
                logger.warning(
                    "The weights come without calibration: verdicts compare raw scores with 0.5. `anomalib validate "
                    "... --data ZeroShot --data.source Visa` (or other labelled data) calibrates and writes an adapter."
                )
            self.trainer.limit_val_batches = 0

    def _warn_if_untrained(self) -> None:
        if not self.zero_shot and not self.origin:
            logger.warning(
                "This %s has not been trained: its scores say nothing. Give it what a training has written: "
                "--model.weights <results>/weights/adapter/%s.safetensors",
                type(self).__name__,
                type(self).__name__.lower(),
            )

    @property
    def calibrated(self) -> bool:
        """Whether there is nothing that auxiliary data would still have to calibrate before use."""
        processor = self.post_processor
        return self.zero_shot and not (isinstance(processor, CalibratedPostProcessor) and not processor.statistics())

    def _has_calibration_share(self) -> bool:
        from anomalib_zsad.data.zero_shot import ZeroShot

        return isinstance(self.trainer.datamodule, ZeroShot) and hasattr(self.trainer.datamodule, "val_data")

    @staticmethod
    def _origin(datamodule: Any) -> dict[str, Any]:
        from anomalib_zsad import __version__

        synthetic = getattr(datamodule.train_data, "synthetic_seed", None) is not None
        return {
            "version": __version__,
            "data": _name_of(datamodule),
            "protocol": "synthetic anomalies" if synthetic else "labelled auxiliary images",
            "images": len(datamodule.train_data),
            "seed": os.environ.get("PL_GLOBAL_SEED", "not set"),
        }

    def teardown(self, stage: str) -> None:
        """Undo what :meth:`setup` did to the trainer."""
        if stage == "validate" and self.zero_shot:
            self.trainer.limit_val_batches = self._limit_val_batches

    def on_train_batch_end(self, *args, **kwargs) -> None:
        """Have a validation, which calibrates, follow the last step, wherever in an epoch that is."""
        del args, kwargs  # These variables are not used.
        trainer = self.trainer
        last_of_epochs = trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
        if last_of_epochs or 0 <= trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True  # otherwise Lightning validates at the ends of some epochs only
        if trainer.should_stop and trainer.check_val_every_n_epoch is not None:
            trainer.check_val_every_n_epoch = 1

    def on_validation_end(self) -> None:
        """Write the adapter of weights that came without calibration and have one now."""
        if self.trainer.state.fn == TrainerFn.VALIDATING and self.zero_shot and self._has_calibration_share():
            self.origin["calibrated_on"] = _name_of(self.trainer.datamodule)
            self._write_adapter()

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        if self.trainer.train_dataloader is None:
            self.trainer.fit_loop.setup_data()
        return max(1, math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches))

    def training_step(self, batch: ImageBatch, *args, **kwargs) -> dict[str, Tensor]:
        """One step on an auxiliary batch.

        Raises:
            TypeError: If the batch is not auxiliary data.
            FloatingPointError: If the loss is not finite.
        """
        del args, kwargs  # These variables are not used.
        if not isinstance(batch, AuxiliaryBatch):
            msg = (
                f"{type(self).__name__} trains on auxiliary data only and got a {type(batch).__name__}. Pass a "
                "datamodule (ZeroShot, or any anomalib datamodule), not bare data loaders."
            )
            raise TypeError(msg)
        output = self.model(batch.image, **self.prompt_words(batch))
        losses = self.model.losses(output, batch.gt_label, batch.gt_mask, batch.has_mask)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            terms = ", ".join(f"{name} {value.item():.3g}" for name, value in losses.items())
            msg = f"Loss not finite in epoch {self.current_epoch} ({terms}); lower learning_rate, or train in 32 bit."
            raise FloatingPointError(msg)
        size = batch.batch_size
        self.log("train_loss", total.detach(), on_epoch=True, prog_bar=True, logger=True, batch_size=size)
        self.log_dict(
            {f"train_{name}": value.detach() for name, value in losses.items()},
            on_step=False, on_epoch=True, batch_size=size,
        )  # fmt: skip
        return {"loss": total}

    def prompt_words(self, batch: ImageBatch) -> dict[str, Any]:
        """What the torch model is told of a batch besides its pixels, as keyword arguments of its ``forward``.

        Methods whose prompts take more than class words, or take them from elsewhere, override this.

        Args:
            batch (ImageBatch): ``B`` images, of auxiliary data in training, of the target in use.

        Returns:
            dict[str, Any]: ``class_names``, the class word of each image, for models that read them from the data
            (``class_name=None``); nothing for others.
        """
        if getattr(self.config, "class_name", "") is not None:
            return {}
        return {"class_names": class_names_of(batch, getattr(self.trainer, "datamodule", None))}

    def forward(self, batch: Tensor, *args, **kwargs) -> InferenceBatch:
        """From pixels to calibrated predictions, as an exported model computes them.

        A method may return a named tuple with more fields than anomalib's ``InferenceBatch``. They pass by the
        post-processor and become outputs of the exported model. anomalib's own inferencers know its four fields only.

        Args:
            batch (Tensor): ``(B, 3, H, W)`` in [0, 1], any size.
            *args: Not used.
            **kwargs: Not used.
        """
        del args, kwargs  # These variables are not used.
        predictions = self.model(batch if self.pre_processor is None else self.pre_processor(batch))
        if self.post_processor is None:
            return predictions
        return predictions._replace(**self.post_processor(predictions)._asdict())

    def _exactly(self, batch: ImageBatch) -> STEP_OUTPUT:
        with torch.autocast(self.device.type, enabled=False):  # in half precision most scores of a map would tie
            return self._infer(batch)

    def _infer(self, batch: ImageBatch) -> STEP_OUTPUT:
        predictions = self.model(batch.image, **self.prompt_words(batch))._asdict()
        extra = {name: value for name, value in predictions.items() if name not in InferenceBatch._fields}
        if extra:
            batch.extra_maps = extra  # type: ignore[attr-defined]
        return batch.update(**predictions)

    def validation_step(self, batch: ImageBatch, *args, **kwargs) -> STEP_OUTPUT:
        """Predict a batch of the calibration share."""
        del args, kwargs  # These variables are not used.
        return self._exactly(batch)

    def test_step(self, batch: ImageBatch, *args, **kwargs) -> STEP_OUTPUT:  # type: ignore[override]
        """Predict a batch of the target."""
        del args, kwargs  # These variables are not used.
        return self._exactly(batch)

    def predict_step(self, batch: ImageBatch, *args, **kwargs) -> STEP_OUTPUT:  # type: ignore[override]
        """Predict a batch of photographs."""
        del args, kwargs  # These variables are not used.
        return self._exactly(batch)


def _name_of(datamodule: Any) -> str:
    return "/".join(filter(None, [datamodule.name, datamodule.category]))
