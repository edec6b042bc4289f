"""The strongest of several attacks for each image, as one cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from advbench.results import robust_bits, summarise

__all__ = ["join_cells", "join_records"]

_COORDINATES = ("dataset", "model", "attack", "threat", "defense")
_PER_SAMPLE = ("adversarial_predictions", "adversarial_correct", "attacked_predictions", "linf", "l2")

Record = Mapping[str, Any]


def join_records(records: Iterable[Record], main: str, others: Sequence[str]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Joins the records of several attacks on the same images into records of the strongest attack for each image.

    An image withstands the joined attacks with a draw of a stochastic defense if it withstands each of them with this
    draw. Its distances and predictions are those of the attack that it withstands with the fewest draws.

    Args:
        records: Finished records of adaptive attacks.
        main: Name of the attack whose records are replaced.
        others: Names of the attacks that are joined to it.

    Returns:
        The joined records, by the coordinates of the record of the main attack.
    """
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        if record["attack"].partition(":")[0] in (main, *others):
            groups.setdefault(tuple(record[key] for key in _COORDINATES if key != "attack"), []).append(record)
    joined = {}
    for group in groups.values():
        first = next((record for record in group if record["attack"].partition(":")[0] == main), None)
        if first is not None:
            joined[tuple(first[key] for key in _COORDINATES)] = _strongest(
                [first, *(record for record in group if record is not first)]
            )
    return joined


def join_cells(cells: Iterable[Record], joined: Mapping[tuple[str, ...], Record]) -> list[Record]:
    """The cells of a results.json, with the numbers of joined records in place of the main attack's."""
    replaced = []
    for cell in cells:
        record = joined.get(tuple(cell[key] for key in _COORDINATES))
        replaced.append(cell if record is None else {**cell, **summarise(record, None).measured})
    return replaced


def _strongest(records: Sequence[Record]) -> dict[str, Any]:
    """The record of the strongest attack for each image; everything else is that of the first record."""
    import numpy as np

    robust = np.stack([np.atleast_2d(record.get("robust_draws") or robust_bits(record)) for record in records])
    best = robust.sum(axis=1).argmin(axis=0)  # of equally strong attacks the first
    result = dict(records[0])
    for name in _PER_SAMPLE:
        values = np.stack([np.asarray(record[name]) for record in records])
        result[name] = values[best, np.arange(values.shape[1])].tolist()
    if "robust_draws" in result:
        result["robust_draws"] = robust.min(axis=0).astype(int).tolist()
    return result
