# Copyright (C) 2026 anomalib_zsad contributors
# SPDX-License-Identifier: Apache-2.0

"""The picture of a routing table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

INK, FAINT, PAPER = "#22262b", "#6b7280", "#f1f2f4"
SHADES = {
    "normal": LinearSegmentedColormap.from_list("normal", ["#cfe0ee", "#3a82bd", "#08306b"]),
    "anomalous": LinearSegmentedColormap.from_list("anomalous", ["#fbdcc2", "#e0721f", "#6b2003"]),
}
VALUES = ("weight", "frequency")
DPI = 150
KEY = 4.4, 0.4  # width and height of the key, in inches
FULL = 0.92  # side of the largest tile, in cells


def draw_routing(table: pd.DataFrame, title: str = "") -> Figure:
    """Draw one panel for each layer and state: experts from left to right, classes from top to bottom.

    The area of a tile is the share of images for which the expert is chosen, its shade the mean routing weight. All
    panels share one scale, which marks the weight of experts that are used evenly.

    Args:
        table (pd.DataFrame): Columns ``class``, ``layer``, ``state``, ``expert``, ``weight`` and ``frequency``, with
            the rows of a panel by class and expert, as in ``routing.csv``.
        title (str): First line of the picture.

    Returns:
        Figure: Bound to no window; its size in inches follows from the numbers of classes, layers and experts.
    """
    classes, layers, states = (list(table[name].unique()) for name in ("class", "layer", "state"))
    experts = int(table.expert.max())
    top = min(1.0, max(table.weight.max(), 2 / experts))
    cell = min(0.4, max(0.21, 6 / len(classes)), max(0.21, 14 / (len(layers) * experts)))
    wide, high = experts * cell, (_rows(classes)[-1] + 1) * cell
    left, gap, right, over, between, under = 0.35 + 0.07 * max(map(len, classes)), 0.22, 1.0, 0.85, 0.5, 1.1
    width = max(left + len(layers) * (wide + gap) + right, left + KEY[0] + 0.2, 0.5 + 0.1 * len(title))
    height = over + len(states) * high + (len(states) - 1) * between + under
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")

    def place(x: float, y: float, w: float, h: float) -> Axes:
        """Axes at inches from the upper left corner."""
        return figure.add_axes((x / width, 1 - (y + h) / height, w / width, h / height))

    figure.text(0.2 / width, 1 - 0.27 / height, _plain(title), size=11, weight="bold", color=INK, va="center")
    for row, state in enumerate(states):
        y = over + row * (high + between)
        for column, layer in enumerate(layers):
            axes = place(left + column * (wide + gap), y, wide, high)
            panel = table[(table.layer == layer) & (table.state == state)]
            weight, frequency = (panel[name].to_numpy().reshape(len(classes), experts) for name in VALUES)
            _draw_panel(axes, weight, frequency, _rows(classes), SHADES[state], top)
            axes.set_yticks(_rows(classes) + 0.5, map(_plain, classes) if column == 0 else [], size=8, color=INK)
            axes.set_title(f"layer {layer}, {state}", size=9, color=INK, loc="left", pad=4)
            axes.set_xlabel("expert" if row == len(states) - 1 else "", size=8, color=FAINT, labelpad=2)
        length = min(high, 1.6)
        _draw_scale(place(left + len(layers) * (wide + gap), y, 0.11, length), SHADES[state], top, 1 / experts, length)
    _draw_key(place(left, height - 0.55, *KEY), cell)
    return figure


def _plain(text: str) -> str:
    """A name may contain what matplotlib takes for mathematics."""
    return text.replace("$", r"\$")


def _rows(classes: list[str]) -> np.ndarray:
    """Upper edge of every class's row, in cells; their mean stands apart."""
    return np.array([number + 0.35 * (name == "mean") for number, name in enumerate(classes)])


def _tiles(x: np.ndarray, y: np.ndarray, side: np.ndarray | float) -> Any:
    """Corners ``(N, 4, 2)`` of squares around ``(x, y)``."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    centres = np.stack([np.ravel(x), np.ravel(y)], axis=-1)
    return centres[:, None] + corners * np.broadcast_to(side, np.shape(x)).reshape(-1, 1, 1)


def _draw_panel(
    axes: Axes, weight: np.ndarray, frequency: np.ndarray, rows: np.ndarray, shades: LinearSegmentedColormap, top: float
) -> None:
    experts = np.arange(weight.shape[1])
    x, y = np.meshgrid(experts + 0.5, rows + 0.5)
    axes.add_collection(PolyCollection(_tiles(x, y, FULL), facecolor=PAPER, linewidth=0))
    tiles = PolyCollection(_tiles(x, y, FULL * frequency**0.5), cmap=shades, clim=(0, top), linewidth=0)
    tiles.set_array(weight.ravel())
    axes.add_collection(tiles)
    axes.set(xlim=(0, len(experts)), ylim=(rows[-1] + 1, 0))
    axes.set_xticks(experts + 0.5, [str(expert + 1) for expert in experts], size=7, color=FAINT)
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)


def _draw_scale(axes: Axes, shades: LinearSegmentedColormap, top: float, even: float, length: float) -> None:
    axes.imshow(np.linspace(0, 1, 256)[:, None], cmap=shades, aspect="auto", origin="lower", extent=(0, 1, 0, top))
    labels = {top: f"{top:.2f}", even: f"{even:.3g} even"}
    if even / top * length > 0.12:  # inches: there is room
        labels[0] = "0"
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.set_yticks(list(labels), list(labels.values()), size=7, color=FAINT)
    axes.tick_params(length=2, color=FAINT, pad=2)
    axes.spines[:].set_visible(False)
    axes.set_title("weight", size=7, color=FAINT, loc="left", pad=7)


def _draw_key(axes: Axes, cell: float) -> None:
    """Tiles of known area, on a scale of inches."""
    axes.set(xlim=(0, KEY[0]), ylim=(0, KEY[1]))
    axes.set_axis_off()
    share = np.array([0.1, 0.5, 1.0])
    x, middle = np.array([1.75, 2.5, 3.25]), np.full(3, KEY[1] / 2)
    axes.text(0.02, KEY[1] / 2, "chosen for (share of images)", size=7, color=FAINT, va="center")
    axes.add_collection(PolyCollection(_tiles(x, middle, FULL * cell * share**0.5), facecolor=FAINT, linewidth=0))
    for where, value in zip(x, share, strict=True):
        right = where + FULL * cell * value**0.5 / 2
        axes.text(right + 0.05, KEY[1] / 2, f"{value:.0%}", size=7, color=FAINT, va="center")
