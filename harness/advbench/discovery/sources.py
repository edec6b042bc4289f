"""Where the source of a module lies, and what is in files: also of modules that nothing has imported yet."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import sys
import time
import types
import warnings
from collections.abc import Hashable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder, SourceFileLoader
from pathlib import Path

from advbench.api.neighbours import SOURCE_DIGEST, Folder, NeighbourLoader
from advbench.errors import UsageError
from advbench.process.libraries import is_installed

__all__ = ["Located", "check_loaded", "content_digest", "is_own", "locate", "package_files"]

_SKIPPED_FOLDERS = frozenset({"__pycache__", ".git", ".hg", ".mypy_cache", ".pytest_cache", ".ruff_cache"})
_SKIPPED_SUFFIXES = frozenset({".pyc", ".pyo", ".safetensors"})
"""What is no code; weights are in every key by a digest of their own."""

_LARGE = 64 * 1024 * 1024
"""Files larger than this count by size and time of change, since reading them would hold up every start."""

_SETTLED = 2.0
"""Seconds after which a further change of a file is sure to show in its times."""

_SUFFIXES = (".py", *EXTENSION_SUFFIXES)


@dataclasses.dataclass(frozen=True)
class Located:
    """Where a module is.

    Attributes:
        name: Its name.
        file: Its source, or compiled code; None of a package without ``__init__.py``.
        folders: Where its submodules lie; empty where it is no package.
        beside: The folder of the user's in which its imports look first, or None.
    """

    name: str
    file: Path | None
    folders: tuple[Path, ...] = ()
    beside: Folder | None = None

    @property
    def package(self) -> str:
        """The package in which its relative imports begin; empty outside of packages."""
        return self.name if self.folders else self.name.rpartition(".")[0]


def is_own(module: str) -> bool:
    """Whether a module is advbench's or comes with Python."""
    top = module.partition(".")[0]
    return top == "advbench" or top in sys.stdlib_module_names


def locate(name: str, beside: Folder | None = None) -> Located | None:
    """Finds a module without importing it; None where there is none, such as for a class in a module.

    Args:
        name: Its name.
        beside: The folder of the user's in which whoever imports it looks first, or None.
    """
    mine = beside if beside is not None and beside.has(name.partition(".")[0]) else None
    loaded = None if mine else _loaded(name)
    if loaded is not None:
        return loaded
    parent, _, leaf = name.rpartition(".")
    if parent:
        package = locate(parent, beside)
        return None if package is None else _in_folders(name, leaf, package.folders, mine)
    if mine is not None:
        return _in_folders(name, name, (mine.path,), mine)
    return _on_path(name)


def _loaded(name: str) -> Located | None:
    module = sys.modules.get(name)
    if not isinstance(module, types.ModuleType):
        return None
    file = getattr(module, "__file__", None)
    file = file if file and Path(file).is_file() else None  # of what is piped to Python it is a word
    folders = tuple(Path(folder) for folder in getattr(module, "__path__", ()))
    if file is None and not folders:
        return None
    loader = getattr(module.__spec__, "loader", None)
    return Located(
        name, Path(file) if file else None, folders, loader.folder if isinstance(loader, NeighbourLoader) else None
    )


def _on_path(name: str) -> Located | None:
    try:
        spec = PathFinder.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None
    if spec is None:
        return None
    folders = tuple(Path(folder) for folder in spec.submodule_search_locations or ())
    file = Path(spec.origin) if spec.origin and spec.has_location else None
    return Located(name, file, folders) if file or folders else None


def _in_folders(name: str, leaf: str, folders: tuple[Path, ...], beside: Folder | None) -> Located | None:
    for folder in folders:
        for suffix in _SUFFIXES:
            package, module = folder / leaf / f"__init__{suffix}", folder / f"{leaf}{suffix}"
            if package.is_file():
                return Located(name, package, (package.parent,), beside)
            if module.is_file():
                return Located(name, module, (), beside)
    spaces = tuple(folder / leaf for folder in folders if (folder / leaf).is_dir())
    return Located(name, None, spaces, beside) if spaces else None


def package_files(root: Path) -> Iterator[Path]:
    """The files of a package, weights and caches aside."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
        paths = (Path(folder) / name for name in names)
        yield from (path for path in paths if path.suffix not in _SKIPPED_SUFFIXES and path.is_file())


def content_digest(file: Path) -> str:
    """SHA-256 of a file as it is now; of a very large one, of its size and time of change."""
    status = file.stat()
    if status.st_size > _LARGE:
        return hashlib.sha256(f"{status.st_size}\0{status.st_mtime_ns}".encode()).hexdigest()
    known = (file, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    # Edits within one tick of the clock leave size and times as they were.
    settled = time.time() - max(status.st_mtime, status.st_ctime) > _SETTLED
    return _remembered(*known) if settled else _digest(file)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@functools.lru_cache(maxsize=16384)
def _remembered(file: Path, *times: int) -> str:
    del times
    return _digest(file)


_first: dict[str, tuple[object, str]] = {}
"""For each module, what it was and the digest of its file, when it was first looked at."""


def check_loaded(located: Located, digest: str) -> None:
    """Makes sure that this process runs what is on disk.

    Args:
        located: A module, which need not have been imported.
        digest: That of its file now.

    Raises:
        UsageError: The process imported it before it changed, so that results would be stored as those of other code.
    """
    name = located.name
    module = (located.beside.modules.get(name) if located.beside else None) or sys.modules.get(name)
    if module is None or getattr(module, "__file__", None) != str(located.file):
        return
    ran = vars(module).get(SOURCE_DIGEST)
    if ran is None:
        made = getattr(module, "__spec__", None) or module  # which importlib.reload replaces
        was, ran = _first.get(name, (None, ""))
        if was is not made:
            ran = digest if _runs_what_is_there(module, located.file) else ""
            _first[name] = made, ran
    if ran != digest:
        raise UsageError(
            f"{located.file} is not what this process runs as {name}: it has changed since, or within the second in "
            "which Python compiled it; restart Python, and remove the __pycache__ beside the file if that does not help"
        )


def _runs_what_is_there(module: types.ModuleType, file: Path | None) -> bool:
    """Whether the functions of an imported module are those that its file holds; where nothing tells, they are."""
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    if file is None or type(loader) is not SourceFileLoader or is_installed(file):  # others may change what they load
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            there = compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    known = set(_codes(there))
    return all(_shape(code) in known for code in _loaded_codes(module, str(file)))


def _loaded_codes(module: types.ModuleType, file: str) -> Iterator[types.CodeType]:
    """The code of the module's functions, and of the methods of its classes."""
    for value in list(vars(module).values()):
        of_class = isinstance(value, type) and value.__module__ == module.__name__
        for function in list(vars(value).values()) if of_class else [value]:
            function = getattr(function, "__func__", function)  # noqa: PLW2901  of static and class methods
            if isinstance(function, types.FunctionType) and function.__code__.co_filename == file:
                yield function.__code__


def _codes(code: types.CodeType) -> Iterator[Hashable]:
    yield _shape(code)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _shape(code: types.CodeType) -> Hashable:
    """What code does, where it stands."""
    return (
        *(code.co_name, code.co_firstlineno, code.co_code, code.co_names, code.co_varnames),
        tuple(_constant(one) for one in code.co_consts),
    )


def _constant(value: object) -> Hashable:
    if isinstance(value, types.CodeType):
        return _shape(value)
    if isinstance(value, tuple):
        return tuple(_constant(one) for one in value)
    return "".join(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)
