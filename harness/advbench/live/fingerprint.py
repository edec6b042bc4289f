"""What identifies a live network or function: its weights, its values, and the modules that hold its code.

A digest that misses something would let stored results stand for other code, so that whatever cannot be told is said.
"""

from __future__ import annotations

import copyreg
import dataclasses
import functools
import hashlib
import inspect
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from advbench.discovery import is_library

__all__ = ["Fingerprint", "fingerprint"]

_PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device, torch.Size)
_OF_MODULES = ("_parameters", "_buffers", "_modules", "training")
_STATELESS = (types.ModuleType, types.BuiltinFunctionType, type)


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
        self._seen: set[int] = set()

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
        elif isinstance(value, (list, tuple, set, frozenset)):
            items = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
            self._tell(where, f"{type(value).__name__} of {len(value)}".encode())
            for place, item in enumerate(items):
                self.add(f"{where}[{place}]", item)
        elif isinstance(value, dict):
            self._tell(where, f"{type(value).__name__} of {len(value)}".encode())
            for key, item in value.items():
                self.add(f"{where}[{key!r}]", item)
        elif isinstance(value, types.MethodType):
            self.add(f"{where}.__self__", value.__self__)
            self.add(where, value.__func__)
        elif isinstance(value, types.FunctionType):
            self._function(where, value)
        elif isinstance(value, _STATELESS):
            self._tell(where, getattr(value, "__qualname__", value.__name__).encode())
            self._code_of(where, value)
        else:
            self._object(where, value)

    def _tell(self, where: str, content: bytes) -> None:
        self._sha.update(f"{where}\0{len(content)}\0".encode())
        self._sha.update(content)

    def _give_up(self, reason: str) -> None:
        self.unknown = self.unknown or reason

    def _array(self, where: str, value: torch.Tensor | np.ndarray[Any, Any]) -> None:
        array = value.detach().cpu().contiguous() if isinstance(value, torch.Tensor) else np.ascontiguousarray(value)
        self._tell(where, f"{array.dtype}{tuple(array.shape)}".encode())
        if isinstance(array, torch.Tensor):
            array = array.reshape(-1).view(torch.uint8).numpy() if array.numel() else np.zeros(0, dtype=np.uint8)
        if array.dtype == object:
            self._give_up(f"{where} is an array of objects")
        else:
            self._sha.update(array.tobytes())

    def _network(self, where: str, network: torch.nn.Module) -> None:
        if id(network) in self._seen:
            return
        self._seen.add(id(network))
        for name, part in network.named_modules():
            place = f"{where}.{name}" if name else where
            self._tell(place, type(part).__qualname__.encode())
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
        if id(function) in self._seen:
            return
        self._seen.add(id(function))
        self._tell(where, function.__qualname__.encode())
        self._code_of(where, function)
        if is_library(function.__module__):
            return
        self._tell(where, function.__code__.co_code)
        for name, value in inspect.getclosurevars(function).nonlocals.items():
            self.add(f"{where}: {name}", value)
        self.add(f"{where}: defaults", function.__defaults__)
        self.add(f"{where}: defaults", function.__kwdefaults__)
        names = list(dict.fromkeys(_names_in(function.__code__)))
        for name in names:
            if name not in function.__globals__:
                continue
            value = function.__globals__[name]
            self.add(f"{where}: {name}", value)
            if isinstance(value, types.ModuleType) and not is_library(value.__name__):
                for other in names:  # what it may look up in that module
                    if other in vars(value):
                        self.add(f"{where}: {name}.{other}", vars(value)[other])

    def _object(self, where: str, value: Any) -> None:
        """An object whose state is what is in its ``__dict__``; of others no digest can be made."""
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, functools.partial):
            self.add(where, [value.func, value.args, value.keywords])
            return
        try:
            make, args, state, *more = (*value.__reduce_ex__(2), None, None)[:5]
        except Exception:
            make, args, state, more = None, (), None, []
        plain = make is copyreg.__newobj__ and args == (type(value),) and isinstance(state, (dict, type(None)))  # type: ignore[attr-defined]
        if not plain or any(item is not None for item in more):
            self._give_up(f"{where} is a {type(value).__name__}, whose state cannot be told")
            return
        self._tell(where, type(value).__qualname__.encode())
        self._code_of(where, type(value))
        self.add(where, state or {})

    def _code_of(self, where: str, value: Any) -> None:
        """Notes the module whose code it is; a class of the user's with what its methods use."""
        module = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
        if not module or module == "builtins" or module in sys.stdlib_module_names:
            return
        if not _has_file(module):
            self._give_up(f"the code of {where} is in no file")
            return
        self.modules.add(module)
        if is_library(module):
            return
        if isinstance(value, type) and id(value) not in self._seen:
            self._seen.add(id(value))
            for name, member in vars(value).items():
                if isinstance(member, types.FunctionType):
                    self._function(f"{where}.{name}", member)


def fingerprint(name: str, value: Any) -> Fingerprint:
    """What identifies a live object that the user calls by a name."""
    made = Fingerprint()
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
