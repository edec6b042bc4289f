"""Locating the source files of modules, including modules that are not imported yet, and computing their digests."""

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

from advbench.api.local_imports import SOURCE_DIGEST, Folder, LocalLoader
from advbench.errors import UsageError
from advbench.process.libraries import is_installed

__all__ = ["Located", "check_loaded", "content_digest", "is_own", "locate", "package_files"]

_SKIPPED_FOLDERS = frozenset({"__pycache__", ".git", ".hg", ".mypy_cache", ".pytest_cache", ".ruff_cache"})
_SKIPPED_SUFFIXES = frozenset({".pyc", ".pyo", ".safetensors"})
"""Files that are not code, or that have a digest of their own in every key, such as weights."""

_LARGE = 64 * 1024 * 1024
"""Larger files are identified by size and modification time, because reading them would delay every start."""

_SETTLED_SECONDS = 2.0
"""Seconds after which a further change of a file certainly changes its modification time."""

_SUFFIXES = (".py", *EXTENSION_SUFFIXES)


@dataclasses.dataclass(frozen=True)
class Located:
    """The location of a module.

    Attributes:
        name: Its name.
        file: Its source file or extension module; None for a package without ``__init__.py``.
        folders: The folders of its submodules; empty if it is not a package.
        beside: The user's folder that is searched first for its imports, or None.
    """

    name: str
    file: Path | None
    folders: tuple[Path, ...] = ()
    beside: Folder | None = None

    @property
    def package(self) -> str:
        """The package to which its relative imports refer; empty outside of packages."""
        return self.name if self.folders else self.name.rpartition(".")[0]


def is_own(module: str) -> bool:
    """Whether a module belongs to advbench or to the standard library."""
    top = module.partition(".")[0]
    return top == "advbench" or top in sys.stdlib_module_names


def locate(name: str, beside: Folder | None = None) -> Located | None:
    """Locates a module without importing it.

    Args:
        name: The name of the module.
        beside: The user's folder that is searched first for the imports of the importing module, or None.

    Returns:
        The location; None if there is no such module, for example because the name is that of a class in a module.
    """
    folder = beside if beside is not None and beside.has(name.partition(".")[0]) else None
    loaded = None if folder else _loaded(name)
    if loaded is not None:
        return loaded
    parent, _, leaf = name.rpartition(".")
    if parent:
        package = locate(parent, beside)
        return None if package is None else _in_folders(name, leaf, package.folders, folder)
    if folder is not None:
        return _in_folders(name, name, (folder.path,), folder)
    return _on_path(name)


def _loaded(name: str) -> Located | None:
    module = sys.modules.get(name)
    if not isinstance(module, types.ModuleType):
        return None
    file = getattr(module, "__file__", None)
    file = file if file and Path(file).is_file() else None  # it is "<stdin>" for piped code
    folders = tuple(Path(folder) for folder in getattr(module, "__path__", ()))
    if file is None and not folders:
        return None
    loader = getattr(module.__spec__, "loader", None)
    return Located(
        name, Path(file) if file else None, folders, loader.folder if isinstance(loader, LocalLoader) else None
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
    namespace = tuple(folder / leaf for folder in folders if (folder / leaf).is_dir())
    return Located(name, None, namespace, beside) if namespace else None


def package_files(root: Path) -> Iterator[Path]:
    """The files of a package, without weights and caches."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
        paths = (Path(folder) / name for name in names)
        yield from (path for path in paths if path.suffix not in _SKIPPED_SUFFIXES and path.is_file())


def content_digest(file: Path) -> str:
    """SHA-256 of the current content of a file; for a very large file, of its size and modification time."""
    status = file.stat()
    if status.st_size > _LARGE:
        return hashlib.sha256(f"{status.st_size}\0{status.st_mtime_ns}".encode()).hexdigest()
    known = (file, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    # An edit within the same clock tick may change neither size nor times, so recently changed files are not cached.
    settled = time.time() - max(status.st_mtime, status.st_ctime) > _SETTLED_SECONDS
    return _cached_digest(*known) if settled else _digest(file)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@functools.lru_cache(maxsize=16384)
def _cached_digest(file: Path, *times: int) -> str:
    del times
    return _digest(file)


_first_seen: dict[str, tuple[object, str]] = {}
"""For each module, its spec and the digest of its file when it was first checked."""


def check_loaded(located: Located, digest: str) -> None:
    """Checks that this process runs the code that is on disk.

    Args:
        located: A module, imported or not.
        digest: The current digest of its file.

    Raises:
        UsageError: The file has changed since it was imported, so results would be stored under the key of other code.
    """
    name = located.name
    module = (located.beside.modules.get(name) if located.beside else None) or sys.modules.get(name)
    if module is None or getattr(module, "__file__", None) != str(located.file):
        return
    executed = vars(module).get(SOURCE_DIGEST)
    if executed is None:
        spec = getattr(module, "__spec__", None) or module  # importlib.reload replaces __spec__
        seen, executed = _first_seen.get(name, (None, ""))
        if seen is not spec:
            executed = digest if _matches_file(module, located.file) else ""
            _first_seen[name] = spec, executed
    if executed != digest:
        raise UsageError(
            f"{located.file} differs from the code that this process has imported as {name}: it was changed after the "
            "import, or within the second in which Python compiled it; restart Python, and remove the __pycache__ "
            "folder beside the file if that does not help"
        )


def _matches_file(module: types.ModuleType, file: Path | None) -> bool:
    """Whether the functions of an imported module equal those in its file; True if that cannot be checked."""
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    # Other loaders than Python's own may transform the source.
    if file is None or type(loader) is not SourceFileLoader or is_installed(file):
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    known = set(_codes(compiled))
    return all(_shape(code) in known for code in _loaded_codes(module, str(file)))


def _loaded_codes(module: types.ModuleType, file: str) -> Iterator[types.CodeType]:
    """The code of the functions of a module, and of the methods of its classes."""
    for value in list(vars(module).values()):
        of_class = isinstance(value, type) and value.__module__ == module.__name__
        for function in list(vars(value).values()) if of_class else [value]:
            function = getattr(function, "__func__", function)  # noqa: PLW2901  unwraps static and class methods
            if isinstance(function, types.FunctionType) and function.__code__.co_filename == file:
                yield function.__code__


def _codes(code: types.CodeType) -> Iterator[Hashable]:
    yield _shape(code)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _shape(code: types.CodeType) -> Hashable:
    """Everything that code does, and its line, as a hashable value."""
    return (
        *(code.co_name, code.co_firstlineno, code.co_code, code.co_names, code.co_varnames),
        tuple(_constant(constant) for constant in code.co_consts),
    )


def _constant(value: object) -> Hashable:
    if isinstance(value, types.CodeType):
        return _shape(value)
    if isinstance(value, tuple):
        return tuple(_constant(item) for item in value)
    return "".join(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)
