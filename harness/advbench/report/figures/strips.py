"""Figures of images side by side: attacks, reconstructions, and attacked images after defenses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advbench.analysis import CellExamples, Views
from advbench.analysis.thumbnails import amplification
from advbench.report.figures.style import CORRECT, FULL, WRONG, new_figure, shortened

__all__ = ["Named", "attack_examples", "reconstructions", "strip"]

_Images = npt.NDArray[np.float32]


class Named(NamedTuple):
    """Example images with the name of their attack or defense."""

    name: str
    examples: CellExamples


def attack_examples(attacks: Sequence[Named], count: int) -> Figure:
    """Draws one row per sample: the original, then for each attack the attacked image and the difference."""
    first = attacks[0].examples
    count = min(count, len(first.ids))
    columns = 1 + 2 * len(attacks)
    figure, axes = _grid(count, columns, named=bool(first.class_names))
    scales = [_scale(named.examples) for named in attacks]
    for row in range(count):
        _show(axes[row][0], first.clean.images[row])
        _label(axes[row][0], first.clean, row, first)
        for index, ((_, examples), scale) in enumerate(zip(attacks, scales, strict=True)):
            left, right = axes[row][1 + 2 * index], axes[row][2 + 2 * index]
            _show(left, examples.adversarial.images[row])
            _label(left, examples.adversarial, row, examples)
            _show(right, _difference(examples, scale)[row])
    _title(axes[0][0], "original")
    for index, ((name, _), scale) in enumerate(zip(attacks, scales, strict=True)):
        _title(axes[0][1 + 2 * index], _folded(name))
        _title(axes[0][2 + 2 * index], f"difference\n×{scale}")
    return figure


def reconstructions(defenses: Sequence[Named], count: int) -> Figure:
    """Draws one row per sample: the original, then its image after each defense."""
    first = defenses[0].examples
    count = min(count, len(first.ids))
    figure, axes = _grid(count, 1 + len(defenses), named=bool(first.class_names))
    for row in range(count):
        _show(axes[row][0], first.clean.images[row])
        _label(axes[row][0], first.clean, row, first)
        for index, (_, examples) in enumerate(defenses, 1):
            _show(axes[row][index], examples.defended_clean.images[row])
            _label(axes[row][index], examples.defended_clean, row, examples)
    _title(axes[0][0], "original")
    for index, (name, _) in enumerate(defenses, 1):
        _title(axes[0][index], _folded(name))
    return figure


def strip(defenses: Sequence[Named], count: int) -> Figure:
    """Draws one column per sample: original, attacked, difference, and the attacked image after each defense.

    All defenses must have the same attacked images.
    """
    first = defenses[0].examples
    count = min(count, len(first.ids))
    scale = _scale(first)
    rows: list[tuple[str, _Images, Views | None]] = [
        ("original", first.clean.images, first.clean),
        ("attacked", first.adversarial.images, first.adversarial),
        (f"difference\n×{scale}", _difference(first, scale), None),
        *((_folded(name), shown.defended.images, shown.defended) for name, shown in defenses),
    ]
    figure, axes = _grid(len(rows), count, side=1.0, named=bool(first.class_names))
    for row, (label, images, views) in zip(axes, rows, strict=True):
        for column in range(count):
            _show(row[column], images[column])
            if views is not None:
                _label(row[column], views, column, first)
        row[0].set_ylabel(label, rotation=0, ha="right", va="center")
    return figure


def _grid(rows: int, columns: int, side: float = 0.0, *, named: bool = False) -> tuple[Figure, Any]:
    """Axes without ticks. The figure is as wide as the page, or narrower if images would become too large.

    Args:
        rows: Number of rows of images.
        columns: Number of columns.
        side: Width of the margin for labels, in inches.
        named: Whether there are two lines below each image.
    """
    across = min(0.95, (FULL - side) / columns)
    figure = new_figure(side + across * columns, (across + (0.28 if named else 0.16)) * rows + 0.3)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(False)
    return figure, axes


def _show(axis: Axes, image: _Images) -> None:
    """Shows an image, shape (channels, height, width), without interpolation."""
    pixels = np.clip(image, 0, 1)
    if len(pixels) == 3:
        axis.imshow(pixels.transpose(1, 2, 0), interpolation="nearest")
    else:
        axis.imshow(pixels[0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")


def _label(axis: Axes, views: Views, position: int, examples: CellExamples) -> None:
    """Labels an image with the predicted class and its confidence."""
    predicted, correct = (
        int(views.predictions[position]),
        int(views.predictions[position]) == int(examples.labels[position]),
    )
    name = shortened(examples.class_name(predicted), 10)
    gap = "\n" if examples.class_names else " "  # with class names, the line would be too long
    text = f"{'✓' if correct else '✗'} {name}{gap}({100 * views.confidences[position]:.0f} %)"
    axis.set_xlabel(text, color=CORRECT if correct else WRONG, fontsize=6.5, labelpad=1.5)


def _scale(examples: CellExamples) -> int:
    return amplification(examples.adversarial.images - examples.clean.images)


def _difference(examples: CellExamples, scale: int) -> _Images:
    shown: _Images = 0.5 + scale * (examples.adversarial.images - examples.clean.images)
    return shown


def _title(axis: Axes, text: str) -> None:
    axis.set_title(text, fontsize=6.5)


def _folded(name: str) -> str:
    """A spec on two lines, the name above its parameters."""
    head, _, rest = name.partition(":")
    return f"{shortened(head, 14)}\n{shortened(rest, 14)}" if rest else shortened(head, 14)
