"""Modules that lie beside a file of the user's: ``import helper`` finds them there, as when Python runs the file.

Two folders may have a ``helper`` each: every file gets its own, also from an ``import`` inside a function that runs
later. What changed on disk since it was imported is imported anew with the next file of the folder.
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

__all__ = ["FOUND_AS", "Folder", "Source", "folder_of"]

FOUND_AS = "__source_sha256__"
"""The name in a module under which stands the SHA-256 of the source that it ran."""

_lock = threading.RLock()
_folders: dict[Path, Folder] = {}


class Source(SourceFileLoader):
    """Runs the source as it is: bytecode may be that of a file edited to the same size within the second.

    Args:
        folder: The folder of the user's file, in which imports of the module look first.
        name: The module's name.
        path: The source.
    """

    def __init__(self, folder: Folder, name: str, path: str) -> None:
        super().__init__(name, path)
        self.folder = folder

    def path_stats(self, path: Any) -> Mapping[str, Any]:
        """Refuses, which is how no bytecode is read or written."""
        raise OSError(f"{path}: no bytecode is to be read or written")

    def get_data(self, path: Any) -> bytes:
        """Reads the source, and keeps the digest of what it read."""
        content = super().get_data(path)
        self.digest = hashlib.sha256(content).hexdigest()
        return content

    def exec_module(self, module: ModuleType) -> None:
        """Runs the source, whose imports look in the folder first."""
        # An import statement asks the __import__ of the builtins that its module has.
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": self.folder.import_module}
        super().exec_module(module)
        vars(module)[FOUND_AS] = self.digest

    def is_current(self) -> bool:
        """Whether the file still holds what was run."""
        try:
            return hashlib.sha256(Path(self.path).read_bytes()).hexdigest() == getattr(self, "digest", "")
        except OSError:
            return False


class Folder:
    """A folder with a file of the user's.

    Attributes:
        path: The folder.
        modules: The modules that were imported from it, by name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.modules: dict[str, ModuleType] = {}
        self._has: dict[str, bool] = {}

    def has(self, top: str) -> bool:
        """Whether a top-level name is that of a module in the folder; Python's own modules come first."""
        if top not in self._has:
            self._has[top] = top not in sys.stdlib_module_names and self._finds(top)
        return self._has[top]

    def _finds(self, top: str) -> bool:
        spec = self._spec(top, str(self.path))
        if spec is None or spec.loader is not None:
            return spec is not None
        # A folder without __init__.py comes after every installed module, as in Python.
        installed = PathFinder.find_spec(top)
        return installed is None or installed.origin is None

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """Finds a module of the folder, as every finder in ``sys.meta_path`` does."""
        del target
        if not self.has(name.partition(".")[0]):
            return None
        places = [str(self.path)] if path is None else path
        return next((spec for place in places if (spec := self._spec(name, place)) is not None), None)

    def _spec(self, name: str, place: str) -> ModuleSpec | None:
        details = (
            (ExtensionFileLoader, EXTENSION_SUFFIXES),
            (functools.partial(Source, self), [".py"]),
        )
        return FileFinder(place, *details).find_spec(name)  # type: ignore[arg-type]

    def import_module(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        """What ``__import__`` does, looking into the folder first."""
        whole = str((globals or {}).get("__package__") or "") if level else name
        top = whole.partition(".")[0]
        if not top or not self.has(top):
            return builtins.__import__(name, globals, locals, fromlist, level)
        with _lock, self._first(top):
            return builtins.__import__(name, globals, locals, fromlist, level)

    @contextlib.contextmanager
    def _first(self, top: str) -> Iterator[None]:
        """Lets the folder's own modules of a top-level name stand in ``sys.modules`` while the block runs."""
        foreign: dict[str, ModuleType] = {}
        if _owner(sys.modules.get(top)) is not self:
            others = _named(top)
            foreign = {name: module for name, module in others.items() if _owner(module) is None}
            for name in others:
                del sys.modules[name]
            sys.modules.update({name: module for name, module in self.modules.items() if _top(name) == top})
        sys.meta_path.insert(0, self)
        try:
            yield
        finally:
            sys.meta_path.remove(self)
            found = _named(top)
            self.modules.update(found)
            if foreign:
                for name in found:
                    del sys.modules[name]
                sys.modules.update(foreign)

    def forget_changed(self) -> None:
        """Forgets all modules of the folder where one is no longer what its file says."""
        with _lock:
            self._has.clear()
            self.modules.update({name: module for name, module in list(sys.modules.items()) if _owner(module) is self})
            loaders = [getattr(module.__spec__, "loader", None) for module in self.modules.values()]
            if all(loader.is_current() for loader in loaders if isinstance(loader, Source)):
                return
            for name, module in self.modules.items():
                if sys.modules.get(name) is module:
                    del sys.modules[name]
            self.modules.clear()


class _Last:
    """Finds what nothing else does in the folders, the one last used first: for ``importlib.import_module``."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        for folder in reversed(list(_folders.values())):
            spec = folder.find_spec(name, path, target)
            if spec is not None:
                return spec
        return None


_last = _Last()


def folder_of(file: Path) -> Folder:
    """The folder of a file of the user's, in which its imports look first.

    What was found in other folders leaves ``sys.modules``, where ``importlib.import_module`` would take it for a
    module of this one.
    """
    with _lock:
        folder = _folders.pop(file.parent, None) or Folder(file.parent)
        _folders[file.parent] = folder
        for name, module in list(sys.modules.items()):
            owner = _owner(module)
            if owner is not None and owner is not folder:
                owner.modules[name] = module
                del sys.modules[name]
        if _last not in sys.meta_path:
            sys.meta_path.append(_last)
        return folder


def _named(top: str) -> dict[str, ModuleType]:
    return {name: module for name, module in list(sys.modules.items()) if name == top or name.startswith(f"{top}.")}


def _top(name: str) -> str:
    return name.partition(".")[0]


def _owner(module: object) -> Folder | None:
    """The folder in which a module was found by an import; None of other modules, and of the user's file itself."""
    spec = getattr(module, "__spec__", None)
    loader = getattr(spec, "loader", None)
    if isinstance(loader, Source):
        return None if loader.name.startswith("_advbench_file_") else loader.folder
    for place in _places(spec):
        assert spec is not None
        for parent in Path(place).parents:
            if parent in _folders and _folders[parent].has(_top(spec.name)):
                return _folders[parent]
    return None


def _places(spec: Any) -> list[str]:
    """The folders of a package without ``__init__.py``."""
    is_namespace = spec is not None and getattr(spec, "origin", None) is None
    return list(getattr(spec, "submodule_search_locations", None) or []) if is_namespace else []
