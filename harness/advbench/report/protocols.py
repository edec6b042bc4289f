"""The accuracies of random defenses under the protocols ``one``, ``mean`` and ``any``, below a leaderboard."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from advbench.analysis.surrogates import threat_name
from advbench.report.columns import percent

__all__ = ["ProtocolTable", "protocol_facts", "protocol_table"]

_MEANINGS = {
    "one": "the first draw",
    "mean": "the mean over the draws, which the board shows",
    "any": "right in all draws, since an attacker who may try again needs any one that is wrong",
}
"""The protocols, and when a sample counts as right."""


@dataclasses.dataclass(frozen=True)
class ProtocolTable:
    """The robust accuracies of the random defenses and models of a leaderboard under each protocol.

    Attributes:
        title: What the table shows.
        reading: What the protocols mean.
        head: The headings of the columns.
        rows: The rows; the texts of the first columns name the defense and the attack.
        names: How many columns name something; the others are numbers.
    """

    title: str
    reading: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int


def protocol_table(grid: Sequence[Sequence[Mapping[str, Any]]], names: Sequence[str]) -> ProtocolTable | None:
    """The table of a leaderboard; None if no defense was scored with several draws.

    Args:
        grid: The cells of the leaderboard: a sequence of rows.
        names: The names of the rows.
    """
    measured = [
        (name, cell) for name, cells in zip(names, grid, strict=True) for cell in cells if cell.get("protocols")
    ]
    if not measured:
        return None
    draws = sorted({cell["robust_accuracy_draws"]["n"] for _, cell in measured})
    return ProtocolTable(
        title=f"Robust accuracy in % over {'–'.join(map(str, draws))} draws",
        reading=f"Protocol {'; '.join(f'{name}: {meaning}' for name, meaning in _MEANINGS.items())}.",
        head=("defense", "attack", "threat", *_MEANINGS),
        rows=tuple(
            (
                name,
                cell["short"]["attack"],
                threat_name(cell),
                *(percent(cell["protocols"][protocol]["robust_accuracy"]) for protocol in _MEANINGS),
            )
            for name, cell in measured
        ),
        names=3,
    )


def protocol_facts(cell: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Labels and texts of a cell under each protocol; nothing without several draws."""
    for name, meaning in _MEANINGS.items() if cell.get("protocols") else ():
        accuracies = cell["protocols"][name]
        low, high = accuracies["robust_accuracy_ci95"]
        yield (
            f"protocol {name}",
            f"robust {percent(accuracies['robust_accuracy'])} % ({percent(low)}–{percent(high)}), "
            f"clean {percent(accuracies['clean_accuracy'])} %: {meaning}",
        )
