"""Functions in a library's modules that come from no library: something has replaced what was there."""

from __future__ import annotations

import functools
import sys
import sysconfig
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["foreign_functions", "is_installed"]

_INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders in which installers put libraries: this environment's, the user's own, the system's."""


def foreign_functions(module: str, values: Iterable[tuple[str, Any]]) -> list[str]:
    """Which functions of a library are defined in a file that is neither the library's nor another library's.

    It finds what was replaced in a library before anything knew what the library holds.

    Args:
        module: The name of the module of the library.
        values: The names and values of attributes of the module, or of a class in it.
    """
    package = module.partition(".")[0]
    found = []
    for name, value in values:
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if isinstance(function, types.FunctionType) and not _is_of_a_library(function.__code__.co_filename, package):
            found.append(name)
    return found


@functools.lru_cache(maxsize=4096)
def _is_of_a_library(file: str, package: str) -> bool:
    if file.startswith("<") or not Path(file).is_absolute():  # made while it runs, as the methods of dataclasses are
        return True
    path = Path(file)
    places = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *map(_place, (package, "torch", "numpy"))]
    return is_installed(path) or any(path.is_relative_to(place) for place in places if place)


def _place(package: str) -> Path | None:
    """The folder in which a package is installed, with others."""
    file = getattr(sys.modules.get(package), "__file__", None)
    if not file:
        return None
    return Path(file).parents[1] if Path(file).stem == "__init__" else Path(file).parent


@functools.lru_cache(maxsize=4096)
def is_installed(file: Path) -> bool:
    """Whether a file is where installers put libraries."""
    if not _INSTALLED.isdisjoint(file.parts):
        return True
    return any(file.is_relative_to(sysconfig.get_path(name)) for name in ("purelib", "platlib"))
