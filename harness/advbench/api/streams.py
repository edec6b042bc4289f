"""A stream of random numbers that costs little where it is used once, as most are."""

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
    """Random numbers from Philox with a key of its own.

    To make a generator takes NumPy several times as long as to draw an image's worth of numbers. So the first draw is
    one generator's that all streams of a thread share, set to where this stream begins; a stream that is drawn from
    again gets its own, on which the first draw is repeated.

    Args:
        name: What the numbers are determined by.
    """

    __slots__ = ("_first", "_generator", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: Callable[[np.random.Generator], Any] | None = None
        self._generator: np.random.Generator | None = None

    def draw(self, take: Callable[[np.random.Generator], Drawn]) -> Drawn:
        """What a function takes from the generator, which goes on from there the next time.

        The function takes as much whenever it is called; it may be called once more than its answers are used.
        """
        if self._first is None:
            drawn = take(self._begin(_shared.generator))
            self._first = take  # not where it raised
            return drawn
        if self._generator is None:
            self._generator = self._begin(_generator())
            self._first(self._generator)
        return take(self._generator)

    def _begin(self, generator: np.random.Generator) -> np.random.Generator:
        """Sets a generator to where this stream begins."""
        generator.bit_generator.state = self._beginning()
        return generator

    def _beginning(self) -> dict[str, Any]:
        """The state of a Philox that has drawn nothing yet."""
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
    """A generator for each thread."""

    def __init__(self) -> None:
        self.generator = _generator()


_shared = _Shared()
