"""The functions, classes and methods that results depend on: which of them have been replaced, and by what."""

from __future__ import annotations

import builtins
import contextlib
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from typing import Any, NamedTuple

import torch

from advbench.process.exits import watch_exits
from advbench.process.function_bodies import Bodies
from advbench.process.libraries import foreign_functions

__all__ = ["LASTING", "Attributes", "watch_attributes", "watched_attributes"]

_MODULES = frozenset({
    "base64", "bisect", "collections", "contextlib", "copy", "dataclasses", "functools", "hashlib", "heapq", "inspect",
    "io", "itertools", "json", "json.decoder", "json.encoder", "math", "cmath", "operator", "os", "os.path", "pathlib",
    "pickle", "random", "re", "statistics", "struct", "tempfile", "time", "zlib",
    "torch", "torch._C._nn", "torch._tensor", "torch.functional", "torch.linalg", "torch.fft", "torch.special",
    "torch.random", "torch.overrides", "torch.serialization", "torch.cuda", "torch.cuda.random", "torch.optim",
    "torch.optim.adam", "torch.optim.adamw", "torch.optim.optimizer", "torch.optim.sgd", "torch.distributions",
    "torch.utils.data", "torch.utils.checkpoint", "safetensors", "safetensors.torch",
    "numpy", "numpy.random", "numpy.linalg", "numpy.linalg._linalg", "numpy.fft", "numpy.ma", "numpy._core._methods",
    "numpy._core.fromnumeric", "numpy._core.numeric", "numpy._core.multiarray", "numpy._core.umath",
    "numpy.core._methods", "numpy.core.fromnumeric", "numpy.core.numeric", "numpy.core.multiarray", "numpy.core.umath",
    "scipy", "scipy.fft", "scipy.linalg", "scipy.ndimage", "scipy.ndimage._filters", "scipy.ndimage._interpolation",
    "scipy.optimize", "scipy.signal", "scipy.special", "scipy.stats", "sklearn", "sklearn.base",
})  # fmt: skip
"""Modules whose attributes are watched by themselves."""

_PACKAGES = frozenset({
    "torch.nn", "torch.autograd", "torch.backends", "advbench", "torchvision", "PIL", "foolbox", "eagerpy", "skimage",
    "sklearn.cluster", "sklearn.decomposition",
})  # fmt: skip
"""Packages that are watched with all modules in them."""

LASTING = "(which cannot be put back)"
"""What messages say of a change that stays."""

_CONSTANTS = frozenset({"math", "numpy", "torch"})
"""Modules whose numbers, such as pi, are watched, too."""

_FREE = frozenset({("advbench.evaluation.work.execute", "_progress"), ("torch", "Storage")})
"""What advbench itself replaces, and what torch does along with its default dtype."""

_BUILTINS = vars(builtins)
_KEPT = {
    name: value
    for name, value in _BUILTINS.items()
    if not name.startswith("_") and name not in ("breakpoint", "display", "exit", "help", "input", "print", "quit")
} | {"__import__": __import__, "__build_class__": __build_class__}
"""The built-in functions and classes; the others are for people, and no result depends on them."""

_DESCRIPTORS = (classmethod, staticmethod, property)
_SELF_MADE = ("torchvision", "PIL", "foolbox", "eagerpy", "skimage", "sklearn", "scipy")
"""Libraries that may replace functions of their own by wrappers when parts of them are first used."""

_WRAPPERS = ("_dynamo/", "_compile.py", "optim/optimizer.py")
"""The files of torch that wrap functions, those of torch too, so that they compute the same: for torch.compile, and the
steps of optimizers for the profiler."""

_ORIGINALS = ("__wrapped__", "_torchdynamo_orig_callable")
_MUTABLE_TYPE = 1 << 9
"""The flag of types that Python code defines; attributes of others cannot be set."""


class _Space(NamedTuple):
    """One module or class.

    Attributes:
        name: What messages call it.
        owner: The module or class.
        holds: Its attributes.
        names: Of those that are watched, and of two at least.
        take: Takes these from ``holds``.
        values: What they were.
        size: How many attributes it had in all.
    """

    name: str
    owner: Any
    holds: Mapping[str, Any]
    names: tuple[str, ...]
    take: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    values: tuple[Any, ...]
    size: int


class _Change(NamedTuple):
    """An attribute that was replaced, removed, or hidden by another, which was added."""

    space: _Space
    name: str
    added: bool = False


class Attributes:
    """The callables of the watched modules and of the classes in them, as they are when this is made.

    Attributes that are added later, as lazily imported parts of a library are, are no change, unless they hide a
    method of a base class or a built-in function.

    """

    def __init__(self) -> None:
        self._packages = _PACKAGES
        self._modules: dict[str, types.ModuleType] = {}
        self._classes: set[type] = set()
        self._spaces: list[_Space] = []
        self._bodies = Bodies()
        self._loaded = 0
        self.extend()

    def extend(self) -> list[_Space]:
        """Watches what has been imported since, too; the modules and classes of it."""
        if len(sys.modules) == self._loaded:
            return []
        known = len(self._spaces)
        self._loaded = len(sys.modules)
        fresh = {
            name: module
            for name, module in list(sys.modules.items())
            if name not in self._modules and isinstance(module, types.ModuleType) and self._is_watched(name)
        }
        self._modules |= fresh
        for name, module in fresh.items():
            space = _space(name, module)
            if space is not None:
                self._add(space)
                for value in space.values:
                    self._add_class(value)
        self._names = tuple(self._modules)
        self._take, self._held = itemgetter(*self._names), tuple(self._modules.values())
        return self._spaces[known:]

    def _foreign(self, space: _Space) -> list[str]:
        """The functions of a library that no library defines; the ones that they have replaced cannot be known."""
        module = space.owner.__module__ if isinstance(space.owner, type) else space.name
        top = module.partition(".")[0]
        if top == "advbench" or top in self._packages - _PACKAGES:  # plugins may use functions of any file
            return []
        values = zip(space.names, space.values, strict=True)
        return [f"{space.name}.{name} {LASTING}" for name in dict.fromkeys(foreign_functions(module, values))]

    def include(self, packages: frozenset[str]) -> None:
        """Watches these packages, too."""
        self._packages |= packages
        self._loaded = 0
        self.extend()

    def changed(self) -> list[_Change]:
        """What is no longer as it was, but for built-in functions."""
        found: list[_Change] = []
        for place, space in enumerate(self._spaces):
            try:
                same = space.take(space.holds) == space.values
            except Exception:  # one is missing, or two cannot be compared
                same = False
            if not same:
                found += _replaced(space)
            if len(space.holds) != space.size:
                found += _hidden(space)
                again = _space(space.name, space.owner)
                if again is not None and not any(change.space is space for change in found):
                    self._spaces[place] = again
        return found

    def put_back(self) -> list[str]:
        """Makes all of them what they were, where that is known; the names of those that were not."""
        found = _put_builtins_back()  # first: what looks for the others needs them
        found += self._bodies.put_back()
        changes = self.changed()
        for space, name, added in changes:
            if added:
                delattr(space.owner, name)
            else:
                setattr(space.owner, name, space.values[space.names.index(name)])
        found += [f"{space.name}.{name}" for space, name, _ in changes]
        found += self._put_modules_back()
        if not found:
            found += [name for space in self.extend() for name in self._foreign(space)]
        return found

    def _put_modules_back(self) -> list[str]:
        """Lets the names of modules stand for what they did."""
        try:
            if self._take(sys.modules) == self._held:
                return []
        except KeyError:
            pass
        found = [name for name, module in self._modules.items() if sys.modules.get(name) is not module]
        for name in found:
            sys.modules[name] = self._modules[name]
        return [f"sys.modules[{name!r}]" for name in found]

    def _is_watched(self, name: str) -> bool:
        if name in _MODULES or name in self._packages:
            return True
        parts = name.split(".")
        return any(".".join(parts[:end]) in self._packages for end in range(1, len(parts)))

    def _add_class(self, value: Any) -> None:
        """Watches a class of a watched module, wherever it was found."""
        if not isinstance(value, type) or value in self._classes or not value.__flags__ & _MUTABLE_TYPE:
            return
        if self._is_watched(value.__module__):
            self._classes.add(value)
            space = _space(f"{value.__module__}.{value.__qualname__}", value)
            if space is not None:
                self._add(space)

    def _add(self, space: _Space) -> None:
        self._spaces.append(space)
        self._bodies.add(space.values)


def _space(name: str, owner: Any) -> _Space | None:
    """A module or class with what is watched in it; None where that is nothing."""
    holds = vars(owner)
    names = tuple(key for key, value in list(holds.items()) if _counts(name, key, value))
    if not names:
        return None
    names = names if len(names) > 1 else names * 2  # of one name, itemgetter gives no tuple
    take: Callable[[Mapping[str, Any]], tuple[Any, ...]] = itemgetter(*names)
    return _Space(name, owner, holds, names, take, take(holds), len(holds))


def _counts(space: str, name: str, value: Any) -> bool:
    if (space, name) in _FREE or name in ("__loader__", "__spec__", "__class__"):
        return False
    if isinstance(value, (*_DESCRIPTORS, torch.dtype)) or (type(value) is float and space in _CONSTANTS):
        return True
    return callable(value) and getattr(value, "__module__", "") != "typing"


def _replaced(space: _Space) -> Iterator[_Change]:
    missing = object()
    for name, before in dict(zip(space.names, space.values, strict=True)).items():
        now = space.holds.get(name, missing)
        if now is not before and not _is_of_its_own(space, before, now):
            yield _Change(space, name)


def _hidden(space: _Space) -> Iterator[_Change]:
    """What was added and hides something else of the same name."""
    known = set(space.names)
    if isinstance(space.owner, type):
        for name, value in list(space.holds.items()):
            if name not in known and (callable(value) or hasattr(type(value), "__get__")):
                hidden = next((vars(base)[name] for base in space.owner.__mro__[1:] if name in vars(base)), None)
                if hidden is not None and not _is_of_its_own(space, hidden, value):
                    yield _Change(space, name, added=True)
    else:
        for name, value in list(space.holds.items()):
            if name not in known and callable(value) and name in vars(builtins):
                yield _Change(space, name, added=True)


def _is_of_its_own(space: _Space, before: Any, now: Any) -> bool:
    """Whether a library has wrapped a function of its own, or torch any so that it computes the same."""
    package = space.name.partition(".")[0]
    places = [f"{_folder('torch')}{part}" for part in _WRAPPERS]
    places += [_folder(package)] if package in _SELF_MADE else []
    file = str(getattr(getattr(now, "__code__", None), "co_filename", ""))
    if not any(file.startswith(place) for place in places):
        return False
    wrapped = [getattr(now, attribute, None) for attribute in _ORIGINALS]
    for cell in getattr(now, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # it is empty
            wrapped.append(cell.cell_contents)
    originals = (before, getattr(before, "__wrapped__", before))
    return any(one is original for one in wrapped for original in originals)


def _folder(package: str) -> str:
    """Where the files of a package are, with the mark that ends folders; a name of none where that is not known."""
    file = str(getattr(sys.modules.get(package), "__file__", None) or "")
    return file.rpartition("__init__.py")[0] or "\0"


def _put_builtins_back() -> list[str]:
    """Makes the built-in functions what they were, and uses none: any may have been replaced."""
    found: list[str] = []
    for name in _KEPT:
        if name not in _BUILTINS or _BUILTINS[name] is not _KEPT[name]:
            _BUILTINS[name] = _KEPT[name]
            found += [f"builtins.{name}"]
    return found


_watched: Attributes | None = None


def watch_attributes() -> Attributes:
    """Watches the attributes as they are now."""
    global _watched  # noqa: PLW0603  what they are is a matter of the process
    watch_exits()  # before: what it replaces is replaced by no component
    _watched = Attributes()
    return _watched


def watched_attributes() -> Attributes:
    """The attributes that this process watches."""
    return _watched or watch_attributes()
