"""What identifies a live network or function: its weights, its values, and the modules that hold its code.

A digest that misses something would let stored results stand for other code, so that whatever cannot be told is said.
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
_OF_MODULES = ("_parameters", "_buffers", "_modules", "training")
_CODE = ("co_code", "co_exceptiontable")
_SIGNATURE = ("co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_flags")
_NAMES = ("co_names", "co_varnames", "co_freevars", "co_cellvars")
_OF_CLASSES = ("__module__", "__doc__", "__dict__", "__weakref__", "__annotations__", "__abstractmethods__")
"""What of a class is no part of what it does, or follows from the rest."""


@dataclasses.dataclass
class Fingerprint:
    """What is known of a live object.

    Attributes:
        modules: Names of the modules whose code it is.
        unknown: Why results with it cannot be kept for another session, in words; empty where they can.
    """

    modules: set[str] = dataclasses.field(default_factory=set)
    unknown: str = ""

    def __post_init__(self) -> None:
        self._sha = hashlib.sha256()
        self._seen: dict[int, tuple[int, Any]] = {}
        self._asked = ""  # under which name a network stands that is the live object itself

    @property
    def digest(self) -> str:
        """SHA-256 of its weights and values."""
        return self._sha.hexdigest()

    def add(self, where: str, value: Any) -> None:
        """Takes in a value under the name where it stands."""
        if isinstance(value, _PLAIN):
            self._tell(where, repr(value).encode())
        elif isinstance(value, (torch.Tensor, np.ndarray)):
            self._array(where, value)
        elif isinstance(value, torch.nn.Module):
            self._network(where, value)
        elif isinstance(value, (list, dict, set)) and not self._is_new(where, value):
            pass  # it may hold itself
        elif isinstance(value, (list, tuple, set, frozenset)):
            items = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
            self._tell(where, f"{type(value).__name__} of {len(value)}".encode())
            for place, item in enumerate(items):
                self.add(f"{where}[{place}]", item)
            self._attributes(where, value)
        elif isinstance(value, dict):
            self._tell(where, f"{type(value).__name__} of {len(value)}".encode())
            for key, item in value.items():
                self.add(f"{where}[{key!r}]", item)
            self._attributes(where, value)
        elif isinstance(value, (types.ModuleType, type)):
            self._tell(where, _named(value).encode())
            self._code_of(where, value)
        elif not self._callable(where, value):
            self._object(where, value)

    def _attributes(self, where: str, value: Any) -> None:
        """What an object of a class derived from a container or an array holds beside its items."""
        if type(value).__module__ not in ("builtins", "torch", "numpy"):
            self._code_of(where, type(value))
        if getattr(value, "__dict__", None):
            self.add(f"{where}: attributes", vars(value))

    def _callable(self, where: str, value: Any) -> bool:
        """Takes in a function, a method or code; not any other thing."""
        if isinstance(value, types.MethodType):
            self.add(f"{where}.__self__", value.__self__)
            self.add(where, value.__func__)
        elif isinstance(value, types.FunctionType):
            self._function(where, value)
        elif isinstance(value, types.CodeType):
            self._code(where, value)
        elif isinstance(value, types.BuiltinFunctionType):
            self._builtin(where, value)
        elif isinstance(value, np.ufunc) and any(one is value for one in vars(np).values()):
            self._tell(where, repr(value).encode())
        else:
            return False
        return True

    def _builtin(self, where: str, value: types.BuiltinFunctionType) -> None:
        """A function in C, or such a method of an object."""
        self._tell(where, _named(value).encode())
        if value.__self__ is not None and not isinstance(value.__self__, types.ModuleType):
            self.add(f"{where}.__self__", value.__self__)

    def _is_new(self, where: str, value: Any) -> bool:
        """Whether a thing is met for the first time; of others it is told which they are."""
        if id(value) in self._seen:
            self._tell(where, f"the same as {self._seen[id(value)][0]}".encode())
            return False
        self._seen[id(value)] = len(self._seen), value  # kept, so that no other thing takes its id
        return True

    def _tell(self, where: str, content: bytes) -> None:
        self._sha.update(f"{where}\0{len(content)}\0".encode())
        self._sha.update(content)

    def _give_up(self, reason: str) -> None:
        self.unknown = self.unknown or reason

    def _array(self, where: str, value: torch.Tensor | np.ndarray[Any, Any]) -> None:
        if isinstance(value, torch.Tensor):
            if is_lazy(value):
                raise UsageError(
                    f"{where} is of a lazy layer that has no shape yet; let the network classify an image first"
                )
            holder = torch.nn.Module()
            holder.register_buffer("kept", value.detach())
            self._tell(where, state_digest(holder).encode())
        else:
            array = np.ascontiguousarray(value)
            self._tell(where, f"{array.dtype}{tuple(array.shape)}".encode())
            if array.dtype == object:
                self._give_up(f"{where} is an array of objects")
            else:
                self._sha.update(array.tobytes())
        self._attributes(where, value)

    def _network(self, where: str, network: torch.nn.Module) -> None:
        if not self._is_new(where, network):
            return
        for name, part in network.named_modules():
            place = f"{where}.{name}" if name else where
            self._tell(place, type(part).__qualname__.encode())
            if where != self._asked:  # which is evaluated in eval mode
                self._tell(f"{place}.training", repr(getattr(part, "training", False)).encode())
            self._code_of(place, type(part))
            for key, value in vars(part).items():
                if key in ("_parameters", "_buffers"):
                    for own, tensor in value.items():
                        self.add(f"{place}.{own}", tensor)
                elif "_hooks" in key:
                    if value:
                        self._give_up(f"{place} has hooks")
                elif key not in _OF_MODULES and not key.startswith("_backward"):
                    self.add(f"{place}.{key}", value)

    def _function(self, where: str, function: types.FunctionType) -> None:
        if not self._is_new(where, function):
            return
        self._tell(where, _named(function).encode())
        self._code_of(where, function)
        if is_library(function.__module__):
            # Whoever calls it by this name calls the same, unless it was made by a call, and holds what that was given.
            if function.__closure__:
                self._closure(where, function)
            return
        self._code(where, function.__code__)
        self._closure(where, function)
        self.add(f"{where}: attributes", vars(function))
        names = list(dict.fromkeys(_names_in(function.__code__)))
        for name in names:
            if name in function.__globals__:
                value = function.__globals__[name]
                self.add(f"{where}: {name}", value)
                self._looked_up(f"{where}: {name}", value, names)
            elif name in sys.modules:  # it may import it
                self._looked_up(f"{where}: {name}", sys.modules[name], names)

    def _closure(self, where: str, function: types.FunctionType) -> None:
        """What a function holds: its defaults, and variables of the functions around it."""
        self.add(f"{where}: defaults", function.__defaults__)
        self.add(f"{where}: defaults", function.__kwdefaults__)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # it has none yet
                continue
            self.add(f"{where}: {name}", value)

    def _code(self, where: str, code: types.CodeType) -> None:
        """Code with its constants and names, and that of the functions, comprehensions and classes in it."""
        for name in _CODE:
            self._tell(f"{where}.{name}", getattr(code, name, b""))
        told = [getattr(code, name) for name in (*_SIGNATURE, *_NAMES)]
        self._tell(f"{where}.names", repr(told).encode())
        for place, constant in enumerate(code.co_consts):
            self.add(f"{where}.co_consts[{place}]", constant)

    def _looked_up(self, where: str, value: Any, names: Sequence[str], depth: int = 3) -> None:
        """What code may look up in a module of the user's, or in modules in there."""
        if not isinstance(value, types.ModuleType) or is_library(value.__name__) or not depth:
            return
        for name in names:
            if name in vars(value):
                found = vars(value)[name]
                self.add(f"{where}.{name}", found)
                self._looked_up(f"{where}.{name}", found, names, depth - 1)

    def _object(self, where: str, value: Any) -> None:
        """An object whose state is what pickle would keep of it; of others no digest can be made."""
        if not self._is_new(where, value):
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
        if isinstance(reduced, str):  # the name under which its module has it
            self._tell(where, f"{_named(type(value))} {reduced}".encode())
            self._code_of(where, value)
            return
        make, args, state, *more = (*(reduced or (None, ())), None, None, None)[:5]
        if not _is_plain(value, make, args, state) or any(item is not None for item in more):
            self._give_up(f"{where} is a {type(value).__name__}, whose state cannot be told")
            return
        self._tell(where, _named(type(value)).encode())
        self._code_of(where, type(value))
        if make is not copyreg.__newobj__:  # type: ignore[attr-defined]
            self.add(f"{where}: made of", list(args))
        self.add(where, _slots(state) or {})

    def _code_of(self, where: str, value: Any) -> None:
        """QueryLog the module whose code it is; a class of the user's with what its methods use."""
        module = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
        if not module or module == "builtins" or module in sys.stdlib_module_names:
            return
        if not _has_file(module):
            self._give_up(f"the code of {where} is in no file")
            return
        self.modules.add(module)
        if not is_library(module) and isinstance(value, type):
            self._class(where, value)

    def _class(self, where: str, value: type) -> None:
        """A class of the user's: its bases, its methods with what they use, and its values."""
        if not self._is_new(where, value):
            return
        for place, base in enumerate(value.__bases__):
            self._tell(f"{where}: base {place}", _named(base).encode())
            self._code_of(f"{where}: base {place}", base)
        for name, member in vars(value).items():
            if name in _OF_CLASSES or name.startswith(("_abc_", "__dataclass_")):
                continue
            if isinstance(member, (types.MemberDescriptorType, types.GetSetDescriptorType)):
                continue  # which stand for slots
            self.add(f"{where}.{name}", member)


def _is_plain(value: Any, make: Any, args: Any, state: Any) -> bool:
    """Whether a thing follows from its class, what that is made of, and its state."""
    if make is copyreg.__newobj__:  # type: ignore[attr-defined]
        return args == (type(value),) and isinstance(_slots(state), (dict, type(None)))
    return isinstance(make, type) and make is type(value) and state is None  # an enum's member, a path, a date


def _slots(state: Any) -> Any:
    """A state in which values in slots stand beside others, as one dictionary."""
    if isinstance(state, tuple) and len(state) == 2 and all(isinstance(one, (dict, type(None))) for one in state):
        return {**(state[0] or {}), **(state[1] or {})}
    return state


def _named(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', getattr(value, '__name__', ''))}"


def fingerprint(name: str, value: Any) -> Fingerprint:
    """What identifies a live object that the user calls by a name."""
    made = Fingerprint()
    made._asked = name
    made.add(name, value)
    return made


def _has_file(module: str) -> bool:
    """Whether a module is in a file; what is typed, piped or in a notebook's cell is in none."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and Path(file).is_file()


def _names_in(code: types.CodeType) -> Iterator[str]:
    """The names that code and the functions in it look up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)
