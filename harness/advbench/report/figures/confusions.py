"""Figures of confusion matrices, in pairs before and after an attack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advbench.report.figures.style import FULL, HALF, new_figure, shortened

__all__ = ["Pair", "confusion_pairs"]


class Pair(NamedTuple):
    """A model's confusion matrices before and after an attack; one row per label, one column per prediction."""

    name: str
    before: Sequence[Sequence[int]]
    after: Sequence[Sequence[int]]


def confusion_pairs(pairs: Sequence[Pair], names: Sequence[str] = ()) -> Figure:
    """Draws one row per pair, shaded by the share of each label's images.

    Args:
        pairs: The pairs.
        names: The names of the classes; numbers are shown if it is empty.
    """
    figure = new_figure(FULL, 0.95 * HALF * len(pairs))
    axes = figure.subplots(len(pairs), 2, squeeze=False)
    shaded: Any = None
    for row, pair in zip(axes, pairs, strict=True):
        for axis, counts, title in ((row[0], pair.before, "clean"), (row[1], pair.after, "attacked")):
            shaded = _matrix(axis, np.asarray(counts), names)
            axis.set_title(f"{shortened(pair.name, 40)}, {title}")
    bar = figure.colorbar(shaded, ax=axes, fraction=0.025, pad=0.02)
    bar.set_label("share of the label's images")
    bar.outline.set_visible(False)
    return figure


def _matrix(axis: Axes, counts: Any, names: Sequence[str]) -> Any:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shaded = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = len(counts)
    letters = 6.0 if size <= 10 else 4.0
    for label in range(size):
        for prediction in range(size):
            if counts[label, prediction]:
                dark = shares[label, prediction] > 0.5
                axis.text(
                    prediction, label, str(counts[label, prediction]), ha="center", va="center", fontsize=letters,
                    color="white" if dark else "black", in_layout=False,
                )  # fmt: skip
    if any(names):
        labels = [shortened((names[index] if index < len(names) else "") or str(index), 14) for index in range(size)]
        axis.set_xticks(range(size), labels, rotation=90, fontsize=letters)
        axis.set_yticks(range(size), labels, fontsize=letters)
    else:
        axis.set_xticks(range(size))
        axis.set_yticks(range(size))
    axis.tick_params(length=0)
    axis.set_xlabel("prediction")
    axis.set_ylabel("label")
    for spine in axis.spines.values():
        spine.set_visible(False)
    return shaded
