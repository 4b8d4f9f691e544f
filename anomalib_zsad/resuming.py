# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Checkpoints that survive a kill, and with which training goes on as if there had been none.

A training resumed at the end of an epoch (``--ckpt_path .../weights/lightning/model.ckpt``) sees the same images in the
same order, with the same augmentations, as the interrupted one would have: the checkpoint holds the states of the
random generators. What differs is rounding: the optimiser's running means are kept in bfloat16. With several processes
each would need states of its own; there only the order of the images is resumed.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins.io import CheckpointIO, TorchCheckpointIO

from anomalib_zsad.files import whole


class WholeCheckpointIO(CheckpointIO):
    """Let another writer make a file beside the checkpoint, and put it in its place when it is whole.

    Lightning writes into the folder for temporary files and moves the result. Where that folder is another file system
    (``/tmp`` in memory), moving is copying, and a kill or a full disk in the middle of it destroys the only checkpoint.

    Args:
        inner (CheckpointIO): Writes and reads.
    """

    def __init__(self, inner: CheckpointIO) -> None:
        self.inner = inner

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint, whole or not at all."""
        if "://" in str(path):  # a store that is no file system replaces objects as a whole
            self.inner.save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial:
            self.inner.save_checkpoint(checkpoint, partial, storage_options)

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint."""
        return self.inner.load_checkpoint(path, *args, **kwargs)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint."""
        self.inner.remove_checkpoint(path)


def write_whole_checkpoints(trainer: Any) -> None:
    """Make Lightning's own writer, and anomalib's, write checkpoints whole or not at all; others are left alone."""
    if isinstance(trainer.strategy.checkpoint_io, TorchCheckpointIO):
        trainer.strategy.checkpoint_io = WholeCheckpointIO(trainer.strategy.checkpoint_io)


def random_states() -> dict[str, Any]:
    """States of all random generators of this process, as tensors and plain data."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global one, which augmentations may use
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "python": random.getstate(),
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Undo what happened to the random generators since :func:`random_states`."""
    torch.set_rng_state(states["torch"].cpu())
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, np.asarray(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    version, state, gauss = states["python"]
    random.setstate((version, tuple(state), gauss))
