"""What code a component is made of, as digests for the keys of the store."""

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
from advbench.api.neighbours import Folder
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

__all__ = ["code_digests", "dependency_versions", "is_library", "look_again", "note_state"]

_OF_FILE = "_advbench_file_"
"""How the names of modules begin that are single files of the user's."""

_states: weakref.WeakKeyDictionary[type[Component], str] = weakref.WeakKeyDictionary()


def code_digests(component: type[Component], more: Sequence[str] = ()) -> dict[str, str]:
    """SHA-256 of the files that the component is made of, by the package that they are in.

    That is the modules that define the component and its base classes, and what these import, at the top or inside
    functions, as their sources say; with all data files of the packages, since a component may read any of them. Where
    a source imports what only running it would tell, the whole package counts. Installed libraries count by their
    versions where the component names them in ``depends_on``, and advbench itself by the store's schema number.

    Files are read once; :func:`look_again` lets the next call read them anew.

    Args:
        component: The class.
        more: Names of further modules that count as well; an installed library's by its version.

    Raises:
        UsageError: This process runs other code than is on disk.
        LookupError: A module has no source.
    """
    return dict(_code_digests(component, tuple(more)))


def look_again() -> None:
    """Lets files be read anew that may have changed."""
    _code_digests.cache_clear()


def note_state(component: type[Component], digest: str) -> None:
    """Lets a digest count as a part of a class's code: what a class that lives in this session alone is made of."""
    _states[component] = digest


def dependency_versions(component: type[Component]) -> dict[str, str]:
    """Versions of the distributions that the component declares to shape its outcome."""
    return {name: _version(name) for name in sorted(component.depends_on)}


def is_library(module: str) -> bool:
    """Whether a module is advbench's, Python's or an installed library's, so that its files are not looked at."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is None or is_own(module) or is_installed(Path(file))


@functools.cache
def _code_digests(component: type[Component], more: tuple[str, ...]) -> dict[str, str]:
    own = [base.__module__ for base in component.__mro__ if not is_own(base.__module__)]
    made_of = _Closure({name.partition(".")[0] for name in own})
    for module in (*own, *(name for name in more if not is_library(name))):
        # What a notebook's cell defines is in no file; its digest says what it is.
        if component not in _states or locate(module) is not None:
            made_of.add(module)
    libraries = {name.partition(".")[0] for name in more if is_library(name)}
    versions = {name: version for name in sorted(libraries) for version in _versions_of(name)}
    state = {"session": _states[component]} if component in _states else {}
    return made_of.digests() | versions | state


@dataclasses.dataclass
class _Package:
    """The files of one package, or of one module outside of any, that count.

    Attributes:
        root: Its folder, or the folder of the module.
        whole: Whether the folder is its own, so that data files in it count.
        files: The sources that count.
    """

    root: Path
    whole: bool
    files: set[Path] = dataclasses.field(default_factory=set)

    def all_files(self) -> set[Path]:
        """What counts."""
        data = {file for file in package_files(self.root) if file.suffix != ".py"} if self.whole else set()
        return self.files | data

    def sources(self) -> set[Path]:
        """Every source that the package has; of a module outside of packages, every one beside it."""
        if self.whole:
            return {file for file in package_files(self.root) if file.suffix == ".py"}
        return {file for file in self.root.glob("*.py") if file.is_file()}


class _Closure:
    """Modules with all that they import from outside the installed libraries.

    Args:
        own: Top-level names of the component's own packages, which count where they are installed, too.
    """

    def __init__(self, own: set[str]) -> None:
        self.own = own
        self.packages: dict[str, _Package] = {}
        self.contents: dict[Path, str] = {}
        self._seen: set[tuple[str, Path | None]] = set()
        self._waiting: list[Located] = []

    def add(self, module: str) -> None:
        """Adds an imported module.

        Raises:
            LookupError: It has no source.
        """
        found = locate(module)
        if found is None or found.file is None:
            raise LookupError(f"module {module} has no source file, so that results with it cannot be keyed")
        self._add(found)
        while self._waiting:
            self._follow(self._waiting.pop())

    def _add(self, found: Located | None) -> None:
        if found is None or (found.name, found.file) in self._seen or is_own(found.name):
            return
        if found.file is not None and is_installed(found.file) and found.name.partition(".")[0] not in self.own:
            return
        self._seen.add((found.name, found.file))
        if found.file is not None:
            self._waiting.append(found)

    def _follow(self, found: Located) -> None:
        """Counts a module's file and looks at what it imports."""
        assert found.file is not None
        package = self._package(found)
        package.files.add(found.file)
        self.contents[found.file] = content_digest(found.file)
        check_loaded(found, self.contents[found.file])
        parent = found.name.rpartition(".")[0]
        if parent:  # whose __init__ runs first
            self._add(locate(parent, found.beside))
        for name in _globals_of(found.name):
            self._add(locate(name, found.beside))
        if found.file.suffix != ".py":
            return
        told = imports_of(found.file.read_bytes(), found.package)
        for name in told.names:
            self._add_named(name, found.beside)
        stars = [locate(name, found.beside) for name in told.stars]
        if not told.readable or any(star is not None and star.folders for star in stars):
            self._add_all(found, package)

    def _add_named(self, name: str, beside: Folder | None) -> None:
        """Adds whatever modules there are of ``a``, ``a.b`` and ``a.b.c``."""
        parts = name.split(".")
        if is_own(parts[0]):
            return
        for end in range(1, len(parts) + 1):
            found = locate(".".join(parts[:end]), beside)
            self._add(found)
            if found is None:
                return

    def _add_all(self, found: Located, package: _Package) -> None:
        """Adds every source of a module's package."""
        for file in package.sources() - package.files:
            inside = file.relative_to(package.root).with_suffix("").parts
            top = [found.name.partition(".")[0]] if package.whole and inside else []
            parts = [part for part in (*top, *inside) if part != "__init__"]
            folders = (file.parent,) if file.stem == "__init__" else ()
            self._add(Located(".".join(parts), file, folders, found.beside))

    def _package(self, found: Located) -> _Package:
        """The package of a module; two folders of a package without ``__init__.py`` are two."""
        assert found.file is not None
        top = found.name.partition(".")[0]
        if "." not in found.name and not found.folders:
            name = f"{found.file.name}" if top.startswith(_OF_FILE) else top
            return self.packages.setdefault(name, _Package(found.file.parent, whole=False))
        outer = found if "." not in found.name else locate(top, found.beside)
        if outer is not None and outer.file is not None and outer.folders:
            return self.packages.setdefault(top, _Package(outer.file.parent, whole=True))
        name = found.name if found.folders else found.name.rpartition(".")[0]
        return self.packages.setdefault(name, _Package(found.file.parent, whole=True))

    def digests(self) -> dict[str, str]:
        """SHA-256 of each package's files."""
        found = {}
        for name, package in sorted(self.packages.items()):
            sha = hashlib.sha256()
            named = {file.relative_to(package.root).as_posix(): file for file in package.all_files()}
            for path, file in sorted(named.items()):
                sha.update(f"{path}\0{self.contents.get(file) or content_digest(file)}\0".encode())
            found[name] = sha.hexdigest()
        return found


def _globals_of(module: str) -> Iterable[str]:
    """Names of the modules that an imported module's globals are, or come from, those of its own package aside.

    Its own package puts every submodule that anybody has imported among its globals.
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
    """What a thing says of where it was defined; nothing where it does not stand the question."""
    try:
        return getattr(value, "__module__", None)
    except Exception:
        return None


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
