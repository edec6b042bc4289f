"""Digests of the code of components, for the keys of the store."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import sys
import types
import weakref
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from advbench.api import Component
from advbench.api.local_imports import Folder
from advbench.discovery.imports import imports_of
from advbench.discovery.sources import (
    Located,
    check_loaded,
    content_digest,
    is_own,
    locate,
    package_files,
)
from advbench.process.libraries import is_installed

__all__ = ["clear_digest_cache", "code_digests", "dependency_versions", "is_library", "set_session_digest"]

_USER_FILE_PREFIX = "_advbench_file_"
"""Prefix of the module names that single files of the user get."""

_session_digests: weakref.WeakKeyDictionary[type[Component], str] = weakref.WeakKeyDictionary()


def code_digests(component: type[Component], more: Sequence[str] = ()) -> dict[str, str]:
    """SHA-256 of the files that affect a component, for each package.

    These are the modules that define the component and its base classes, the modules that these import (at the top or
    inside functions, according to their source), and all data files of the packages, since a component may read them.
    If a source has imports that are only known when it runs, the whole package is included. Installed libraries are
    covered by their versions if the component names them in ``depends_on``, and advbench itself by the store's schema
    number.

    Files are read once; after :func:`clear_digest_cache`, the next call reads them again.

    Args:
        component: The class.
        more: Names of further modules to include; an installed library is included by its version.

    Returns:
        Digests by the name of the package, and versions by the name of the library.

    Raises:
        UsageError: A file has changed on disk since this process imported it.
        LookupError: A module has no source file.
    """
    return dict(_code_digests(component, tuple(more)))


def clear_digest_cache() -> None:
    """Clears the cache of :func:`code_digests`, so that the next call reads files again."""
    _code_digests.cache_clear()


def set_session_digest(component: type[Component], digest: str) -> None:
    """Adds a digest to the code of a class that is defined in this Python session, such as in a notebook cell."""
    _session_digests[component] = digest


def dependency_versions(component: type[Component]) -> dict[str, str]:
    """Versions of the distributions in the component's ``depends_on``, by name."""
    return {name: _version(name) for name in sorted(component.depends_on)}


def is_library(module: str) -> bool:
    """Whether a module belongs to advbench, Python or an installed library, whose files are not read."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is None or is_own(module) or is_installed(Path(file))


@functools.cache
def _code_digests(component: type[Component], more: tuple[str, ...]) -> dict[str, str]:
    own = [base.__module__ for base in component.__mro__ if not is_own(base.__module__)]
    closure = _Closure({name.partition(".")[0] for name in own})
    for module in (*own, *(name for name in more if not is_library(name))):
        # A class of a notebook cell is in no file; its session digest identifies it.
        if component not in _session_digests or locate(module) is not None:
            closure.add(module)
    libraries = {name.partition(".")[0] for name in more if is_library(name)}
    versions = {name: version for name in sorted(libraries) for version in _versions_of(name)}
    state = {"session": _session_digests[component]} if component in _session_digests else {}
    return closure.digests() | versions | state


@dataclasses.dataclass
class _Package:
    """The files of a package, or of a module outside of packages, that belong to the digest.

    Attributes:
        root: The folder of the package or module.
        has_folder: Whether it has a folder of its own, whose data files belong to the digest.
        files: The source files that belong to the digest.
    """

    root: Path
    has_folder: bool
    files: set[Path] = dataclasses.field(default_factory=set)

    def all_files(self) -> set[Path]:
        """All files that belong to the digest."""
        data = {file for file in package_files(self.root) if file.suffix != ".py"} if self.has_folder else set()
        return self.files | data

    def sources(self) -> set[Path]:
        """All source files of the package; for a module outside of packages, all in its folder."""
        if self.has_folder:
            return {file for file in package_files(self.root) if file.suffix == ".py"}
        return {file for file in self.root.glob("*.py") if file.is_file()}


class _Closure:
    """Modules and everything that they import, except for installed libraries.

    Args:
        own: Top-level names of the component's own packages, which are included even if they are installed.
    """

    def __init__(self, own: set[str]) -> None:
        self.own = own
        self.packages: dict[str, _Package] = {}
        self.contents: dict[Path, str] = {}
        self._seen: set[tuple[str, Path | None]] = set()
        self._waiting: list[Located] = []

    def add(self, module: str) -> None:
        """Adds an imported module and everything that it imports.

        Raises:
            LookupError: The module has no source file.
        """
        located = locate(module)
        if located is None or located.file is None:
            raise LookupError(f"module {module} has no source file, so results with it cannot get a key")
        self._add(located)
        while self._waiting:
            self._follow(self._waiting.pop())

    def _add(self, located: Located | None) -> None:
        if located is None or (located.name, located.file) in self._seen or is_own(located.name):
            return
        if located.file is not None and is_installed(located.file) and located.name.partition(".")[0] not in self.own:
            return
        self._seen.add((located.name, located.file))
        if located.file is not None:
            self._waiting.append(located)

    def _follow(self, located: Located) -> None:
        """Adds the file of a module, and queues the modules that it imports."""
        assert located.file is not None
        package = self._package(located)
        package.files.add(located.file)
        self.contents[located.file] = content_digest(located.file)
        check_loaded(located, self.contents[located.file])
        parent = located.name.rpartition(".")[0]
        if parent:  # importing a module runs the __init__.py of its package first
            self._add(locate(parent, located.beside))
        for name in _globals_of(located.name):
            self._add(locate(name, located.beside))
        if located.file.suffix != ".py":
            return
        imports = imports_of(located.file.read_bytes(), located.package)
        for name in imports.names:
            self._add_named(name, located.beside)
        stars = [locate(name, located.beside) for name in imports.stars]
        if not imports.readable or any(star is not None and star.folders for star in stars):
            self._add_all(located, package)

    def _add_named(self, name: str, beside: Folder | None) -> None:
        """Adds those of the modules ``a``, ``a.b`` and ``a.b.c`` that exist, for the name ``a.b.c``."""
        parts = name.split(".")
        if is_own(parts[0]):
            return
        for end in range(1, len(parts) + 1):
            located = locate(".".join(parts[:end]), beside)
            self._add(located)
            if located is None:
                return

    def _add_all(self, located: Located, package: _Package) -> None:
        """Adds every source file of a module's package."""
        for file in package.sources() - package.files:
            inside = file.relative_to(package.root).with_suffix("").parts
            top = [located.name.partition(".")[0]] if package.has_folder and inside else []
            parts = [part for part in (*top, *inside) if part != "__init__"]
            folders = (file.parent,) if file.stem == "__init__" else ()
            self._add(Located(".".join(parts), file, folders, located.beside))

    def _package(self, located: Located) -> _Package:
        """The package of a module; each folder of a package without ``__init__.py`` is a package of its own."""
        assert located.file is not None
        top = located.name.partition(".")[0]
        if "." not in located.name and not located.folders:
            name = f"{located.file.name}" if top.startswith(_USER_FILE_PREFIX) else top
            return self.packages.setdefault(name, _Package(located.file.parent, has_folder=False))
        outer = located if "." not in located.name else locate(top, located.beside)
        if outer is not None and outer.file is not None and outer.folders:
            return self.packages.setdefault(top, _Package(outer.file.parent, has_folder=True))
        name = located.name if located.folders else located.name.rpartition(".")[0]
        return self.packages.setdefault(name, _Package(located.file.parent, has_folder=True))

    def digests(self) -> dict[str, str]:
        """SHA-256 of the files of each package."""
        digests = {}
        for name, package in sorted(self.packages.items()):
            sha = hashlib.sha256()
            named = {file.relative_to(package.root).as_posix(): file for file in package.all_files()}
            for path, file in sorted(named.items()):
                sha.update(f"{path}\0{self.contents.get(file) or content_digest(file)}\0".encode())
            digests[name] = sha.hexdigest()
        return digests


def _globals_of(module: str) -> Iterable[str]:
    """Names of the modules that the globals of an imported module are, or are defined in.

    Modules of its own package are left out: a package has every imported submodule among its globals.
    """
    loaded = sys.modules.get(module)
    if loaded is None:
        return []
    used, top = set(), module.partition(".")[0]
    for value in list(vars(loaded).values()):
        name = value.__name__ if isinstance(value, types.ModuleType) else _module_of(value)
        if isinstance(name, str) and name.partition(".")[0] != top and name in sys.modules and not is_library(name):
            used.add(name)
    return sorted(used)


def _module_of(value: object) -> object:
    """The module in which a value says that it is defined; None if asking raises."""
    try:
        return getattr(value, "__module__", None)
    except Exception:
        return None


def _versions_of(package: str) -> list[str]:
    """The versions of the distributions that provide a package, as one text; none for the standard library."""
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
