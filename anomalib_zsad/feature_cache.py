# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Training from kept image features: the frozen image tower sees every picture once.

What the tower gives for a picture is kept as one table of half precision, in memory or as a NumPy file. Its name is the
hash of the picture *as the tower gets it*, resized and normalised; its folder is named by all else that the values
depend on. So a picture that was augmented, resized otherwise or given a synthetic anomaly finds nothing that is not its
own, nor do another backbone or other taps. Half precision is float16, which rounds eight times finer than bfloat16; a
training whose features leave its range (65504) stops with a message.

Pictures that were just seen are rounded, too: a training gives the same whether its cache was empty or full.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from lightning.pytorch import Callback
from torch import Tensor

from anomalib_zsad import __version__
from anomalib_zsad.clip.sources import home
from anomalib_zsad.clip.vision import VisionOutput
from anomalib_zsad.requirements import explained

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from anomalib_zsad.models.base import MethodModel

logger = logging.getLogger(__name__)

ABANDONED_SECONDS = 3600
"""Age at which a half-written file belongs to nobody any more; writing one takes a fraction of a second."""


class Store(Protocol):
    """Where tables are kept: a ``dict``, or a :class:`Folder`."""

    def get(self, key: str) -> np.ndarray | None:
        """The table, if there is one."""

    def __setitem__(self, key: str, table: np.ndarray) -> None:
        """Keep a table."""

    def __len__(self) -> int:
        """How many are kept."""


class Folder:
    """Tables on disk, each in a NumPy file of its own that is either whole or not there.

    A file is written under another name, flushed to the disk and then renamed: nothing can be seen of it before. So any
    number of processes may use a folder, and any of them may be killed. Deleting the folder loses only time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        for part in path.glob("*.part"):
            with suppress(FileNotFoundError):  # finished, or removed by another process
                if time.time() - part.stat().st_mtime > ABANDONED_SECONDS:
                    part.unlink()

    def get(self, key: str) -> np.ndarray | None:
        """The table, mapped into memory, if there is one and its file is whole."""
        try:
            return np.load(self.path / f"{key}.npy", mmap_mode="c")
        except (FileNotFoundError, ValueError, EOFError):
            return None

    def __setitem__(self, key: str, table: np.ndarray) -> None:
        part = self.path / f"{uuid.uuid4().hex}.part"
        try:
            with part.open("xb") as file:
                np.save(file, table)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path / f"{key}.npy")
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def __len__(self) -> int:
        return sum(1 for _ in self.path.glob("*.npy"))


class FeatureCache:
    """The image tower, as far as it has not seen a picture before.

    Args:
        store (Store): Where tables are kept.
        sections (list[int]): Rows of a table, one for the class token and ``L`` for every tap.
        budget (int): How many tables may be added. Pictures that are augmented at random would add more without end.

    Attributes:
        hits (int): How many pictures of the last batch were known.
    """

    def __init__(self, store: Store, sections: list[int], budget: int) -> None:
        self.store = store
        self.sections = sections
        self.budget = budget
        self.hits = 0

    @torch.inference_mode(mode=False)  # what validation keeps, training takes part in gradients with
    @torch.no_grad()
    def __call__(self, look: Callable[[Tensor], VisionOutput], images: Tensor) -> VisionOutput:
        """What ``look`` gives for ``images`` ``(B, 3, H, W)``, rounded to half precision; run for unknown ones only.

        Raises:
            OverflowError: If the features do not fit half precision.
        """
        keys = [hashlib.sha256(image.numpy().data).hexdigest() for image in images.float().cpu().contiguous()]
        tables = {key: self.store.get(key) for key in keys}
        self.hits = sum(tables[key] is not None for key in keys)
        unknown = {key: index for index, key in enumerate(keys) if tables[key] is None}
        if unknown:
            seen = look(images[list(unknown.values())])
            rows = torch.cat([seen.cls[:, None], *seen.patches], dim=1)
            half = rows.half().cpu()
            if not half.isfinite().all():
                msg = (
                    f"Image features of up to {rows.abs().max():.3g} do not fit half precision, in which they would be "
                    "kept. Train with cache='none'."
                )
                raise OverflowError(msg)
            for key, table in zip(unknown, half.numpy(), strict=True):
                tables[key] = table
                self._keep(key, table)
        stacked = torch.stack([torch.from_numpy(tables[key]) for key in keys]).to(images)
        cls, *patches = stacked.split(self.sections, dim=1)
        return VisionOutput(cls[:, 0], tuple(patches))

    def _keep(self, key: str, table: np.ndarray) -> None:
        if self.budget <= 0:
            return
        self.budget -= 1
        try:
            self.store[key] = table
        except OSError as error:
            self.budget = 0
            logger.warning(
                "Feature cache: no more images are kept, and training goes on: writing failed (%s). Is the disk full?",
                error,
            )


class FeatureCaching(Callback):
    """Gives a model its :class:`FeatureCache` for the length of a training, the calibration included.

    Tests, predictions and exports know nothing of it.
    """

    _epochs = 0
    _hits = 0

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Say what the cache will need and attach it.

        Raises:
            OSError: If the disk has not enough room.
            MemoryError: If the memory has not.
        """
        data = trainer.datamodule  # type: ignore[attr-defined]
        if data is None:  # the first training step says what is wrong with that
            return
        images = sum(len(part) for part in (data.train_data, data.val_data) if part is not None)
        pl_module.model.cache = open_cache(
            pl_module.model, images, precision=trainer.precision, processes=trainer.num_devices
        )
        self._epochs = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Count epochs, and hits anew."""
        del trainer, pl_module  # These variables are not used.
        self._epochs += 1
        self._hits = 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args, **kwargs) -> None:
        """Count the pictures of training, not those of calibration, that were known."""
        del trainer, args, kwargs  # These variables are not used.
        self._hits += pl_module.model.cache.hits

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Say once that a cache is of no use."""
        del trainer, pl_module  # These variables are not used.
        if self._epochs == 2 and self._hits == 0:
            logger.warning(
                "Feature cache: no picture of the second epoch was the same as one of the first, so nothing was saved. "
                "Do train_augmentations change pictures at random? Then train with cache='none'."
            )

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Take the cache away."""
        del trainer, stage  # These variables are not used.
        pl_module.model.cache = None

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Take the cache away, as there is no teardown."""
        del trainer, exception  # These variables are not used.
        pl_module.model.cache = None


def open_cache(model: MethodModel, images: int, *, precision: str = "32-true", processes: int = 1) -> FeatureCache:
    """Make the cache that a model's config asks for, and check that there is room before anything is written.

    Args:
        model (MethodModel): A model whose image tower learns nothing.
        images (int): How many there are, those of the calibration included.
        precision (str): Lightning's name for what the tower computes in.
        processes (int): How many processes of this machine train; each needs memory of its own.

    Raises:
        OSError: If the disk has not enough room.
        MemoryError: If the memory has not.
    """
    on_disk, folder = model.config.cache == "disk", model.config.cache_dir
    clip = model.load_clip()
    sections = [1, *[clip.visual.grid**2] * len(model.view["taps"])]
    size = sum(sections) * clip.config.vision.width * 2
    store: Store = {}
    if on_disk:
        path = (Path(folder).expanduser() if folder else home() / "features") / _name(model, precision)
        store = Folder(path)
        place, free, advice = str(path), shutil.disk_usage(path).free, "point cache_dir at another disk"
    else:
        with explained():
            import psutil

        place, free, advice = "memory", psutil.virtual_memory().available, "keep them on disk (cache='disk')"
        size *= processes
    known = len(store)  # possibly of other pictures; then the disk may fill up, which ends the keeping
    missing = max(0, images - known)
    logger.info(
        "Feature cache: %d images x %s = %s in %s, where %s are free and %d images already there.",
        images, _bytes(size), _bytes(images * size), place, _bytes(free), known,
    )  # fmt: skip
    if missing * size > free:
        msg = (
            f"The features of {missing} images need {_bytes(missing * size)} ({_bytes(size)} each), but only "
            f"{_bytes(free)} are free in {place}. Make room, {advice}, or train without (cache='none')."
        )
        raise (OSError if on_disk else MemoryError)(msg)
    return FeatureCache(store, sections, budget=images)


def _name(model: MethodModel, precision: str) -> str:
    """Name of a folder: backbone, image size, and a hash of all that the features of a given picture depend on."""
    clip = model.load_clip()
    facts = {
        "version": __version__,
        "clip": clip.sha256(),
        "activation": clip.activation,
        "positions": model.positions,
        "image_size": clip.image_size,
        "precision": precision,
        "view": model.view,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"{model.config.backbone}-{clip.image_size}-{digest[:16]}"


def _bytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
