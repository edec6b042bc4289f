"""The columns and cells of leaderboards."""

from __future__ import annotations

import dataclasses

__all__ = ["FAILED", "NOT_RUN", "BoardCell", "Column", "percent"]

NOT_RUN = "—"
FAILED = "ERR"


@dataclasses.dataclass(frozen=True)
class Column:
    """A column's heading.

    Attributes:
        title: The title, such as the name of an attack.
        details: Further short lines, such as an attack's kind and parameters.
    """

    title: str
    details: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class BoardCell:
    """One cell of a leaderboard.

    Attributes:
        text: The text.
        score: The number by which the best of a column is found; None if the cell is not compared.
        best: Whether it is the best of its column.
        failed: Whether it shows a failure.
        interval: The 95 % interval of the number, as fractions, or None.
        index: For the result of an attack, its index among the cells of the results.
        certificate: For a certified accuracy, the index of its entry among the certificates of the results.
        full_spec: For the first cell of a row, what identifies it; see :func:`row_id`.
    """

    text: str
    score: float | None = None
    best: bool = False
    failed: bool = False
    interval: tuple[float, float] | None = None
    index: int | None = None
    certificate: int | None = None
    full_spec: str = ""


def percent(share: float) -> str:
    """Formats a fraction in per cent with one decimal: ``0.985`` becomes ``98.5``."""
    return f"{100 * share:.1f}"
