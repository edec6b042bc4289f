"""Detects functions whose code or default arguments have been replaced in the function object itself."""

from __future__ import annotations

import types
from collections.abc import Iterable
from operator import attrgetter
from typing import Any

__all__ = ["FunctionBodies"]

_code, _defaults, _keywords = (attrgetter(f"__{name}__") for name in ("code", "defaults", "kwdefaults"))


class FunctionBodies:
    """The code and the default arguments of functions, as they were when the functions were added.

    Functions without default arguments are not watched for added ones, since all calls give these arguments.
    """

    def __init__(self) -> None:
        self._codes: dict[types.FunctionType, Any] = {}
        self._defaults: dict[types.FunctionType, Any] = {}
        self._keywords: dict[types.FunctionType, Any] = {}

    def add(self, values: Iterable[Any]) -> None:
        """Adds those of these attributes that are Python functions, or wrap one, as methods do."""
        for value in values:
            function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if isinstance(function, types.FunctionType) and function not in self._codes:
                self._codes[function] = function.__code__
                if function.__defaults__:
                    self._defaults[function] = function.__defaults__
                if function.__kwdefaults__:
                    self._keywords[function] = dict(function.__kwdefaults__)  # a copy, since it can be changed in place

    def restore(self) -> list[str]:
        """Restores changed functions; returns their names."""
        changed: dict[types.FunctionType, None] = {}
        for read, watched in ((_code, self._codes), (_defaults, self._defaults), (_keywords, self._keywords)):
            if not _equal(list(map(read, watched)), list(watched.values())):
                changed |= {function: None for function, old in watched.items() if not _equal(read(function), old)}
        for function in changed:
            function.__code__ = self._codes[function]
            if function in self._defaults:
                function.__defaults__ = self._defaults[function]
            if function in self._keywords:
                function.__kwdefaults__ = dict(self._keywords[function])
        return list(dict.fromkeys(f"{function.__module__}.{function.__qualname__}" for function in changed))


def _equal(now: Any, before: Any) -> bool:
    try:
        return bool(now == before)
    except Exception:  # some defaults cannot be compared, such as arrays
        return False
