"""Streams of random numbers that are cheap to create, since most streams are used only once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

__all__ = ["Stream"]

Drawn = TypeVar("Drawn")

_ZEROS = np.zeros(4, dtype=np.uint64)


class Stream:
    """Random numbers from a Philox generator whose key is derived from a name.

    Creating a NumPy generator takes several times as long as drawing the numbers for an image. So all streams of a
    thread share one generator for their first draw, which is set to the start of the stream. At its second draw, a
    stream gets a generator of its own, and repeats the first draw on it.

    Args:
        name: The name that determines the numbers.
    """

    __slots__ = ("_first", "_generator", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: Callable[[np.random.Generator], Any] | None = None
        self._generator: np.random.Generator | None = None

    def draw(self, take: Callable[[np.random.Generator], Drawn]) -> Drawn:
        """Calls a function with the generator, which continues from there at the next call.

        Args:
            take: Draws from the generator and returns what it drew. It must draw the same number of values at every
                call. It may be called one extra time, and that result is discarded.
        """
        if self._first is None:
            drawn = take(self._begin(_shared.generator))
            self._first = take  # set only if take did not raise
            return drawn
        if self._generator is None:
            self._generator = self._begin(_generator())
            self._first(self._generator)
        return take(self._generator)

    def _begin(self, generator: np.random.Generator) -> np.random.Generator:
        """Sets a generator to the start of this stream."""
        generator.bit_generator.state = self._initial_state()
        return generator

    def _initial_state(self) -> dict[str, Any]:
        """The state of a Philox generator that has drawn nothing yet."""
        digest = hashlib.sha256(self._name.encode()).digest()
        state = {"counter": _ZEROS, "key": np.frombuffer(digest[:16], dtype="<u8")}
        return {
            "bit_generator": "Philox",
            "state": state,
            "buffer": _ZEROS,
            "buffer_pos": len(_ZEROS),
            "has_uint32": 0,
            "uinteger": 0,
        }


def _generator() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=0))


class _Shared(threading.local):
    """One generator per thread."""

    def __init__(self) -> None:
        self.generator = _generator()


_shared = _Shared()
