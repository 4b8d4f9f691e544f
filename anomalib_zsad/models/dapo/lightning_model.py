# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""DAPO as an anomalib model."""

import logging
import warnings
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, cast

import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.models.components import AnomalibModule
from anomalib.visualization import Visualizer
from lightning.pytorch.trainer.states import TrainerFn
from pandas import DataFrame
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from anomalib_zsad.data.batches import AuxiliaryBatch
from anomalib_zsad.data.defect_tables import number_of, table_of, words_in, words_of
from anomalib_zsad.models.base import document
from anomalib_zsad.models.dapo.batches import DefectTypeBatch
from anomalib_zsad.models.dapo.config import DAPOConfig
from anomalib_zsad.models.dapo.evaluator import DefectTypeEvaluator
from anomalib_zsad.models.dapo.torch_model import DAPOModel
from anomalib_zsad.visualization.defect_types import DefectTypeVisualizer, rank
from anomalib_zsad.zero_shot import ZeroShotMixin

logger = logging.getLogger(__name__)
# A reminder that our hook works beside any datamodule; it does, on purpose.
warnings.filterwarnings("ignore", message="You have overridden `on_before_batch_transfer` in `LightningModule`")


@document(DAPOConfig)
class DAPO(ZeroShotMixin, AnomalibModule):
    """Zero-shot detection that names the kind of defect (DAPO, arXiv 2512.09446).

    Context vectors shared by all defect words, tokens in every layer of both CLIP towers and a linear map for each
    tapped layer are trained on auxiliary data with defects; CLIP itself stays frozen. Without ``weights`` the model
    trains; with ``weights`` it is a zero-shot model that tests, predicts and exports, with any defect words.

    Args:
        {fields}
        weights: Adapter file of an earlier training (``.safetensors``). ``None`` starts a new model. Options at
            their default take the adapter's values, also where the default is given; the log names them.
        pre_processor: Pre-processor, or whether to use CLIP's.
        post_processor: Post-processor, or whether to use the one calibrated on auxiliary data.
        evaluator: Evaluator, or whether to compute the six metrics per class and those of the kinds of defect.
        visualizer: Visualizer, or whether to write pictures.

    Example:
        >>> model = DAPO(backbone="tiny-random", image_size=224, defect_types=["scratch", "dent"])
        >>> model.defect_types = ["missing screw"]
        >>> model.defect_types
        ['missing screw']
    """

    config_class = DAPOConfig
    model_class = DAPOModel

    config: DAPOConfig
    model: DAPOModel

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
        defect_types: list[str] | str | None = None,
        normal_word: str = "flawless",
        text_behaviour: Literal["released", "corrected"] = "corrected",
        num_prompts: int = 10,
        context_tokens: int = 5,
        text_tokens: int = 4,
        text_depth: int | None = None,
        vision_tokens: int = 4,
        vision_depth: int | None = None,
        carry: float = 0.01,
        temperature: float = 0.07,
        image_score: Literal["global", "both"] = "global",
        local_weight: float = 4.0,
        focal_gamma: float = 2.0,
        smoothing_sigma: float = 0.0,
        type_maps: bool = False,
        learning_rate: float = 1e-3,
        epochs: int = 2,
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
        self._words_from_data = self.config.defect_types is None
        self._type_ids: dict[tuple[str, str], int] = {}
        if adapter is not None and adapter.calibration:
            trained = adapter.config.get("defect_types") or words_of("MVTecAD")
            self.origin.setdefault("calibrated_defect_types", len(trained))
        self._check_calibration()

    @property
    def defect_types(self) -> list[str]:
        """Words for the kinds of defect. Assigning others takes no training and leaves the image side as it is."""
        return list(self.model.words)

    @defect_types.setter
    def defect_types(self, words: Sequence[str] | str) -> None:
        self.config = DAPOConfig.resolve({**self.config.model_dump(), "defect_types": words})
        self.model.config = self.config
        self.model.name_defects(self.config.defect_types or ())
        self.hparams.update({"defect_types": self.config.defect_types})
        self._check_calibration()

    def _check_calibration(self) -> None:
        """Warn where the level of maps, a sum of K of K + 1 probabilities, is not that of the calibration."""
        count = len(self.defect_types)
        calibrated = self.origin.get("calibrated_defect_types", count)
        if count != calibrated:
            logger.warning(
                "There are %s defect_types, and the model was calibrated with %s. The map is the sum over them, so its "
                "level depends on their number: the calibrated threshold of pixels (masks, regions) does not fit. Give "
                "one of your own (anomalib-zsad detect --pixel-threshold, Detector(pixel_threshold=...)), or train "
                "with as many words.",
                count,
                calibrated,
            )

    @staticmethod
    def configure_evaluator() -> DefectTypeEvaluator:
        """Six metrics per class, and how well kinds of defect are told apart."""
        return DefectTypeEvaluator()

    @staticmethod
    def configure_visualizer() -> DefectTypeVisualizer:
        """Pictures with one colour for each kind of defect."""
        return DefectTypeVisualizer()

    def configure_optimizers(self) -> Optimizer:
        """Adam at a constant learning rate."""
        return Adam(self.model.parameters(), lr=self.config.learning_rate, betas=(0.5, 0.999))

    # ---- words of the training data ------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Learn, before training, which kinds of defect the auxiliary data has."""
        super().setup(stage)
        datamodule = getattr(self.trainer, "datamodule", None)
        samples: DataFrame | None = getattr(getattr(datamodule, "train_data", None), "samples", None)
        if stage != "fit" or samples is None or "defect_type" not in samples:
            return
        words = words_in(samples)
        if self._words_from_data:
            tables = [table.words for name in samples.dataset.unique() if (table := table_of(name))]
            found = dict.fromkeys([*chain(*tables), *filter(None, words.values())])
            if found:
                self.defect_types = list(found)
        self._type_ids = {key: self._number(word) for key, word in words.items()}
        logger.info("Training on the defect types: %s.", ", ".join(self.defect_types))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the words of the training, if they came from its data."""
        super().on_load_checkpoint(checkpoint)
        words = checkpoint.get("hyper_parameters", {}).get("defect_types")
        resumes = self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING  # setup() has read the data
        if words and self._words_from_data and not resumes:
            self.defect_types = words
        elif not resumes:
            self._check_calibration()

    def on_validation_epoch_end(self) -> None:
        """Note how many words the calibration, which this epoch was for, is made with."""
        super().on_validation_epoch_end()
        self.origin["calibrated_defect_types"] = len(self.defect_types)

    def _number(self, word: str | None) -> int:
        """Number of a defect word, counted from 1; 0 if the kind is unknown."""
        names = self.defect_types
        number = number_of(word, names)
        if word is None or number:
            return number
        msg = (
            f"The training data has defects of type {word!r}, which is not among defect_types={names}. Add it, or "
            "leave defect_types out to train on the words of the data; they can be changed after training."
        )
        raise ValueError(msg)

    def prompt_words(self, batch: Any) -> dict[str, Any]:
        """The number of each training image's kind of defect."""
        if not isinstance(batch, AuxiliaryBatch) or not self.training:
            return {}
        keys = zip(batch.category or (), batch.defect_type or (), strict=True)
        device = self.model.vision_tokens.device
        return {"types": torch.tensor([self._type_ids.get(key, 0) for key in keys], device=device)}

    # ---- predictions ---------------------------------------------------------------------------------------------

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Make room for the kinds of defect; from here on, loop and callbacks share the batch that is returned."""
        del dataloader_idx
        used = self.trainer.testing or self.trainer.predicting
        return DefectTypeBatch.of(batch) if used and isinstance(batch, ImageBatch) else batch

    def _infer(self, batch: ImageBatch) -> Any:
        prediction = self.model.predict(cast(Tensor, batch.image))
        kept = prediction._asdict() | ({} if self.trainer.testing else {"state_grid": None})
        ranking = [
            ", ".join(f"{word} {score:.2f}" for word, score in rank(self.model.words, scores))
            for scores in prediction.type_scores.tolist()
        ]
        names = [self.model.words] * len(ranking)
        return batch.update(**kept, type_names=names, explanation=ranking)
