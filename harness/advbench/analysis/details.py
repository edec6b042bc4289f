"""Details of a cell: confusion matrices, a histogram of distances, and the number of queries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from advbench.analysis.confusion import confused_pairs, confusion_matrix
from advbench.analysis.measures import attack_succeeded

__all__ = ["MOST_CLASSES", "cell_details"]

MOST_CLASSES = 20
"""Of more classes, the most confused pairs take the place of a matrix, whose size grows quadratically."""

MOST_PAIRS = 12
"""At most so many pairs are listed for each state of the images."""

_BINS = 20


def cell_details(record: Mapping[str, Any], norm: str | None) -> dict[str, Any]:
    """The details of a finished cell.

    Args:
        record: A cell of the store with status ``ok``.
        norm: The norm of the attack, or None.

    Returns:
        ``before`` and ``after``: confusion matrices of the defended model on the clean and the adversarial images, one
        row per label; None for more than 20 classes. Then ``confused_before`` and ``confused_after`` have the most
        frequent pairs of label and wrong prediction, with their number; else they are None. ``histogram``: distances of
        the images that fooled the attacked classifier, in L2 for an attack with that norm and otherwise in L∞, as
        ``norm``, ``edges`` and ``counts``; None if there are no such images. ``passes``: number of
        images that the network classified, per sample; None if it was not recorded.
    """
    size = 1 + max(int(np.max(record[name])) for name in ("labels", "clean_predictions", "adversarial_predictions"))
    matrices = {"before": "clean_predictions", "after": "adversarial_predictions"}
    images = record.get("images_asked")
    return {
        **{
            name: confusion_matrix(record, predictions, size) if size <= MOST_CLASSES else None
            for name, predictions in matrices.items()
        },
        **{
            f"confused_{name}": None if size <= MOST_CLASSES else confused_pairs(record, predictions, MOST_PAIRS)
            for name, predictions in matrices.items()
        },
        "histogram": _histogram(record, "l2" if norm == "l2" else "linf"),
        "passes": images / record["n"] if images else None,
    }


def _histogram(record: Mapping[str, Any], norm: str) -> dict[str, Any] | None:
    distances = np.asarray(record[norm], dtype=float)[attack_succeeded(record)]
    if not len(distances):
        return None
    top = float(distances.max()) or 1.0
    # Distances that are equal to the budget may differ in their last bits but belong into one bin.
    counts, edges = np.histogram(np.minimum(distances, top * (1 - 1e-9)), bins=_BINS, range=(0.0, top))
    return {"norm": norm, "edges": edges.tolist(), "counts": counts.tolist()}
