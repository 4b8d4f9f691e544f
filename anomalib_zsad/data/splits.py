# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""Seeded choices among labelled images.

Each class draws from a stream of its own, seeded by its name: leaving another class out does not change its choice.
"""

from __future__ import annotations

import zlib

import numpy as np
from pandas import DataFrame


def limit(
    samples: DataFrame,
    *,
    max_images: int | None = None,
    max_anomalies: int | None = None,
    one_defect_type: bool = False,
    seed: int = 0,
) -> list[int]:
    """Choose at most so many images of each class.

    The anomalies are limited first. If there are still too many images, normal and anomalous ones are cut in
    proportion, and at least one of each stays where two images are allowed.

    Args:
        samples (DataFrame): Columns ``dataset``, ``category``, ``label_index`` and, for ``one_defect_type``,
            ``defect_type``.
        max_images (int | None): Most images of a class. Defaults to ``None``, no limit.
        max_anomalies (int | None): Most anomalous images of a class. Defaults to ``None``, no limit.
        one_defect_type (bool): Take the anomalous images of a class from one of its kinds of defect, any of those with
            ``max_anomalies`` images, or of all if none has as many. Defaults to ``False``.
        seed (int): Seed of the choice. Defaults to ``0``.

    Returns:
        list[int]: Row numbers, ascending.
    """
    chosen: list[int] = []
    for key, rows in _groups(samples, ["dataset", "category"]):
        anomalous = samples.label_index.to_numpy()[rows] == 1
        generator = _generator(seed, "limit", *key)
        normals, anomalies = (generator.permutation(rows[flags]) for flags in (~anomalous, anomalous))
        if one_defect_type and len(anomalies):
            kinds = samples.defect_type.to_numpy(str)[anomalies]
            names, counts = np.unique(kinds, return_counts=True)
            enough = names[counts >= (max_anomalies or 1)]
            anomalies = anomalies[kinds == generator.choice(enough if len(enough) else names)]
        anomalies = anomalies[:max_anomalies]
        total = len(normals) + len(anomalies)
        if max_images is not None and total > max_images:
            fewest = min(1, len(anomalies))
            most = max(fewest, max_images - min(1, len(normals)))
            keep = min(max(round(max_images * len(anomalies) / total), fewest), most)
            anomalies = anomalies[:keep]
            normals = normals[: max_images - keep]
        chosen += [*normals.tolist(), *anomalies.tolist()]
    return sorted(chosen)


def hold_out(samples: DataFrame, ratio: float, seed: int = 0) -> tuple[list[int], list[int]]:
    """Split rows in two, stratified by class and label.

    Of every stratum with two or more images at least one is held out and at least one is kept; a single image is kept.
    Where no class has two images of a label, the labels alone are the strata.

    Args:
        samples (DataFrame): Columns ``dataset``, ``category`` and ``label_index``.
        ratio (float): Share to hold out, in (0, 1).
        seed (int): Seed of the choice. Defaults to ``0``.

    Returns:
        tuple[list[int], list[int]]: Row numbers kept and held out, ascending.
    """
    held: list[int] = []
    for columns in (["dataset", "category", "label_index"], ["label_index"]):
        for key, rows in _groups(samples, columns):
            shuffled = _generator(seed, "hold out", *key).permutation(rows).tolist()
            held += shuffled[: min(max(1, round(ratio * len(rows))), len(rows) - 1)]
        if held:
            break
    return sorted({*range(len(samples))} - {*held}), sorted(held)


def _groups(samples: DataFrame, columns: list[str]) -> list[tuple[tuple, np.ndarray]]:
    found = samples.groupby(columns, sort=False).indices.items()
    return sorted((key if isinstance(key, tuple) else (key,), rows) for key, rows in found)


def _generator(seed: int, *key: object) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32("\0".join(map(str, key)).encode())])
