"""PIL's tables of functions that read and write each image format."""

from __future__ import annotations

import sys
from typing import Any

from advbench.process.settings.setting import Setting

__all__ = ["image_format_setting"]

_TABLES = ("OPEN", "SAVE", "SAVE_ALL", "DECODERS", "ENCODERS")

Tables = dict[str, dict[str, Any]]


def _read() -> Tables:
    """The entries of each table; empty if PIL is not loaded."""
    image = sys.modules.get("PIL.Image")
    if image is None:
        return {}
    image.preinit()  # registers the common formats, so that a component that does so changes nothing
    return {name: dict(table) for name in _TABLES if isinstance(table := getattr(image, name, None), dict)}


def _replaced(before: Tables, now: Tables) -> list[tuple[str, str]]:
    """Tables and formats with a replaced entry; added formats do not count."""
    return [
        (name, entry)
        for name, entries in before.items()
        for entry, value in entries.items()
        if now.get(name, {}).get(entry) != value
    ]


def _write(before: Tables) -> None:
    for name, entry in _replaced(before, _read()):
        getattr(sys.modules["PIL.Image"], name)[entry] = before[name][entry]


def _describe(before: Tables, now: Tables) -> str:
    return ", ".join(f"PIL.Image.{name}[{entry!r}]" for name, entry in _replaced(before, now)[:3])


def image_format_setting() -> Setting:
    """One setting for all tables."""
    return Setting(
        "the image formats of PIL", _read, _write, _describe, lambda before, now: bool(_replaced(before, now))
    )
