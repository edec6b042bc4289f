"""Kinds of perturbation sets: attacks of one kind share a leaderboard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["CORRUPTION", "LP", "set_kind"]

LP, CORRUPTION = "lp", "corruption"


def set_kind(cell: Mapping[str, Any]) -> str:
    """The kind of the perturbation set of a cell's attack; ``lp`` if it is unknown, as in earlier versions.

    Args:
        cell: A cell of a manifest or of results.
    """
    return str((cell.get("perturbation") or {}).get("kind", LP))
