"""Many rows that say nearly the same, as columns that say each thing once: less to write, to read and to keep."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["from_columns", "to_columns"]


_PLAIN = frozenset({str, int, bool, type(None)})
"""What is told apart by itself, its class considered: True is 1 to Python and another value in JSON."""


def to_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | list[Mapping[str, Any]]:
    """Rows with the same keys as ``{"columns": {key: {"values": […], "at": […]}}}``; others as they are.

    ``values`` has what occurs, each once, and ``at`` for each row its place there.
    """
    if not all(isinstance(row, Mapping) for row in rows) or len({tuple(row) for row in rows}) != 1:
        return list(rows)
    columns = {}
    for key in rows[0]:
        places: dict[Any, int] = {}
        values: list[Any] = []
        at: list[int] = []
        for row in rows:
            value = row[key]
            plain = value.__class__ in _PLAIN
            known = (value.__class__, value) if plain else json.dumps(value)
            if known not in places:
                places[known] = len(values)
                values.append(value)
            at.append(places[known])
        columns[key] = {"values": values, "at": at}
    return {"columns": columns}


def from_columns(table: Any) -> list[dict[str, Any]]:
    """The rows again; equal values are the same object, not to be changed.

    Raises:
        ValueError, TypeError, KeyError, IndexError, AttributeError: It is no such table.
    """
    if isinstance(table, list):
        return table
    columns = table["columns"]
    values = [[column["values"][place] for place in column["at"]] for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]
