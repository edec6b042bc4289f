"""A stream gives what a generator of its own would, whatever is drawn from others in between."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from advbench.api import SampleRandom
from advbench.api.streams import Stream

Take = Callable[[np.random.Generator], Any]
TAKES: list[Take] = [
    lambda g: g.random(3, dtype=np.float32),  # half of a 64-bit number is left over
    lambda g: g.integers(0, 2**63),
    lambda g: g.standard_normal(5, dtype=np.float32),
    lambda g: g.integers(0, 7, 2),
]


def own(name: str) -> np.random.Generator:
    """NumPy's generator with the stream's key."""
    key = np.frombuffer(hashlib.sha256(name.encode()).digest()[:16], dtype="<u8")
    return np.random.Generator(np.random.Philox(key=key))


def test_streams_drawn_from_by_turns_are_generators_of_their_own() -> None:
    names = [f"stream {number}" for number in range(4)]
    streams, generators = [Stream(name) for name in names], [own(name) for name in names]
    for turn in range(12):
        for place in range(turn % 3, 4):
            take = TAKES[(turn + place) % len(TAKES)]
            np.testing.assert_array_equal(streams[place].draw(take), take(generators[place]))


def test_a_draw_that_fails_draws_nothing() -> None:
    stream = Stream("stream")
    with pytest.raises(ValueError, match="low"):
        stream.draw(lambda g: g.integers(3, 1))
    assert [stream.draw(TAKES[1]) for _ in range(3)] == list(own("stream").integers(0, 2**63, 3))


def test_threads_do_not_draw_from_one_another() -> None:
    def drawn(name: str) -> Any:
        stream = Stream(name)
        return [stream.draw(lambda g: g.random(1000)) for _ in range(3)]

    names = [f"stream {number}" for number in range(200)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(drawn, names))
    expected = [[generator.random(1000) for _ in range(3)] for generator in map(own, names)]
    np.testing.assert_array_equal(found, expected)


def test_what_is_drawn_once_makes_no_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    SampleRandom(0, "test", [1]).uniform(2)  # the one that this thread shares is there
    made, philox = [], np.random.Philox

    def counted(**given: Any) -> np.random.Philox:
        made.append(given)
        return philox(**given)

    monkeypatch.setattr(np.random, "Philox", counted)
    rng = SampleRandom(0, "test", range(50))
    rng.uniform(2)
    assert not made
    rng.uniform(2)
    assert len(made) == 50
