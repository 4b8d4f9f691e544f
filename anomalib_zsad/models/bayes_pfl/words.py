# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""What the released code knows about class names."""

from __future__ import annotations

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

SMALL_DEFECTS = frozenset({"capsules", "macaroni1", "macaroni2", "pipe_fryum", "screw", "cashew", "chewinggum"})
"""Classes whose map score is the mean of 20 instead of 2000 pixels under official rules."""

WITHOUT_MAP = frozenset({"head ct", "brain ct", "brain"})
"""Classes (HeadCT, BrainMRI, Br35H) that are scored by the text alone under official rules."""


def class_word(name: str) -> str:
    """The word for a class in a prompt.

    Example:
        >>> class_word("metal_nut"), class_word("Metal")
        ('metal nut', 'metal')
    """
    return RENAMED.get(name, name).lower()
