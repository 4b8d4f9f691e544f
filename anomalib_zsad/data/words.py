# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""From folder names to the words that a prompt can carry."""

from __future__ import annotations

import re

OBJECT = "object"
"""Class word when nothing is known about what the picture shows."""

ANOMALY = "anomaly"
"""Defect type of an anomalous image whose folder or label does not name a defect."""

_NUMBER = re.compile(r"^\d{2,}[\s_-]?(?=[^\W\d_]{3})")

_NOT_A_DEFECT = frozenset({
    "abnormal", "abnormals", "anomalies", "anomalous", "anomaly", "bad", "defect", "defective", "defects", "faulty",
    "image", "images", "img", "imgs", "ko", "ng", "nok", "test", "ungood",
})  # fmt: skip


def class_word(name: str) -> str:
    """Return what a prompt carries for a name: lower case, underscores and hyphens as spaces.

    Args:
        name (str): A name, as a user or a data set spells it.

    Returns:
        str: The word, or ``"object"`` when nothing but separators is left.

    Example:
        >>> class_word("metal_nut"), class_word("Retina-RESC"), class_word(" ")
        ('metal nut', 'retina resc', 'object')
    """
    return " ".join(re.split(r"[\s_-]+", name.lower())).strip() or OBJECT


def unnumbered(name: str) -> str:
    """Return a folder's name without the number that only sorts it: two or more digits, then a word.

    Example:
        >>> [unnumbered(name) for name in ("01Gorilla", "12_Zalika", "01", "3d_printer", "Class10", "12V")]
        ['Gorilla', 'Zalika', '01', '3d_printer', 'Class10', '12V']
    """
    return _NUMBER.sub("", name)


def category_word(category: str) -> str:
    """Return the class word for a category's folder: :func:`class_word` of the name without its number.

    Example:
        >>> category_word("01Gorilla"), category_word("metal_nut"), category_word("02")
        ('gorilla', 'metal nut', '02')
    """
    return class_word(unnumbered(category))


def defect_word(label: str) -> str:
    """Return the defect type that a folder name or label stands for.

    Names that only say *that* something is wrong (``bad``, ``abnormal``, ``NG_images``, ...) become ``"anomaly"``. A
    name with one word more than that keeps them all.

    Args:
        label (str): Folder name or label of an anomalous image.

    Returns:
        str: The cleaned label, or ``"anomaly"``.

    Example:
        >>> defect_word("broken_large"), defect_word("defective_painting"), defect_word("NG_images"), defect_word("")
        ('broken large', 'defective painting', 'anomaly', 'anomaly')
    """
    word = class_word(label) if label.strip("_- ") else ANOMALY
    return ANOMALY if _NOT_A_DEFECT.issuperset(word.split()) else word
