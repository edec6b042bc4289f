"""Functions whose code or default arguments have been replaced within the function object itself."""

from __future__ import annotations

import types
from collections.abc import Iterable
from operator import attrgetter
from typing import Any

__all__ = ["Bodies"]

_code, _defaults, _keywords = (attrgetter(f"__{name}__") for name in ("code", "defaults", "kwdefaults"))


class Bodies:
    """The code and the default arguments of functions, as they are when the functions are added.

    Default arguments of a function that has none are not watched: all calls of it give these arguments.

    """

    def __init__(self) -> None:
        self._codes: dict[types.FunctionType, Any] = {}
        self._defaults: dict[types.FunctionType, Any] = {}
        self._keywords: dict[types.FunctionType, Any] = {}

    def add(self, values: Iterable[Any]) -> None:
        """Watches those of these attributes that are Python functions, or that wrap one as methods do."""
        for value in values:
            function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if isinstance(function, types.FunctionType) and function not in self._codes:
                self._codes[function] = function.__code__
                if function.__defaults__:
                    self._defaults[function] = function.__defaults__
                if function.__kwdefaults__:
                    self._keywords[function] = dict(function.__kwdefaults__)  # it can be changed in place

    def put_back(self) -> list[str]:
        """Gives changed functions their own code and defaults again; the names of these functions."""
        changed: dict[types.FunctionType, None] = {}
        for read, watched in ((_code, self._codes), (_defaults, self._defaults), (_keywords, self._keywords)):
            if not _equal(list(map(read, watched)), list(watched.values())):
                changed |= {one: None for one, before in watched.items() if not _equal(read(one), before)}
        for function in changed:
            function.__code__ = self._codes[function]
            if function in self._defaults:
                function.__defaults__ = self._defaults[function]
            if function in self._keywords:
                function.__kwdefaults__ = dict(self._keywords[function])
        return list(dict.fromkeys(f"{one.__module__}.{one.__qualname__}" for one in changed))


def _equal(now: Any, before: Any) -> bool:
    try:
        return bool(now == before)
    except Exception:  # defaults that cannot be compared, such as arrays
        return False
