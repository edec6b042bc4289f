"""What code a component is made of, as digests for the keys of the store."""

from __future__ import annotations

import functools
import hashlib
import sys
from importlib import metadata
from pathlib import Path

from advbench.api import Component

__all__ = ["code_digests", "dependency_versions"]

_SOURCES = ("*.py", "*.so", "*.pyd")
_NOT_PLUGINS = frozenset({"advbench", "builtins", "abc", "typing"})


def code_digests(component: type[Component]) -> dict[str, str]:
    """SHA-256 of the source of every package that defines the component or one of its base classes.

    A whole top-level package counts, since a component may use any of its modules. advbench itself is not
    among them: the schema number stands for it.
    """
    modules = {base.__module__ for base in component.__mro__}
    plugins = sorted(module for module in modules if module.partition(".")[0] not in _NOT_PLUGINS)
    return {module.partition(".")[0]: _digest(_root(module)) for module in plugins}


def dependency_versions(component: type[Component]) -> dict[str, str]:
    """Versions of the distributions that the component declares to shape its outcome."""
    return {name: _version(name) for name in sorted(component.depends_on)}


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
    files = {file for pattern in _SOURCES for file in root.rglob(pattern)}
    for file in sorted(files, key=lambda file: file.relative_to(root).as_posix()):
        content = file.read_bytes()
        sha.update(f"{file.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        sha.update(content)
    return sha.hexdigest()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"
