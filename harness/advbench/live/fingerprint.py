"""Fingerprints of live networks and functions: their weights, their values, and the modules with their code.

If a digest missed anything, stored results could be used for other code. So an object that cannot be fully digested
is marked as unknown.
"""

from __future__ import annotations

import copyreg
import dataclasses
import functools
import hashlib
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from advbench.api import state_digest
from advbench.discovery.identity import is_library
from advbench.errors import UsageError

__all__ = ["Fingerprint", "fingerprint"]

_PLAIN = (int, float, complex, str, bytes, bool, type(None), type(...), torch.dtype, torch.device, torch.Size)
_MODULE_STATE = ("_parameters", "_buffers", "_modules", "training")
_CODE = ("co_code", "co_exceptiontable")
_SIGNATURE = ("co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_flags")
_NAMES = ("co_names", "co_varnames", "co_freevars", "co_cellvars")
_IGNORED_IN_CLASSES = ("__module__", "__doc__", "__dict__", "__weakref__", "__annotations__", "__abstractmethods__")
"""Attributes of a class that do not affect what it does, or that follow from the others."""


@dataclasses.dataclass
class Fingerprint:
    """The identity of a live object.

    Attributes:
        modules: Names of the modules with its code.
        unknown: Why it cannot be identified in another session, so that results cannot be reused; empty if it can.
    """

    modules: set[str] = dataclasses.field(default_factory=set)
    unknown: str = ""

    def __post_init__(self) -> None:
        self._sha = hashlib.sha256()
        self._seen: dict[int, tuple[int, Any]] = {}
        self._root = ""  # the name of the live object itself

    @property
    def digest(self) -> str:
        """SHA-256 of its weights and values."""
        return self._sha.hexdigest()

    def add(self, where: str, value: Any) -> None:
        """Adds a value to the digest.

        Args:
            where: The path of the value within the live object, such as ``net.layers[0]``.
            value: Any object.
        """
        if isinstance(value, _PLAIN):
            self._update(where, repr(value).encode())
        elif isinstance(value, (torch.Tensor, np.ndarray)):
            self._add_array(where, value)
        elif isinstance(value, torch.nn.Module):
            self._add_network(where, value)
        elif isinstance(value, (list, dict, set)) and not self._first_visit(where, value):
            pass  # already added; it may contain itself
        elif isinstance(value, (list, tuple, set, frozenset)):
            items = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
            self._update(where, f"{type(value).__name__} of {len(value)}".encode())
            for index, item in enumerate(items):
                self.add(f"{where}[{index}]", item)
            self._add_attributes(where, value)
        elif isinstance(value, dict):
            self._update(where, f"{type(value).__name__} of {len(value)}".encode())
            for key, item in value.items():
                self.add(f"{where}[{key!r}]", item)
            self._add_attributes(where, value)
        elif isinstance(value, (types.ModuleType, type)):
            self._update(where, _named(value).encode())
            self._note_module(where, value)
        elif not self._add_callable(where, value):
            self._add_object(where, value)

    def _add_attributes(self, where: str, value: Any) -> None:
        """Adds the attributes of an object whose class derives from a container or an array."""
        if type(value).__module__ not in ("builtins", "torch", "numpy"):
            self._note_module(where, type(value))
        if getattr(value, "__dict__", None):
            self.add(f"{where}: attributes", vars(value))

    def _add_callable(self, where: str, value: Any) -> bool:
        """Adds a function, a method or code; returns False for any other object."""
        if isinstance(value, types.MethodType):
            self.add(f"{where}.__self__", value.__self__)
            self.add(where, value.__func__)
        elif isinstance(value, types.FunctionType):
            self._add_function(where, value)
        elif isinstance(value, types.CodeType):
            self._add_code(where, value)
        elif isinstance(value, types.BuiltinFunctionType):
            self._add_builtin(where, value)
        elif isinstance(value, np.ufunc) and any(item is value for item in vars(np).values()):
            self._update(where, repr(value).encode())
        else:
            return False
        return True

    def _add_builtin(self, where: str, value: types.BuiltinFunctionType) -> None:
        """Adds a function or bound method that is implemented in C."""
        self._update(where, _named(value).encode())
        if value.__self__ is not None and not isinstance(value.__self__, types.ModuleType):
            self.add(f"{where}.__self__", value.__self__)

    def _first_visit(self, where: str, value: Any) -> bool:
        """Whether an object is visited for the first time; otherwise adds a reference to the first visit."""
        if id(value) in self._seen:
            self._update(where, f"the same as {self._seen[id(value)][0]}".encode())
            return False
        self._seen[id(value)] = len(self._seen), value  # kept alive, so that no other object gets its id
        return True

    def _update(self, where: str, content: bytes) -> None:
        self._sha.update(f"{where}\0{len(content)}\0".encode())
        self._sha.update(content)

    def _mark_unknown(self, reason: str) -> None:
        self.unknown = self.unknown or reason

    def _add_array(self, where: str, value: torch.Tensor | np.ndarray[Any, Any]) -> None:
        if isinstance(value, torch.Tensor):
            if is_lazy(value):
                raise UsageError(
                    f"{where} belongs to a lazy layer that has no shape yet; call the network on an image first"
                )
            holder = torch.nn.Module()
            holder.register_buffer("kept", value.detach())
            self._update(where, state_digest(holder).encode())
        else:
            array = np.ascontiguousarray(value)
            self._update(where, f"{array.dtype}{tuple(array.shape)}".encode())
            if array.dtype == object:
                self._mark_unknown(f"{where} is an array of objects")
            else:
                self._sha.update(array.tobytes())
        self._add_attributes(where, value)

    def _add_network(self, where: str, network: torch.nn.Module) -> None:
        if not self._first_visit(where, network):
            return
        for name, part in network.named_modules():
            path = f"{where}.{name}" if name else where
            self._update(path, type(part).__qualname__.encode())
            if where != self._root:  # the live network itself is always evaluated in eval mode
                self._update(f"{path}.training", repr(getattr(part, "training", False)).encode())
            self._note_module(path, type(part))
            for key, value in vars(part).items():
                if key in ("_parameters", "_buffers"):
                    for own, tensor in value.items():
                        self.add(f"{path}.{own}", tensor)
                elif "_hooks" in key:
                    if value:
                        self._mark_unknown(f"{path} has hooks")
                elif key not in _MODULE_STATE and not key.startswith("_backward"):
                    self.add(f"{path}.{key}", value)

    def _add_function(self, where: str, function: types.FunctionType) -> None:
        if not self._first_visit(where, function):
            return
        self._update(where, _named(function).encode())
        self._note_module(where, function)
        if is_library(function.__module__):
            # Its name identifies a library function, unless it was created by a call and holds values of that call.
            if function.__closure__:
                self._add_closure(where, function)
            return
        self._add_code(where, function.__code__)
        self._add_closure(where, function)
        self.add(f"{where}: attributes", vars(function))
        names = list(dict.fromkeys(_names_in(function.__code__)))
        for name in names:
            if name in function.__globals__:
                value = function.__globals__[name]
                self.add(f"{where}: {name}", value)
                self._add_attributes_used(f"{where}: {name}", value, names)
            elif name in sys.modules:  # the function may import it
                self._add_attributes_used(f"{where}: {name}", sys.modules[name], names)

    def _add_closure(self, where: str, function: types.FunctionType) -> None:
        """Adds the defaults of a function, and the variables of enclosing functions that it uses."""
        self.add(f"{where}: defaults", function.__defaults__)
        self.add(f"{where}: defaults", function.__kwdefaults__)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # an empty cell
                continue
            self.add(f"{where}: {name}", value)

    def _add_code(self, where: str, code: types.CodeType) -> None:
        """Adds code with its constants and names, including the functions, comprehensions and classes in it."""
        for name in _CODE:
            self._update(f"{where}.{name}", getattr(code, name, b""))
        names = [getattr(code, name) for name in (*_SIGNATURE, *_NAMES)]
        self._update(f"{where}.names", repr(names).encode())
        for index, constant in enumerate(code.co_consts):
            self.add(f"{where}.co_consts[{index}]", constant)

    def _add_attributes_used(self, where: str, value: Any, names: Sequence[str], depth: int = 3) -> None:
        """Adds the attributes that code may use of a user's module, or of modules inside it."""
        if not isinstance(value, types.ModuleType) or is_library(value.__name__) or not depth:
            return
        for name in names:
            if name in vars(value):
                attribute = vars(value)[name]
                self.add(f"{where}.{name}", attribute)
                self._add_attributes_used(f"{where}.{name}", attribute, names, depth - 1)

    def _add_object(self, where: str, value: Any) -> None:
        """Adds any other object by its pickled state; objects without one are marked as unknown."""
        if not self._first_visit(where, value):
            return
        if isinstance(value, functools.partial):
            self.add(where, ["partial", value.func, value.args, value.keywords])
            return
        if isinstance(value, property):
            self.add(where, ["property", value.fget, value.fset])
            return
        if isinstance(value, (staticmethod, classmethod)):
            self.add(where, [type(value).__name__, value.__func__])
            return
        if isinstance(value, functools._lru_cache_wrapper):
            self.add(where, ["lru_cache", value.__wrapped__])
            return
        if isinstance(value, (functools.cached_property, functools.partialmethod)):
            self.add(where, list(vars(value).values()))
            return
        try:
            reduced = value.__reduce_ex__(2)
        except Exception:
            reduced = None
        if isinstance(reduced, str):  # a global name in its module
            self._update(where, f"{_named(type(value))} {reduced}".encode())
            self._note_module(where, value)
            return
        make, args, state, *more = (*(reduced or (None, ())), None, None, None)[:5]
        if not _is_plain(value, make, args, state) or any(item is not None for item in more):
            self._mark_unknown(f"{where} is a {type(value).__name__}, whose state cannot be determined")
            return
        self._update(where, _named(type(value)).encode())
        self._note_module(where, type(value))
        if make is not copyreg.__newobj__:  # type: ignore[attr-defined]
            self.add(f"{where}: made of", list(args))
        self.add(where, _slots(state) or {})

    def _note_module(self, where: str, value: Any) -> None:
        """Records the module with the code of a value; adds a user's class with the values that its methods use."""
        module = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
        if not module or module == "builtins" or module in sys.stdlib_module_names:
            return
        if not _has_file(module):
            self._mark_unknown(f"the code of {where} is not in a file")
            return
        self.modules.add(module)
        if not is_library(module) and isinstance(value, type):
            self._add_class(where, value)

    def _add_class(self, where: str, value: type) -> None:
        """Adds a user's class: its bases, its methods with the values that they use, and its attributes."""
        if not self._first_visit(where, value):
            return
        for index, base in enumerate(value.__bases__):
            self._update(f"{where}: base {index}", _named(base).encode())
            self._note_module(f"{where}: base {index}", base)
        for name, member in vars(value).items():
            if name in _IGNORED_IN_CLASSES or name.startswith(("_abc_", "__dataclass_")):
                continue
            if isinstance(member, (types.MemberDescriptorType, types.GetSetDescriptorType)):
                continue  # descriptors of slots
            self.add(f"{where}.{name}", member)


def _is_plain(value: Any, make: Any, args: Any, state: Any) -> bool:
    """Whether an object is determined by its class, constructor arguments and state."""
    if make is copyreg.__newobj__:  # type: ignore[attr-defined]
        return args == (type(value),) and isinstance(_slots(state), (dict, type(None)))
    return (
        isinstance(make, type) and make is type(value) and state is None
    )  # for example a member of an enum, a path or a date


def _slots(state: Any) -> Any:
    """Merges the attributes and slots of a pickled state into one dictionary."""
    if isinstance(state, tuple) and len(state) == 2 and all(isinstance(part, (dict, type(None))) for part in state):
        return {**(state[0] or {}), **(state[1] or {})}
    return state


def _named(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', getattr(value, '__name__', ''))}"


def fingerprint(name: str, value: Any) -> Fingerprint:
    """Computes the fingerprint of a live object.

    Args:
        name: The name that the user gave it, for messages.
        value: The object.
    """
    result = Fingerprint()
    result._root = name
    result.add(name, value)
    return result


def _has_file(module: str) -> bool:
    """Whether a module is in a file, in contrast to code that is typed, piped or in a notebook cell."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and Path(file).is_file()


def _names_in(code: types.CodeType) -> Iterator[str]:
    """The names used by code and by the functions in it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)
