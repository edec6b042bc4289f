"""What a cell's record tells beyond its numbers: what it takes images for, and how far they were moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from advbench.analysis.confusion import confusion_matrix
from advbench.analysis.measures import moved

__all__ = ["MOST_CLASSES", "cell_details"]

MOST_CLASSES = 20
"""Confusion matrices of more classes are left out: nobody reads them, and they grow by the square."""

_BINS = 20


def cell_details(record: Mapping[str, Any], norm: str | None) -> dict[str, Any]:
    """The details of a finished cell.

    Args:
        record: A cell of the store with status ``ok``.
        norm: The norm of the attack, or None.

    Returns:
        ``before`` and ``after``: confusion matrices of the defended model on the clean and on the adversarial images, a
        row a label; None of more than 20 classes. ``histogram``: how far the images that turned the attacked
        classifier wrong were moved, in L2 for an attack of that norm and in L∞ otherwise, as ``norm``, ``edges`` and
        ``counts``; None where there are none. ``passes``: how many images the network was asked about, a sample; None
        where that was not noted.
    """
    size = 1 + max(int(np.max(record[name])) for name in ("labels", "clean_predictions", "adversarial_predictions"))
    matrices = {"before": "clean_predictions", "after": "adversarial_predictions"}
    asked = record.get("images_asked")
    return {
        **{
            name: confusion_matrix(record, predictions, size) if size <= MOST_CLASSES else None
            for name, predictions in matrices.items()
        },
        "histogram": _histogram(record, "l2" if norm == "l2" else "linf"),
        "passes": asked / record["n"] if asked else None,
    }


def _histogram(record: Mapping[str, Any], norm: str) -> dict[str, Any] | None:
    distances = np.asarray(record[norm], dtype=float)[moved(record)]
    if not len(distances):
        return None
    top = float(distances.max()) or 1.0
    # Distances that a budget makes equal differ in their last bits, and belong into one bin.
    counts, edges = np.histogram(np.minimum(distances, top * (1 - 1e-9)), bins=_BINS, range=(0.0, top))
    return {"norm": norm, "edges": edges.tolist(), "counts": counts.tolist()}
