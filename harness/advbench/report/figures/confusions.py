"""Confusion matrices, in pairs before and after an attack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advbench.report.figures.style import FULL, HALF, new_figure, shortened

__all__ = ["Pair", "confusion_pairs"]


class Pair(NamedTuple):
    """What a model takes images for, before and after an attack: counts, a row a label, a column a prediction."""

    name: str
    before: Sequence[Sequence[int]]
    after: Sequence[Sequence[int]]


def confusion_pairs(pairs: Sequence[Pair], names: Sequence[str] = ()) -> Figure:
    """A row a pair, all shaded on one scale, by the share of the row; classes by their names, where they have some."""
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
        for said in range(size):
            if counts[label, said]:
                dark = shares[label, said] > 0.5
                axis.text(
                    said, label, str(counts[label, said]), ha="center", va="center", fontsize=letters,
                    color="white" if dark else "black", in_layout=False,
                )  # fmt: skip
    if any(names):
        labels = [shortened((names[place] if place < len(names) else "") or str(place), 14) for place in range(size)]
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
