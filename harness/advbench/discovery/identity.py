"""What code a component is made of, as digests for the keys of the store."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from advbench.api import Component

__all__ = ["code_digests", "dependency_versions", "is_library"]

_SKIPPED_FOLDERS = frozenset({"__pycache__", ".git", ".hg", ".mypy_cache", ".pytest_cache", ".ruff_cache"})
_SKIPPED_SUFFIXES = frozenset({".pyc", ".pyo", ".safetensors"})
"""What is no code; weights are in every key by a digest of their own."""

_INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders in which installers put libraries: this environment's, the user's own, the system's."""

_LARGE = 64 * 1024 * 1024
"""Files larger than this count by size and time of change, since reading them would hold up every start."""


def code_digests(component: type[Component], more: Sequence[str] = ()) -> dict[str, str]:
    """SHA-256 of the files of every package that the component is made of, by the package's name.

    That is the packages that define the component and its base classes, and whatever these import at the top
    of a module from outside the installed libraries. A whole top-level package counts, its data files
    included, since a component may use any of them. Installed libraries count by their versions where the
    component names them in ``depends_on``, and advbench itself by the store's schema number.

    Args:
        component: The class.
        more: Names of further modules that count as well; an installed library's by its version.
    """
    modules: set[str] = set()
    to_visit = [base.__module__ for base in component.__mro__ if not _is_own(base.__module__)]
    to_visit += [name for name in more if not is_library(name)]
    while to_visit:
        module = to_visit.pop()
        if module not in modules:
            modules.add(module)
            to_visit += [name for name in _used_by(module) if not is_library(name)]
    libraries = {name.partition(".")[0] for name in more if is_library(name)}
    versions = {name: version for name in sorted(libraries) for version in _versions_of(name)}
    return {_package(module): _digest(_root(module)) for module in sorted(modules)} | versions


def dependency_versions(component: type[Component]) -> dict[str, str]:
    """Versions of the distributions that the component declares to shape its outcome."""
    return {name: _version(name) for name in sorted(component.depends_on)}


def _used_by(module: str) -> set[str]:
    """Names of the modules that a module's globals are, or come from."""
    used = set()
    for value in list(vars(sys.modules[module]).values()):
        name = value.__name__ if isinstance(value, types.ModuleType) else _module_of(value)
        if isinstance(name, str) and name in sys.modules:
            used.add(name)
    return used


def _module_of(value: object) -> object:
    """What a thing says of where it was defined; nothing where it does not stand the question."""
    try:
        return getattr(value, "__module__", None)
    except Exception:
        return None


def _is_own(module: str) -> bool:
    """Whether a module is advbench's or comes with Python."""
    top = module.partition(".")[0]
    return top == "advbench" or top in sys.stdlib_module_names


@functools.cache
def is_library(module: str) -> bool:
    """Whether a module is advbench's, Python's or an installed library's, so that its files are not looked at."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or _is_own(module):
        return True
    if not _INSTALLED.isdisjoint(Path(file).parts):
        return True
    return any(Path(file).is_relative_to(sysconfig.get_path(name)) for name in ("purelib", "platlib"))


def _package(module: str) -> str:
    """The name of what :func:`_root` gives: two folders of one namespace package are two packages."""
    top = module.partition(".")[0]
    regular = getattr(sys.modules.get(top), "__file__", None) is not None
    return top if regular else module.rpartition(".")[0] or module


def _root(module: str) -> Path:
    """The package folder or single file that a module belongs to."""
    top = sys.modules.get(module.partition(".")[0])
    top_file = getattr(top, "__file__", None)
    if top_file is not None and hasattr(top, "__path__"):
        return Path(top_file).parent
    own = getattr(sys.modules.get(module), "__file__", None)
    if own is None:
        raise LookupError(f"module {module} has no source file, so that results with it cannot be keyed")
    # In a namespace package, the folder of the module itself is what the plugin ships.
    return Path(own) if "." not in module else Path(own).parent


@functools.cache
def _digest(root: Path) -> str:
    sha = hashlib.sha256()
    if root.is_file():
        sha.update(root.read_bytes())
        return sha.hexdigest()
    for file in sorted(_files(root), key=lambda file: file.relative_to(root).as_posix()):
        status = file.stat()
        sha.update(f"{file.relative_to(root).as_posix()}\0{status.st_size}\0".encode())
        sha.update(str(status.st_mtime_ns).encode() if status.st_size > _LARGE else file.read_bytes())
    return sha.hexdigest()


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
        paths = (Path(folder) / name for name in names)
        yield from (path for path in paths if path.suffix not in _SKIPPED_SUFFIXES and path.is_file())


def _versions_of(package: str) -> list[str]:
    """The versions of the distributions that a package is part of, in one text; none for Python's own."""
    distributions = sorted(set(_distributions().get(package, ())))
    return [", ".join(f"{name} {_version(name)}" for name in distributions)] if distributions else []


@functools.cache
def _distributions() -> Mapping[str, Sequence[str]]:
    return metadata.packages_distributions()


@functools.cache
def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except (metadata.PackageNotFoundError, ValueError):  # ValueError: an empty name
        return "not installed"
