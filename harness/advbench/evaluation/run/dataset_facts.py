"""Facts about a dataset for display: the names of its classes, and notes on its data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from advbench.api import Dataset
from advbench.printable import one_line

__all__ = ["class_names", "dataset_notes"]

_MAX_LENGTH = 500
"""Longer texts are truncated."""


def class_names(dataset: Dataset) -> list[str] | None:
    """The names of its classes in the order of the labels, each in one line; None if it has none that can be shown.

    For an empty name the class's number is shown.
    """
    names = _texts(lambda: dataset.class_names)
    return names if names and any(names) else None


def dataset_notes(dataset: Dataset) -> list[str]:
    """Notes on its data for users, each in one line."""
    return [note for note in _texts(dataset.notes) or () if note]


def _texts(read: Callable[[], Any]) -> list[str] | None:
    """Texts of a dataset; None if reading them fails, which is no reason to fail a run."""
    try:
        texts = read()
        return None if texts is None or isinstance(texts, str) else [_line(text) for text in _checked(texts)]
    except (Exception, SystemExit):
        return None


def _checked(texts: Iterable[Any]) -> Iterable[str]:
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(text)
        yield text


def _line(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= _MAX_LENGTH else f"{line[: _MAX_LENGTH - 1]}…"
