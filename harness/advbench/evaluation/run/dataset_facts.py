"""What a dataset says of itself for people: the names of its classes, and what users should know of its data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from advbench.api import Dataset

__all__ = ["class_names", "dataset_notes"]

_LONGEST = 500
"""Longer texts are cut."""


def class_names(dataset: Dataset) -> list[str] | None:
    """The names of its classes in the order of the labels, each in one line; None where it has none that can be shown.

    A name that is empty stands for the class's number.
    """
    names = _texts(lambda: dataset.class_names)
    return names if names and any(names) else None


def dataset_notes(dataset: Dataset) -> list[str]:
    """What users should know of its data, each in one line."""
    return [note for note in _texts(dataset.notes) or () if note]


def _texts(ask: Callable[[], Any]) -> list[str] | None:
    """Texts as a dataset has them; None where it fails to say, which is no reason to fail a run."""
    try:
        told = ask()
        return None if told is None or isinstance(told, str) else [_line(text) for text in _checked(told)]
    except (Exception, SystemExit):
        return None


def _checked(told: Iterable[Any]) -> Iterable[str]:
    for text in told:
        if not isinstance(text, str):
            raise TypeError(text)
        yield text


def _line(text: str) -> str:
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
