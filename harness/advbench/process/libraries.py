"""Detects functions in a library's modules that are defined outside any library, and so have been replaced."""

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
"""Folders in which installers put libraries: of this environment, the user or the system."""


def foreign_functions(module: str, values: Iterable[tuple[str, Any]]) -> list[str]:
    """The functions in a module of a library that are defined in a file of no library.

    This detects replaced functions even if they were replaced before the module was first watched.

    Args:
        module: The name of the module of the library.
        values: The names and values of attributes of the module, or of a class in it.
    """
    package = module.partition(".")[0]
    foreign = []
    for name, value in values:
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if isinstance(function, types.FunctionType) and not _is_in_library(function.__code__.co_filename, package):
            foreign.append(name)
    return foreign


@functools.lru_cache(maxsize=4096)
def _is_in_library(file: str, package: str) -> bool:
    if file.startswith("<") or not Path(file).is_absolute():  # generated code, such as the methods of dataclasses
        return True
    path = Path(file)
    packages = map(_package_folder, (package, "torch", "numpy"))
    folders = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *packages]
    return is_installed(path) or any(path.is_relative_to(folder) for folder in folders if folder)


def _package_folder(package: str) -> Path | None:
    """The folder in which a package is installed."""
    file = getattr(sys.modules.get(package), "__file__", None)
    if not file:
        return None
    return Path(file).parents[1] if Path(file).stem == "__init__" else Path(file).parent


@functools.lru_cache(maxsize=4096)
def is_installed(file: Path) -> bool:
    """Whether a file is in a folder in which installers put libraries."""
    if not _INSTALLED.isdisjoint(file.parts):
        return True
    return any(file.is_relative_to(sysconfig.get_path(name)) for name in ("purelib", "platlib"))
