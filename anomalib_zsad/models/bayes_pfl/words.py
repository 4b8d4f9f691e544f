# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What the released code knows about class names."""

from __future__ import annotations

from torch import Tensor

from anomalib_zsad.data.word_styles import published_word
from anomalib_zsad.data.words import category_word
from anomalib_zsad.functional import minmax

RENAMED = {
    "macaroni1": "macaroni",
    "macaroni2": "macaroni",
    "pcb1": "printed circuit board",
    "pcb2": "printed circuit board",
    "pcb3": "printed circuit board",
    "pcb4": "printed circuit board",
    "pipe_fryum": "pipe fryum",
    "chewinggum": "chewing gum",
    "metal_nut": "metal nut",
}
"""Data set names that read badly in a prompt."""

SMALL_DEFECTS = frozenset({
    "capsules", "macaroni1", "macaroni2", "pipe_fryum", "screw", "cashew", "chewinggum",
})  # fmt: skip
"""Classes, of any data set, whose map score is the mean of 20 instead of 2000 pixels under official rules."""

WITHOUT_MAP = frozenset({"HeadCT", "BrainMRI", "Br35H"})
"""Data sets that are scored by the text alone under official rules."""


def class_word(name: str) -> str:
    """The word for a class in a prompt.

    Example:
        >>> class_word("metal_nut"), class_word("Metal")
        ('metal nut', 'metal')
    """
    return RENAMED.get(name, name).lower()


def official_word(data_set: str, category: str, given: str) -> str:
    """The word of the released evaluation for a class, unless a user chose another.

    A class that the table of published words lacks is called as its data set calls it, underscores and all.

    Args:
        data_set (str): Name of its datamodule, such as ``"BTech"``.
        category (str): The class as the data set spells it.
        given (str): Its class word in the data.

    Example:
        >>> official_word("BrainMRI", "brain_mri", "brain mri"), official_word("MPDD", "metal_plate", "metal plate")
        ('brain ct', 'metal_plate')
        >>> official_word("BTech", "01", "washer")
        'washer'
    """
    if given != category_word(category):
        return given
    return published_word(data_set, category, "bayes_pfl") or category


def official_scores(text: Tensor, maps: Tensor) -> Tensor:
    """Image scores of the released evaluation, for all test images of one class at once.

    Args:
        text (Tensor): ``(N,)`` text scores.
        maps (Tensor): ``(N,)`` map scores.

    Returns:
        Tensor: ``(N,)`` in [0, 1]. It depends on the whole set, so it exists for a test set and not for an image.
    """
    return 0.5 * minmax(text, eps=1e-8) + 0.5 * minmax(maps, eps=1e-8)
