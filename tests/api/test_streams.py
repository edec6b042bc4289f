"""A stream draws the same numbers as a generator of its reference, whatever is drawn from other streams in between."""

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


def reference(name: str) -> np.random.Generator:
    """NumPy's generator with the stream's key."""
    key = np.frombuffer(hashlib.sha256(name.encode()).digest()[:16], dtype="<u8")
    return np.random.Generator(np.random.Philox(key=key))


def test_interleaved_streams_equal_generators_of_their_own() -> None:
    names = [f"stream {number}" for number in range(4)]
    streams, generators = [Stream(name) for name in names], [reference(name) for name in names]
    for turn in range(12):
        for index in range(turn % 3, 4):
            take = TAKES[(turn + index) % len(TAKES)]
            np.testing.assert_array_equal(streams[index].draw(take), take(generators[index]))


def test_a_draw_that_fails_draws_nothing() -> None:
    stream = Stream("stream")
    with pytest.raises(ValueError, match="low"):
        stream.draw(lambda g: g.integers(3, 1))
    assert [stream.draw(TAKES[1]) for _ in range(3)] == list(reference("stream").integers(0, 2**63, 3))


def test_threads_do_not_share_a_generator() -> None:
    def drawn(name: str) -> Any:
        stream = Stream(name)
        return [stream.draw(lambda g: g.random(1000)) for _ in range(3)]

    names = [f"stream {number}" for number in range(200)]
    with ThreadPoolExecutor(4) as threads:
        drawn_in_threads = list(threads.map(drawn, names))
    expected = [[generator.random(1000) for _ in range(3)] for generator in map(reference, names)]
    np.testing.assert_array_equal(drawn_in_threads, expected)


def test_a_stream_that_is_used_once_creates_no_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    SampleRandom(0, "test", [1]).uniform(2)  # creates the generator that this thread shares
    created, philox = [], np.random.Philox

    def counted(**given: Any) -> np.random.Philox:
        created.append(given)
        return philox(**given)

    monkeypatch.setattr(np.random, "Philox", counted)
    rng = SampleRandom(0, "test", range(50))
    rng.uniform(2)
    assert not created
    rng.uniform(2)
    assert len(created) == 50
