# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0
"""What the classes and defects of each data set are called in prompts, in the styles of published numbers.

===============  =====================================================================================================
``object``       every class is an "object", every defect an "anomaly": nothing of the target is told
``folder``       the name of the class's folder, cleaned (:func:`anomalib_zsad.data.words.category_word`)
a paper's name   the paper's own words, ``class_words.csv`` for classes; for defects, DAPO's
                 (:mod:`anomalib_zsad.data.defect_tables`)
===============  =====================================================================================================

Where a paper's word is not known, or it has none, the cleaned name stands for it.

Example:
    >>> from anomalib_zsad.data import ZeroShot
    >>> datamodule = ZeroShot(target="Visa", class_words=class_words("Visa", "bayes_pfl"))
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from anomalib_zsad.data.defect_tables import table_of
from anomalib_zsad.data.words import ANOMALY, OBJECT, category_word, defect_word

PAPERS = ("anomalyclip", "adaclip", "bayes_pfl", "filo")
STYLES = ("object", "folder", *PAPERS)
"""Styles of class words."""

DEFECT_STYLES = ("object", "folder", "dapo")
"""Styles of defect words."""


def check_style(style: str, styles: tuple[str, ...] = STYLES) -> str:
    """Return the style.

    Raises:
        ValueError: If there is no such style.
    """
    if style not in styles:
        msg = f"There is no style of words {style!r}; choose from {', '.join(styles)}."
        raise ValueError(msg)
    return style


def class_word_of(data_set: str, category: str, style: str = "folder") -> str:
    """Return the word for a class.

    Args:
        data_set (str): Name of its datamodule, such as ``"BTech"``.
        category (str): The class as the data set spells it.
        style (str): One of :data:`STYLES`. Defaults to ``"folder"``.

    Raises:
        ValueError: If there is no such style.

    Example:
        >>> [class_word_of("BTech", "01", style) for style in ("object", "folder", "bayes_pfl")]
        ['object', '01', 'metal1']
    """
    if check_style(style) == "object":
        return OBJECT
    return published_word(data_set, category, style) or category_word(category)


def published_word(data_set: str, category: str, paper: str) -> str | None:
    """Return a paper's word for a class; ``None`` if it has none of its own.

    Args:
        data_set (str): Name of its datamodule, such as ``"BTech"``.
        category (str): The class as the data set spells it.
        paper (str): One of :data:`PAPERS`.

    Example:
        >>> published_word("BTech", "01", "bayes_pfl"), published_word("BTech", "01", "filo")
        ('metal1', None)
    """
    return _table().get((data_set, category), {}).get(paper) or None


def class_words(data_set: str, style: str) -> dict[str, str]:
    """Return the words for all known classes of a data set, as ``ZeroShot`` takes them.

    Args:
        data_set (str): Name of its datamodule.
        style (str): One of :data:`STYLES`.

    Raises:
        ValueError: If there is no such style, or nothing is known of the data set.
    """
    categories = [category for name, category in _table() if name == data_set]
    if not categories:
        names = ", ".join(dict.fromkeys(name for name, _ in _table()))
        msg = f"No classes are known of {data_set!r}; known are those of {names}."
        raise ValueError(msg)
    return {category: class_word_of(data_set, category, style) for category in categories}


def defect_word_of(data_set: str, category: str, defect: str, style: str = "folder") -> str:
    """Return the word for a defect.

    Args:
        data_set (str): Name of its datamodule.
        category (str): The class.
        defect (str): Folder or label of the defect, as the data set spells it.
        style (str): One of :data:`DEFECT_STYLES`. Defaults to ``"folder"``.

    Raises:
        ValueError: If there is no such style.

    Example:
        >>> [defect_word_of("MVTecAD", "cable", "cable_swap", style) for style in DEFECT_STYLES]
        ['anomaly', 'cable swap', 'misplaced']
    """
    if check_style(style, DEFECT_STYLES) == "object":
        return ANOMALY
    word = defect_word(defect)
    table = table_of(data_set) if style == "dapo" else None
    return (table.word(word, category) if table else None) or word


def describe(data_set: str, style: str) -> str:
    """Say in a line which words were used, to be printed with results.

    Example:
        >>> describe("BTech", "bayes_pfl")
        'class words of BTech (bayes_pfl): 01 = metal1, 02 = wood, 03 = metal2'
    """
    pairs = ", ".join(f"{category} = {word}" for category, word in class_words(data_set, style).items())
    return f"class words of {data_set} ({style}): {pairs}"


@cache
def _table() -> dict[tuple[str, str], dict[str, str]]:
    with Path(__file__).with_name("class_words.csv").open(encoding="utf-8", newline="") as file:
        return {(row.pop("set"), row.pop("class")): row for row in csv.DictReader(file)}
