"""Rows survive the conversion to columns and back, and equal values are shared."""

from __future__ import annotations

import json
from typing import Any

import pytest

from advbench.store.columns import from_columns, to_columns

ROWS: list[dict[str, Any]] = [
    {"a": 1, "b": {"x": [1.5, None]}, "c": "one"},
    {"a": True, "b": {"x": [1.5, None]}, "c": "two"},
    {"a": 1.0, "b": None, "c": "one"},
]


def test_rows_and_the_order_of_their_keys_are_restored() -> None:
    table = json.loads(json.dumps(to_columns(ROWS)))
    back = from_columns(table)
    assert json.dumps(back) == json.dumps(ROWS), "1, 1.0 and true are different values"
    assert back[0]["b"] is back[1]["b"]
    assert len(table["columns"]["b"]["values"]) == 2


@pytest.mark.parametrize("rows", [[], [{"a": 1}, {"b": 1}], [1]], ids=["none", "other keys", "no rows"])
def test_rows_with_different_keys_stay_a_list(rows: Any) -> None:
    assert to_columns(rows) == rows
    assert from_columns(to_columns(rows)) == rows


@pytest.mark.parametrize("table", [{}, {"columns": {"a": {"values": [], "at": [1]}}}, {"columns": 3}, 7])
def test_another_form_raises(table: Any) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, IndexError, AttributeError)):
        from_columns(table)
