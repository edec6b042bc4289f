"""Detects and restores replaced functions, classes and methods on which results depend."""

from __future__ import annotations

import builtins
import contextlib
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from operator import is_, itemgetter
from typing import Any, NamedTuple

import torch

from advbench.process.exits import watch_exits
from advbench.process.libraries import foreign_functions
from advbench.process.watching.function_bodies import FunctionBodies

__all__ = ["PERMANENT", "WatchedAttributes", "watch_attributes", "watched_attributes"]

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
"""Modules whose attributes are watched, without their submodules."""

_PACKAGES = frozenset({
    "torch.nn", "torch.autograd", "torch.backends", "advbench", "torchvision", "PIL", "foolbox", "eagerpy", "skimage",
    "sklearn.cluster", "sklearn.decomposition",
})  # fmt: skip
"""Packages whose attributes are watched, with all submodules."""

PERMANENT = "(which cannot be undone)"
"""How messages mark a change that stays."""

_CONSTANTS = frozenset({"math", "numpy", "torch"})
"""Modules whose constants, such as pi, are watched as well."""

_IGNORED = frozenset({("advbench.evaluation.work.execute", "_progress"), ("torch", "Storage")})
"""An attribute that advbench itself sets, and one that torch changes with its default dtype."""

_BUILTINS = vars(builtins)
_WATCHED_BUILTINS = {
    name: value
    for name, value in _BUILTINS.items()
    if not name.startswith("_") and name not in ("breakpoint", "display", "exit", "help", "input", "print", "quit")
} | {"__import__": __import__, "__build_class__": __build_class__}
"""The built-in functions and classes, without those for interactive use."""

_DESCRIPTORS = (classmethod, staticmethod, property)
_SELF_WRAPPING = ("torchvision", "PIL", "foolbox", "eagerpy", "skimage", "sklearn", "scipy")
"""Libraries that may wrap their own functions when parts of them are first used."""

_WRAPPERS = ("_dynamo/", "_compile.py", "optim/optimizer.py")
"""Files of torch that wrap functions without changing their results: for torch.compile, and for the profiler the steps
of optimizers."""

_ORIGINALS = ("__wrapped__", "_torchdynamo_orig_callable")
_MUTABLE_TYPE = 1 << 9
"""The flag of types whose attributes can be set, which are those that Python code defines."""


class _Namespace(NamedTuple):
    """One module or class.

    Attributes:
        name: What messages call it.
        owner: The module or class.
        members: Its attributes.
        names: The names of the watched attributes; at least two.
        get_values: Reads their values from ``members``.
        values: Their original values.
        size: The original number of all attributes.
        everything: The names and values of all attributes.
    """

    name: str
    owner: Any
    members: Mapping[str, Any]
    names: tuple[str, ...]
    get_values: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    values: tuple[Any, ...]
    size: int
    everything: tuple[list[str], list[Any]]

    def is_current(self, name: str, owner: Any) -> bool:
        """Whether this is what would be made of a module or class now."""
        names, values = self.everything
        same = self.name == name and self.owner is owner and [*self.members] == names
        return same and all(map(is_, [*self.members.values()], values))


class _Change(NamedTuple):
    """An attribute that was replaced or removed, or one that was added and hides another."""

    namespace: _Namespace
    name: str
    added: bool = False


class WatchedAttributes:
    """The callables of the watched modules and of the classes in them, as they are when this object is created.

    Attributes that are added later, such as lazily imported parts of a library, are no change unless they hide a method
    of a base class or a built-in function.

    Args:
        before: Those of an earlier run in this process. What has not changed since is not read again.
    """

    def __init__(self, before: WatchedAttributes | None = None) -> None:
        self._before = {id(one.owner): one for one in before._namespaces} if before is not None else {}
        self._packages = _PACKAGES
        self._modules: dict[str, types.ModuleType] = {}
        self._classes: set[type] = set()
        self._namespaces: list[_Namespace] = []
        self._bodies = FunctionBodies()
        self._module_count = 0
        self.extend()

    def extend(self) -> list[_Namespace]:
        """Also watches the modules that have been imported since; returns these modules and their classes."""
        if len(sys.modules) == self._module_count:
            return []
        known = len(self._namespaces)
        self._module_count = len(sys.modules)
        new = {
            name: module
            for name, module in list(sys.modules.items())
            if name not in self._modules and isinstance(module, types.ModuleType) and self._is_watched(name)
        }
        self._modules |= new
        for name, module in new.items():
            namespace = self._namespace(name, module)
            if namespace is not None:
                self._add(namespace)
                for value in namespace.values:
                    self._add_class(value)
        self._names = tuple(self._modules)
        self._get_modules, self._module_values = itemgetter(*self._names), tuple(self._modules.values())
        return self._namespaces[known:]

    def _foreign(self, namespace: _Namespace) -> list[str]:
        """Functions of a library that are defined in no library; the functions that they replaced are unknown."""
        module = namespace.owner.__module__ if isinstance(namespace.owner, type) else namespace.name
        top = module.partition(".")[0]
        if top == "advbench" or top in self._packages - _PACKAGES:  # plugins may be in any file
            return []
        values = zip(namespace.names, namespace.values, strict=True)
        return [f"{namespace.name}.{name} {PERMANENT}" for name in dict.fromkeys(foreign_functions(module, values))]

    def include(self, packages: frozenset[str]) -> None:
        """Also watches these packages."""
        self._packages |= packages
        self._module_count = 0
        self.extend()

    def changed(self) -> list[_Change]:
        """The changes since, except those of built-in functions."""
        changes: list[_Change] = []
        for index, namespace in enumerate(self._namespaces):
            try:
                same = namespace.get_values(namespace.members) == namespace.values
            except Exception:  # an attribute is missing, or two cannot be compared
                same = False
            if not same:
                changes += _replaced(namespace)
            if len(namespace.members) != namespace.size:
                changes += _hidden(namespace)
                updated = _namespace(namespace.name, namespace.owner)
                if updated is not None and not any(change.namespace is namespace for change in changes):
                    self._namespaces[index] = updated
        return changes

    def restore(self) -> list[str]:
        """Restores changed attributes if their original values are known; returns the names of changed attributes."""
        names = _restore_builtins()  # first, since the following needs them
        names += self._bodies.restore()
        changes = self.changed()
        for namespace, name, added in changes:
            if added:
                delattr(namespace.owner, name)
            else:
                setattr(namespace.owner, name, namespace.values[namespace.names.index(name)])
        names += [f"{namespace.name}.{name}" for namespace, name, _ in changes]
        names += self._restore_modules()
        if not names:
            names += [name for namespace in self.extend() for name in self._foreign(namespace)]
        return names

    def _restore_modules(self) -> list[str]:
        """Restores replaced entries of ``sys.modules``."""
        try:
            if self._get_modules(sys.modules) == self._module_values:
                return []
        except KeyError:
            pass
        replaced = [name for name, module in self._modules.items() if sys.modules.get(name) is not module]
        for name in replaced:
            sys.modules[name] = self._modules[name]
        return [f"sys.modules[{name!r}]" for name in replaced]

    def _is_watched(self, name: str) -> bool:
        if name in _MODULES or name in self._packages:
            return True
        parts = name.split(".")
        return any(".".join(parts[:end]) in self._packages for end in range(1, len(parts)))

    def _add_class(self, value: Any) -> None:
        """Watches a class of a watched module, whichever module refers to it."""
        if not isinstance(value, type) or value in self._classes or not value.__flags__ & _MUTABLE_TYPE:
            return
        if self._is_watched(value.__module__):
            self._classes.add(value)
            namespace = self._namespace(f"{value.__module__}.{value.__qualname__}", value)
            if namespace is not None:
                self._add(namespace)

    def _namespace(self, name: str, owner: Any) -> _Namespace | None:
        before = self._before.get(id(owner))
        return before if before is not None and before.is_current(name, owner) else _namespace(name, owner)

    def _add(self, namespace: _Namespace) -> None:
        self._namespaces.append(namespace)
        self._bodies.add(namespace.values)


def _namespace(name: str, owner: Any) -> _Namespace | None:
    """A module or class with its watched attributes; None if it has none."""
    members = vars(owner)
    names = tuple(key for key, value in list(members.items()) if _is_watched_attribute(name, key, value))
    if not names:
        return None
    names = names if len(names) > 1 else names * 2  # for a single name, itemgetter returns no tuple
    get_values: Callable[[Mapping[str, Any]], tuple[Any, ...]] = itemgetter(*names)
    everything = [*members], [*members.values()]
    return _Namespace(name, owner, members, names, get_values, get_values(members), len(members), everything)


def _is_watched_attribute(namespace: str, name: str, value: Any) -> bool:
    if (namespace, name) in _IGNORED or name in ("__loader__", "__spec__", "__class__"):
        return False
    if isinstance(value, (*_DESCRIPTORS, torch.dtype)) or (type(value) is float and namespace in _CONSTANTS):
        return True
    if isinstance(value, (types.GetSetDescriptorType, types.MemberDescriptorType)):  # slots, such as ``__dict__``
        return False
    return (callable(value) or hasattr(type(value), "__get__")) and getattr(value, "__module__", "") != "typing"


def _replaced(namespace: _Namespace) -> Iterator[_Change]:
    """Attributes that were replaced or removed."""
    missing = object()
    for name, before in dict(zip(namespace.names, namespace.values, strict=True)).items():
        now = namespace.members.get(name, missing)
        if now is not before and not _is_harmless_wrapper(namespace, before, now):
            yield _Change(namespace, name)


def _hidden(namespace: _Namespace) -> Iterator[_Change]:
    """Attributes that were added and hide another one of the same name."""
    known = set(namespace.names)
    if isinstance(namespace.owner, type):
        for name, value in list(namespace.members.items()):
            if name not in known and (callable(value) or hasattr(type(value), "__get__")):
                hidden = next((vars(base)[name] for base in namespace.owner.__mro__[1:] if name in vars(base)), None)
                if hidden is not None and not _is_harmless_wrapper(namespace, hidden, value):
                    yield _Change(namespace, name, added=True)
    else:
        for name, value in list(namespace.members.items()):
            if name not in known and callable(value) and name in vars(builtins):
                yield _Change(namespace, name, added=True)


def _is_harmless_wrapper(namespace: _Namespace, before: Any, now: Any) -> bool:
    """Whether a library has wrapped its own function, or torch any function without changing its results."""
    package = namespace.name.partition(".")[0]
    prefixes = [f"{_folder('torch')}{part}" for part in _WRAPPERS]
    prefixes += [_folder(package)] if package in _SELF_WRAPPING else []
    file = str(getattr(getattr(now, "__code__", None), "co_filename", ""))
    if not any(file.startswith(prefix) for prefix in prefixes):
        return False
    wrapped = [getattr(now, attribute, None) for attribute in _ORIGINALS]
    for cell in getattr(now, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # the cell is empty
            wrapped.append(cell.cell_contents)
    originals = (before, getattr(before, "__wrapped__", before))
    return any(function is original for function in wrapped for original in originals)


def _folder(package: str) -> str:
    """The folder of a package with a separator at its end; a string that starts no path if it is unknown."""
    file = str(getattr(sys.modules.get(package), "__file__", None) or "")
    return file.rpartition("__init__.py")[0] or "\0"


def _restore_builtins() -> list[str]:
    """Restores the built-in functions without calling any, since any may have been replaced."""
    replaced: list[str] = []
    for name in _WATCHED_BUILTINS:
        if name not in _BUILTINS or _BUILTINS[name] is not _WATCHED_BUILTINS[name]:
            _BUILTINS[name] = _WATCHED_BUILTINS[name]
            replaced += [f"builtins.{name}"]
    return replaced


_watched: WatchedAttributes | None = None


def watch_attributes() -> WatchedAttributes:
    """Starts to watch attributes, with their present values."""
    global _watched  # noqa: PLW0603  the attributes belong to the process
    watch_exits()  # first, so that what it replaces counts as original
    _watched = WatchedAttributes(_watched)
    return _watched


def watched_attributes() -> WatchedAttributes:
    """The watched attributes of this process."""
    return _watched or watch_attributes()
