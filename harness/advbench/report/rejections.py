"""How leaderboards show what defenses reject."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from advbench.report.columns import percent

__all__ = ["rejected_adversarial", "rejected_clean", "rejection_notes"]

_REJECTED = "rejected"


def rejected_clean(cells: Iterable[Mapping[str, Any]]) -> list[str]:
    """The smallest and the largest share of clean images that the defenses of cells reject, as a line of a heading."""
    return _line(cells, "clean_rate")


def rejected_adversarial(cells: Iterable[Mapping[str, Any]]) -> list[str]:
    """The same of adversarial images."""
    return _line(cells, "adversarial_rate")


def rejection_notes(cells: Iterable[Mapping[str, Any]]) -> list[str]:
    """An explanation, if a defense rejects images."""
    if not any(cell.get("rejection") for cell in cells):
        return []
    return [
        f"{_REJECTED.capitalize()}: the share of images that a defense rejects, from the lowest to the highest row "
        "with such a defense. Rejecting a clean image or a corruption is wrong; rejecting the image of an attacker "
        "is right."
    ]


def _line(cells: Iterable[Mapping[str, Any]], key: str) -> list[str]:
    rates = [cell["rejection"][key] for cell in cells if cell.get("rejection")]
    return [f"{_REJECTED} {'–'.join(dict.fromkeys(map(percent, (min(rates), max(rates)))))} %"] if rates else []
