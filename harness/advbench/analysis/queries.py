"""Queries of attacks: how many a success took, and what an attack achieves with a given number."""

from __future__ import annotations

__all__ = ["CHECKPOINTS"]

CHECKPOINTS = (*(factor * 10**power for power in (2, 3, 4, 5) for factor in (1, 2, 5)), 1_000_000)
"""The numbers of forwards at which the best size of a minimal attack is recorded."""
