# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Real images to measure on, in the plainest layout: a folder with an ``index.csv``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from anomalib_zsad.data.layouts import read_csv, read_marks

_COLUMNS = ("image", "label", "mask", "split")


class Photographs:
    """The images of a folder whose ``index.csv`` has the columns ``image,label,mask,split,type``.

    Paths are relative to the folder, label ``0`` is normal and ``1`` anomalous, a missing mask is empty. The ``train``
    split is left out.

    Args:
        folder (Path): The folder.
        most (int | None): Take no more than so many, evenly spread over the index.

    Attributes:
        folder (Path): The folder.
        total (int): How many there are.
        paths (list[Path]): Images that were taken.
        labels (np.ndarray): ``(N,)``, true where anomalous.
        masked (bool): Whether all anomalous images have a mask, so that maps can be judged.

    Raises:
        ValueError: If there are none, a column is missing, a label is another one, or ``most`` is below 1.
    """

    def __init__(self, folder: Path, most: int | None = None) -> None:
        index = folder / "index.csv"
        if not index.is_file():
            msg = f"{folder} has no index.csv (columns image,label,mask,split,type; paths relative to the folder)."
            raise ValueError(msg)
        if most is not None and most < 1:
            msg = f"At least 1 image of {folder} must be taken, got {most}."
            raise ValueError(msg)
        everything = read_csv(index)
        missing = [name for name in _COLUMNS if everything and name not in everything[0]]
        if missing:
            msg = f"{index} has no column {', '.join(missing)}; it needs {', '.join(_COLUMNS)}."
            raise ValueError(msg)
        rows = [row for row in everything if row["split"] != "train"]
        if not rows:
            msg = f"{index} lists no images outside its train split."
            raise ValueError(msg)
        if unknown := sorted({row["label"] for row in rows} - {"0", "1"}):
            msg = f"{index} has the labels {', '.join(map(repr, unknown))}; expected are 0, normal, and 1, anomalous."
            raise ValueError(msg)
        self.folder, self.total = folder, len(rows)
        taken = len(rows) if most is None else min(most, len(rows))
        rows = [rows[number * len(rows) // taken] for number in range(taken)]
        self.paths = [folder / row["image"] for row in rows]
        self.labels = np.array([row["label"] == "1" for row in rows])
        self._masks = [folder / row["mask"] if row["mask"] else None for row in rows]
        anomalous = [mask for mask, label in zip(self._masks, self.labels, strict=True) if label]
        self.masked = bool(anomalous) and all(anomalous)

    def __len__(self) -> int:
        return len(self.paths)

    def __str__(self) -> str:
        some = "all" if len(self) == self.total else f"{len(self)} of"
        return f"{self.folder.name}, {some} {self.total} images"

    def mask(self, index: int, side: int) -> np.ndarray:
        """``(side, side)``, true where anomalous; nowhere if the image has no mask."""
        path = self._masks[index]
        if path is None:
            return np.zeros((side, side), bool)
        marks = Image.fromarray(np.asarray(read_marks([path]), np.uint8))
        return np.asarray(marks.resize((side, side), Image.Resampling.NEAREST)) > 0
