"""Imports of modules in the folder of a user's file, so that ``import helper`` works as when Python runs the file.

Two folders may each have a ``helper``: every file imports the one in its own folder, even if the ``import`` statement
is in a function that runs later. A module that has changed on disk is imported again when the next file of the folder
is imported.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import hashlib
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
)
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["SOURCE_DIGEST", "Folder", "LocalLoader", "folder_of"]

SOURCE_DIGEST = "__source_sha256__"
"""Name of the module attribute that holds the SHA-256 of the source that was executed."""

_lock = threading.RLock()
_folders: dict[Path, Folder] = {}


class LocalLoader(SourceFileLoader):
    """Executes a module from its source, never from bytecode, and searches its folder first for its imports.

    Cached bytecode is identified by size and time in seconds, so it may be out of date after a quick edit.

    Args:
        folder: The folder of the user's file.
        name: The module's name.
        path: The source file.
    """

    def __init__(self, folder: Folder, name: str, path: str) -> None:
        super().__init__(name, path)
        self.folder = folder

    def path_stats(self, path: Any) -> Mapping[str, Any]:
        """Raises OSError; the base class then neither reads nor writes bytecode."""
        raise OSError(f"{path}: bytecode is not used")

    def get_data(self, path: Any) -> bytes:
        """Reads the source and remembers its digest."""
        content = super().get_data(path)
        self.digest = hashlib.sha256(content).hexdigest()
        return content

    def exec_module(self, module: ModuleType) -> None:
        """Executes the source with an ``__import__`` that searches the folder first."""
        # An import statement calls __import__ of its module's own builtins.
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": self.folder.import_module}
        super().exec_module(module)
        vars(module)[SOURCE_DIGEST] = self.digest

    def is_current(self) -> bool:
        """Whether the file still has the content that was executed."""
        try:
            return hashlib.sha256(Path(self.path).read_bytes()).hexdigest() == getattr(self, "digest", "")
        except OSError:
            return False


class Folder:
    """A folder with a user's file, whose modules that file can import.

    Attributes:
        path: The folder.
        modules: The modules imported from it, by name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.modules: dict[str, ModuleType] = {}
        self._known: dict[str, bool] = {}

    def has(self, top: str) -> bool:
        """Whether the folder has a module of this top-level name; the standard library takes precedence."""
        if top not in self._known:
            self._known[top] = top not in sys.stdlib_module_names and self._contains(top)
        return self._known[top]

    def _contains(self, top: str) -> bool:
        spec = self._spec(top, str(self.path))
        if spec is None or spec.loader is not None:
            return spec is not None
        # As in Python, a folder without __init__.py comes after every installed module.
        installed = PathFinder.find_spec(top)
        return installed is None or installed.origin is None

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """Finds a module of the folder; the protocol of the finders in ``sys.meta_path``."""
        del target
        if not self.has(name.partition(".")[0]):
            return None
        folders = [str(self.path)] if path is None else path
        return next((spec for folder in folders if (spec := self._spec(name, folder)) is not None), None)

    def _spec(self, name: str, folder: str) -> ModuleSpec | None:
        details = (
            (ExtensionFileLoader, EXTENSION_SUFFIXES),
            (functools.partial(LocalLoader, self), [".py"]),
        )
        return FileFinder(folder, *details).find_spec(name)  # type: ignore[arg-type]

    def import_module(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        """Works as ``__import__``, but searches the folder first."""
        absolute = str((globals or {}).get("__package__") or "") if level else name
        top = absolute.partition(".")[0]
        if not top or not self.has(top):
            return builtins.__import__(name, globals, locals, fromlist, level)
        with _lock, self._first(top):
            return builtins.__import__(name, globals, locals, fromlist, level)

    @contextlib.contextmanager
    def _first(self, top: str) -> Iterator[None]:
        """Puts the folder's own modules of a top-level name into ``sys.modules`` while the block runs."""
        foreign: dict[str, ModuleType] = {}
        if _owner(sys.modules.get(top)) is not self:
            others = _loaded(top)
            foreign = {name: module for name, module in others.items() if _owner(module) is None}
            for name in others:
                del sys.modules[name]
            sys.modules.update({name: module for name, module in self.modules.items() if _top(name) == top})
        sys.meta_path.insert(0, self)
        try:
            yield
        finally:
            sys.meta_path.remove(self)
            imported = _loaded(top)
            self.modules.update(imported)
            if foreign:
                for name in imported:
                    del sys.modules[name]
                sys.modules.update(foreign)

    def forget_changed(self) -> None:
        """Forgets all modules of the folder if the file of any of them has changed."""
        with _lock:
            self._known.clear()
            self.modules.update({name: module for name, module in list(sys.modules.items()) if _owner(module) is self})
            loaders = [getattr(module.__spec__, "loader", None) for module in self.modules.values()]
            if all(loader.is_current() for loader in loaders if isinstance(loader, LocalLoader)):
                return
            for name, module in self.modules.items():
                if sys.modules.get(name) is module:
                    del sys.modules[name]
            self.modules.clear()


class _FallbackFinder:
    """Searches all folders, the last used first, for modules that no other finder finds.

    It serves ``importlib.import_module``, which does not call the ``__import__`` of a module.
    """

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        for folder in reversed(list(_folders.values())):
            spec = folder.find_spec(name, path, target)
            if spec is not None:
                return spec
        return None


_fallback = _FallbackFinder()


def folder_of(file: Path) -> Folder:
    """The folder of a user's file, which is searched first for the imports of the file.

    Modules of other folders are removed from ``sys.modules``; ``importlib.import_module`` would return them for modules
    of this folder.
    """
    with _lock:
        folder = _folders.pop(file.parent, None) or Folder(file.parent)
        _folders[file.parent] = folder
        for name, module in list(sys.modules.items()):
            owner = _owner(module)
            if owner is not None and owner is not folder:
                owner.modules[name] = module
                del sys.modules[name]
        if _fallback not in sys.meta_path:
            sys.meta_path.append(_fallback)
        return folder


def _loaded(top: str) -> dict[str, ModuleType]:
    """The modules in ``sys.modules`` of one top-level name."""
    return {name: module for name, module in list(sys.modules.items()) if name == top or name.startswith(f"{top}.")}


def _top(name: str) -> str:
    return name.partition(".")[0]


def _owner(module: object) -> Folder | None:
    """The folder from which an import took a module; None for other modules, and for the user's file itself."""
    spec = getattr(module, "__spec__", None)
    loader = getattr(spec, "loader", None)
    if isinstance(loader, LocalLoader):
        return None if loader.name.startswith("_advbench_file_") else loader.folder
    for folder in _namespace_folders(spec):
        assert spec is not None
        for parent in Path(folder).parents:
            if parent in _folders and _folders[parent].has(_top(spec.name)):
                return _folders[parent]
    return None


def _namespace_folders(spec: Any) -> list[str]:
    """The folders of a package without ``__init__.py``."""
    is_namespace = spec is not None and getattr(spec, "origin", None) is None
    return list(getattr(spec, "submodule_search_locations", None) or []) if is_namespace else []
