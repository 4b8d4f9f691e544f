# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Real images to measure on, in the plainest layout: a folder with an ``index.csv``."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image


class Photographs:
    """The images of a folder whose ``index.csv`` has the columns ``image,label,mask,split,type``.

    Paths are relative to the folder, label ``1`` is anomalous, a missing mask is empty. The ``train`` split is left
    out.

    Args:
        folder (Path): The folder.
        most (int | None): Take no more than so many, evenly spread over the index.

    Attributes:
        folder (Path): The folder.
        total (int): How many there are.
        paths (list[Path]): Images that were taken.
        labels (np.ndarray): ``(N,)``, true where anomalous.
        masked (bool): Whether any of them has a mask.

    Raises:
        ValueError: If there are none.
    """

    def __init__(self, folder: Path, most: int | None = None) -> None:
        index = folder / "index.csv"
        if not index.is_file():
            msg = f"{folder} has no index.csv (columns image,label,mask,split,type; paths relative to the folder)."
            raise ValueError(msg)
        with index.open(encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] != "train"]
        if not rows:
            msg = f"{index} lists no images outside its train split."
            raise ValueError(msg)
        self.folder, self.total = folder, len(rows)
        step = 1 if most is None else max(1, len(rows) / most)
        rows = [rows[int(place)] for place in np.arange(0, len(rows), step)]
        self.paths = [folder / row["image"] for row in rows]
        self.labels = np.array([row["label"] == "1" for row in rows])
        self._masks = [folder / row["mask"] if row["mask"] else None for row in rows]
        self.masked = any(self._masks)

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
        with Image.open(path) as mask:
            return np.asarray(mask.convert("L").resize((side, side), Image.Resampling.NEAREST)) > 127
