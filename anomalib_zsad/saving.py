# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The files of a method that training writes and reads: adapters and checkpoints."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from anomalib_zsad.adapters import Adapter, AdapterError
from anomalib_zsad.calibration import CalibratedPostProcessor
from anomalib_zsad.clip.sources import is_path
from anomalib_zsad.preprocessing import ClipPreProcessor
from anomalib_zsad.resuming import random_states, restore_random_states

if TYPE_CHECKING:
    from anomalib.models.components import AnomalibModule

    from anomalib_zsad.models.base import MethodConfig, MethodModel

    Base = AnomalibModule
else:
    Base = object

logger = logging.getLogger(__name__)


class ZeroShotFiles(Base):
    """The part of :class:`~anomalib_zsad.zero_shot.ZeroShotMixin` that keeps what was learned in files."""

    config_class: ClassVar[type[MethodConfig]]
    config: MethodConfig
    model: MethodModel
    zero_shot: bool
    trainer: Any
    origin: dict[str, Any]
    """How the learned tensors came about: auxiliary data, protocol, seed, epochs."""

    _engine_verbs = 0  # of anomalib's engine, train and test for two, that this model has been through or is in
    _went_on_from: tuple[int, str | Path | None] = 0, None  # the verb of the latest training, and its checkpoint
    _expected_clip: dict[str, Any]  # of the CLIP that the learned tensors belong to; empty before they are learned

    # ---- adapters ------------------------------------------------------------------------------------------------

    @classmethod
    def load_adapter(cls, path: str | Path) -> Adapter:
        """Read an adapter file, or a checkpoint that the method's authors released (``.pth``, ``.pt``).

        Raises:
            AdapterError: If it is neither, or has values that the method does not take.
        """
        suffix = Path(path).suffix
        if suffix in {".pth", ".pt"}:
            return cls.convert(path)
        if suffix == ".ckpt":
            msg = (
                f"{path} is a checkpoint of a training, and weights takes the adapter that the training wrote to "
                "<results>/weights/adapter/ (.safetensors). The checkpoint itself is given as --ckpt_path."
            )
            raise AdapterError(msg)
        adapter = Adapter.load(path, cls.__name__)
        try:
            cls.config_class.resolve(adapter.config)
            CalibratedPostProcessor().load_statistics(adapter.calibration)
        except ValueError as error:
            msg = f"{path} has values that {cls.__name__} does not take ({error}). Update anomalib-zsad or train again."
            raise AdapterError(msg) from error
        return adapter

    @classmethod
    def convert(cls, path: str | Path) -> Adapter:
        """Turn a released checkpoint into an adapter. Methods with published weights override this.

        Raises:
            AdapterError: If there are none, or the file is not one of them.
        """
        msg = f"{path}: no released checkpoints of {cls.__name__} exist; its adapters are .safetensors files."
        raise AdapterError(msg)

    def on_fit_end(self) -> None:
        """Write the adapter beside the checkpoints."""
        self._went_on_from = self._engine_verbs, self.trainer.ckpt_path
        self.origin["epochs"] = self.trainer.current_epoch
        self._write_adapter()

    def _write_adapter(self) -> None:
        if not self.trainer.is_global_zero or self.trainer.fast_dev_run:
            return
        folder = Path(self.trainer.default_root_dir) / "weights" / "adapter"
        path = self.save_adapter(folder / f"{type(self).__name__.lower()}.safetensors")
        logger.info("Adapter written to %s", path)
        if isinstance(self.post_processor, CalibratedPostProcessor) and not self.post_processor.statistics():
            logger.warning("It has no calibration, as there was no validation: scores will be compared with a raw 0.5.")

    def save_adapter(self, path: str | Path) -> Path:
        """Write what was learned, the calibration and where both come from. ``--model.weights`` reads it."""
        config = self.config.model_dump(exclude={"cache", "cache_dir"})
        if config["pretrained"] and is_path(config["pretrained"]):
            config["pretrained"] = None  # a file of this machine; the hash tells which weights it held
        processor = self.post_processor
        return Adapter(
            method=type(self).__name__,
            config=config,
            tensors=self.model.state_dict(),
            calibration=processor.statistics() if isinstance(processor, CalibratedPostProcessor) else {},
            clip=self.model.load_clip().facts(),
            origin=self.origin,
        ).save(path)

    # ---- checkpoints ---------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember which CLIP the learned tensors belong to; keep the optimiser's running means in 16 bits.

        The means (Adam's two are twice the size of what is learned) become bfloat16 in the file, and 32 bits again when
        training resumes.
        """
        super().on_save_checkpoint(checkpoint)
        for optimizer in checkpoint.get("optimizer_states", ()):
            optimizer["state"] = {key: _halved(state) for key, state in optimizer["state"].items()}
        checkpoint["anomalib_zsad"] = {
            "method": type(self).__name__,
            "zero_shot": self.zero_shot,
            "clip": self.model.load_clip().facts(),
            "origin": self.origin,
            "random": random_states(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another method, of other sizes, or one that was trained on another CLIP.

        Raises:
            AdapterError: Saying what the checkpoint is of, and how to get a model that it fits.
        """
        super().on_load_checkpoint(checkpoint)
        trainer = self._trainer  # none when only the model is wanted
        if trainer is not None and trainer.state.fn == TrainerFn.TESTING:
            # `anomalib train --ckpt_path` hands it to the test that follows, too, which would be of the older values.
            verb, path = self._went_on_from
            if path is not None and verb == self._engine_verbs > 0 and str(trainer.ckpt_path) == str(path):
                logger.info("Testing what was trained, not %s, from which the training went on.", path)
                checkpoint["state_dict"] = self.state_dict()
                return
        facts = checkpoint.get("anomalib_zsad")
        if facts is None or facts["method"] != type(self).__name__:
            owner = (facts or {}).get("method", "another model")
            msg = f"This is not a checkpoint of {type(self).__name__}, but of {owner}."
            raise AdapterError(msg)
        self._check_sizes(checkpoint.get("hyper_parameters", {}))
        if isinstance(self.pre_processor, ClipPreProcessor):  # load_from_checkpoint() may have been given another size
            self.pre_processor.transform = ClipPreProcessor(self.config.image_size or 0).transform
        self.zero_shot = facts["zero_shot"]
        self._expected_clip, self.origin = facts["clip"], facts["origin"]
        if self.model.clip is not None:
            self._check_clip()
        if "random" in facts and trainer and trainer.state.fn == TrainerFn.FITTING and trainer.world_size == 1:
            restore_random_states(facts["random"])

    def _check_sizes(self, trained: Mapping[str, Any]) -> None:
        """Compare what shapes the learned tensors: some of it, such as ``top_k``, their shapes do not tell."""
        given = self.config.model_dump(include=set(self.config.fixed_by_adapter | {"image_size"}))
        different = [name for name, value in given.items() if trained.get(name, value) != value]
        if different:
            there, here = (", ".join(f"{name}={of[name]!r}" for name in different) for of in (trained, given))
            options = " ".join(f"--model.{name} {_as_option(trained[name])}" for name in different)
            msg = f"The checkpoint was trained with {there}, but the model has {here}. Give it the former: {options}"
            raise AdapterError(msg)

    def _check_clip(self) -> None:
        clip, expected = self.model.load_clip(), self._expected_clip
        if expected and expected["sha256"] != clip.sha256():
            msg = (
                f"These weights were trained on the CLIP {expected['name']} (sha256 {expected['sha256'][:12]}...), "
                f"but {clip.name} was loaded (sha256 {clip.sha256()[:12]}...). Point --model.backbone and "
                f"--model.pretrained at the CLIP of the training."
            )
            raise AdapterError(msg)


def _as_option(value: Any) -> str:
    """A value of a config as the command line takes it."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _halved(state: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with tensors in bfloat16; scalars, such as Adam's step, stay as they are."""
    return {
        name: value.bfloat16() if isinstance(value, Tensor) and value.ndim > 0 else value
        for name, value in state.items()
    }
