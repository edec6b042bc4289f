"""Rows with many repeated values, stored as columns that hold each value once, to save time, disk space and memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["from_columns", "to_columns"]


_PLAIN = frozenset({str, int, bool, type(None)})
"""Types whose values are compared together with their class, because True == 1 in Python but not in JSON."""


def to_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | list[Mapping[str, Any]]:
    """Converts rows to ``{"columns": {key: {"values": […], "at": […]}}}`` if they all have the same keys.

    ``values`` holds each distinct value once, and ``at`` holds, for each row, an index into ``values``.

    Returns:
        The columns, or the rows as a list if their keys differ.
    """
    if not all(isinstance(row, Mapping) for row in rows) or len({tuple(row) for row in rows}) != 1:
        return list(rows)
    columns = {}
    for key in rows[0]:
        indices: dict[Any, int] = {}
        values: list[Any] = []
        at: list[int] = []
        for row in rows:
            value = row[key]
            plain = value.__class__ in _PLAIN
            known = (value.__class__, value) if plain else json.dumps(value)
            if known not in indices:
                indices[known] = len(values)
                values.append(value)
            at.append(indices[known])
        columns[key] = {"values": values, "at": at}
    return {"columns": columns}


def from_columns(table: Any) -> list[dict[str, Any]]:
    """Converts the result of :func:`to_columns` back to rows. Equal values are one shared object; do not change them.

    Raises:
        ValueError, TypeError, KeyError, IndexError, AttributeError: The table has another form.
    """
    if isinstance(table, list):
        return table
    columns = table["columns"]
    values = [[column["values"][index] for index in column["at"]] for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]
