"""The tables by which PIL finds the code that reads and writes each format of image files."""

from __future__ import annotations

import sys
from typing import Any

from advbench.process.setting import Setting

__all__ = ["image_formats"]

_TABLES = ("OPEN", "SAVE", "SAVE_ALL", "DECODERS", "ENCODERS")

Tables = dict[str, dict[str, Any]]


def _read() -> Tables:
    """The entries of each table; none where PIL is not loaded."""
    image = sys.modules.get("PIL.Image")
    if image is None:
        return {}
    image.preinit()  # the common formats, so that a component that registers them itself changes nothing
    return {name: dict(table) for name in _TABLES if isinstance(table := getattr(image, name, None), dict)}


def _replaced(before: Tables, now: Tables) -> list[tuple[str, str]]:
    """Tables and formats whose entry is another; formats that are added change nothing of the others."""
    return [
        (name, entry)
        for name, entries in before.items()
        for entry, value in entries.items()
        if now.get(name, {}).get(entry) != value
    ]


def _write(before: Tables) -> None:
    for name, entry in _replaced(before, _read()):
        getattr(sys.modules["PIL.Image"], name)[entry] = before[name][entry]


def _told(before: Tables, now: Tables) -> str:
    return ", ".join(f"PIL.Image.{name}[{entry!r}]" for name, entry in _replaced(before, now)[:3])


def image_formats() -> Setting:
    """The setting that holds all tables."""
    return Setting("the image formats of PIL", _read, _write, _told, lambda before, now: bool(_replaced(before, now)))
