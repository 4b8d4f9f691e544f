# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""Sentences about generated pictures, and the few tokens that they are made of."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from anomalib_zsad.clip.tokenizer import EOT, SOS, word_ids
from anomalib_zsad.data.surfaces import CLASSES, DEFECTS
from anomalib_zsad.data.surfaces.catalogue import DEFECT_CAPTIONS, NORMAL_CAPTIONS

NORMAL_STATES = (
    "flawless {}", "perfect {}", "unblemished {}", "normal {}", "good {}", "intact {}", "undamaged {}",
    "{} without flaw", "{} without defect", "{} without damage", "{} without anomaly",
)  # fmt: skip
ANOMALOUS_STATES = (
    "damaged {}", "defective {}", "broken {}", "abnormal {}", "anomalous {}", "imperfect {}", "flawed {}", "bad {}",
    "{} with flaw", "{} with defect", "{} with damage", "{} with anomaly",
)  # fmt: skip
PHOTOS = (
    "{}", "a {}", "a photo of a {}", "a photo of the {}", "a close-up photo of a {}", "a cropped photo of the {}",
    "an image of a {}", "this is a photo of a {}", "a photo of the {} for visual inspection",
    "there is a {} in the scene",
)  # fmt: skip
ANYTHING = ("object", "surface", "part", "item", "material", "product", "texture")
"""Words for a thing that has no better one."""

UNKNOWN = "<unknown>"
"""Stands for a token that no sentence has; it is written in place of a class word."""


class Vocabulary:
    """The tokens that occur in any sentence, counted from 1; 0 is every other token.

    The token table of CLIP has 49,408 rows. Training uses a few hundred; all others share one row, which sentences with
    an unknown word train.

    Attributes:
        ids (list[int]): CLIP's numbers of the tokens, ascending.
    """

    def __init__(self, sentences: Iterable[str]) -> None:
        self.ids = sorted({SOS, EOT}.union(*map(_tokens, sentences)))
        self._row = {token: row for row, token in enumerate(self.ids, start=1)}

    def __len__(self) -> int:
        """Rows of the compact table."""
        return len(self.ids) + 1

    def encode(self, sentences: Sequence[str]) -> tuple[Tensor, list[int]]:
        """Rows ``(N, L)`` of the compact table, and the position of each end of text."""
        rows = [[self._row[t] if t else 0 for t in (SOS, *_tokens(text, unknown=[0]), EOT)] for text in sentences]
        longest = max(map(len, rows))
        padded = [[*row, *[row[-1]] * (longest - len(row))] for row in rows]
        return torch.tensor(padded), [len(row) - 1 for row in rows]


def _tokens(sentence: str, unknown: Sequence[int] = ()) -> list[int]:
    tokens: list[int] = []
    for number, piece in enumerate(sentence.split(UNKNOWN)):
        tokens += [*(unknown if number else ()), *word_ids(piece)]
    return tokens


def all_sentences(classes: Sequence[str], defects: Sequence[str]) -> list[str]:
    """Everything that :class:`Writer` can write, word by word."""
    names = [*ANYTHING, *classes, *(word for name in classes for word in CLASSES[name].words)]
    faults = [word for name in defects for word in (name, DEFECTS[name].state, *DEFECTS[name].words)]
    frames = [*NORMAL_STATES, *ANOMALOUS_STATES, *PHOTOS]
    frames = [frame.format("") for frame in frames]
    frames += [frame.format(name="", noun="", state="") for frame in (*NORMAL_CAPTIONS, *DEFECT_CAPTIONS)]
    return [*names, *faults, *frames]


class Writer:
    """Writes the sentences of one step.

    Args:
        seed (str): Another seed, other sentences.
    """

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311

    def name(self, class_name: str) -> str:
        """A name for a thing: mostly its own, at times a word for anything or one that nobody knows."""
        luck = self._random.random()
        if luck < 0.25:
            return self._random.choice(ANYTHING)
        if luck < 0.35:
            return UNKNOWN
        return self.own_name(class_name)

    def own_name(self, class_name: str) -> str:
        """The class word, or another name for it."""
        return class_name if self._random.random() < 0.6 else self._random.choice(CLASSES[class_name].words)

    def states(self, class_name: str) -> tuple[str, str]:
        """A sentence for the flawless thing and one for the faulty thing, alike but for the state."""
        photo, name = self._random.choice(PHOTOS), self.name(class_name)
        normal, anomalous = self._random.choice(NORMAL_STATES), self._random.choice(ANOMALOUS_STATES)
        return photo.format(normal.format(name)), photo.format(anomalous.format(name))

    def caption(self, class_name: str, defect: str) -> str:
        """What a picture shows, by its own names; of a defect of no known kind, that it is one."""
        if defect and defect not in DEFECTS:
            state = self._random.choice(ANOMALOUS_STATES)
            return self._random.choice(PHOTOS).format(state.format(self.own_name(class_name)))
        return self._say(self.own_name(class_name), defect, self._random.randrange(len(DEFECT_CAPTIONS)))

    def kinds(self, class_name: str, defects: Sequence[str]) -> list[str]:
        """One sentence for each kind of defect, alike but for the kind."""
        name, style = self.name(class_name), self._random.randrange(len(DEFECT_CAPTIONS) + 1)
        return [self._say(name, defect, style) for defect in defects]

    def _say(self, name: str, defect: str, style: int) -> str:
        if not defect:
            return self._random.choice(NORMAL_CAPTIONS).format(name=name)
        words = DEFECTS[defect].words
        noun = words[0] if self._random.random() < 0.6 else self._random.choice(words)
        if style == len(DEFECT_CAPTIONS):
            return defect
        return DEFECT_CAPTIONS[style].format(name=name, noun=noun, state=DEFECTS[defect].state)
