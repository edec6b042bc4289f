"""Random numbers per sample.

Every sample has its own stream, which depends only on (seed, purpose, sample id). Batch size, the order of
the batches, the number of jobs and the device never change the random numbers of a sample.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.weak import WeakIdKeyDictionary

from advbench.api.streams import Stream

__all__ = ["SampleRandom"]


class SampleRandom:
    """The random streams of a batch of samples, one stream per sample.

    Every draw returns a tensor whose first dimension runs over the samples of the batch, in order, and
    advances the stream of each sample.

    Args:
        seed: The seed of the run.
        purpose: What the numbers are used for; different purposes have independent streams.
        ids: The stable ids of the samples.
        device: Device of the drawn tensors. The numbers are the same on every device.
    """

    def __init__(
        self,
        seed: int,
        purpose: str,
        ids: Sequence[int] | torch.Tensor | npt.NDArray[Any],
        device: torch.device | str = "cpu",
    ) -> None:
        self.seed = int(seed)
        self.purpose = purpose
        self.ids = [int(sample_id) for sample_id in ids]
        self.device = torch.device(device)
        self._salts = [""] * len(self.ids)
        self._streams: list[Stream | None] = [None] * len(self.ids)
        self._origin: SampleRandom | None = None
        self._drawn = False

    @property
    def drawn(self) -> bool:
        """Whether a number has been drawn from these streams or from any stream derived from them."""
        return self._drawn

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: torch.Tensor | Sequence[int] | slice) -> SampleRandom:
        """The streams of some of the samples, selected by mask, indices or slice. They keep their current position."""
        positions = torch.arange(len(self.ids))
        chosen = positions[_on_cpu(index) if isinstance(index, torch.Tensor) else index].tolist()
        part = SampleRandom(self.seed, self.purpose, [self.ids[i] for i in chosen], self.device)
        part._salts = [self._salts[i] for i in chosen]
        part._streams = [self._stream(i) for i in chosen]
        part._origin = self
        return part

    def derive(self, purpose: str) -> SampleRandom:
        """Fresh streams for a part of this purpose. They do not depend on how far these streams have advanced."""
        derived = SampleRandom(self.seed, f"{self.purpose}/{purpose}", self.ids, self.device)
        derived._salts = list(self._salts)
        derived._origin = self
        return derived

    def spawn(self, times: int = 1) -> SampleRandom:
        """Fresh streams that differ at every call, each seeded with a number drawn from the stream of its sample.

        Args:
            times: Number of new streams per sample. ``spawn(2)`` gives the streams of two calls, one after the other:
                first one stream for every sample, in order, then a second one for every sample.
        """
        spawned = SampleRandom(self.seed, self.purpose, self.ids * times, self.device)
        self._mark_drawn()
        numbers = [self._stream(i).draw(_number) for i in [*range(len(self.ids))] * times]
        spawned._salts = [f"{salt}\0{number}" for salt, number in zip(self._salts * times, numbers, strict=True)]
        return spawned

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """Uniform float32 numbers in [low, high), shape (samples, *shape)."""
        drawn = self._draw(shape, lambda g: g.random(shape, dtype=np.float32), np.float32)
        return drawn.mul_(high - low).add_(low)

    def normal(self, *shape: int, mean: float = 0.0, std: float = 1.0) -> torch.Tensor:
        """Normally distributed float32 numbers, shape (samples, *shape)."""
        drawn = self._draw(shape, lambda g: g.standard_normal(shape, dtype=np.float32), np.float32)
        return drawn.mul_(std).add_(mean)

    def bernoulli(self, probability: float, *shape: int) -> torch.Tensor:
        """True with the given probability; bool, shape (samples, *shape)."""
        return self.uniform(*shape) < probability

    def integers(self, low: int, high: int, *shape: int) -> torch.Tensor:
        """Uniform int64 numbers in [low, high), shape (samples, *shape)."""
        return self._draw(shape, lambda g: g.integers(low, high, shape), np.int64)

    def seeds(self) -> list[int]:
        """One 32-bit seed per sample, for libraries that take a seed instead of a generator."""
        self._mark_drawn()
        return [self._stream(i).draw(_seed) for i in range(len(self.ids))]

    def _draw(
        self, shape: tuple[int, ...], draw: Callable[[np.random.Generator], Any], dtype: type[Any]
    ) -> torch.Tensor:
        self._mark_drawn()
        out: npt.NDArray[Any] = np.empty((len(self.ids), *shape), dtype=dtype)
        for i in range(len(self.ids)):
            out[i] = self._stream(i).draw(draw)
        # An accelerator copies from ordinary memory before the call returns, and need not finish other work first.
        return torch.from_numpy(out).to(self.device, non_blocking=self.device.type not in ("cpu", "mps"))

    def _mark_drawn(self) -> None:
        """Marks these streams, and those that they are derived from, as drawn from."""
        streams: SampleRandom | None = self
        while streams is not None and not streams._drawn:
            streams._drawn = True
            streams = streams._origin

    def _stream(self, position: int) -> Stream:
        stream = self._streams[position]
        if stream is None:
            stream = Stream(f"{self.seed}\0{self.purpose}\0{self.ids[position]}{self._salts[position]}")
            self._streams[position] = stream
        return stream


_copies: MutableMapping[torch.Tensor, tuple[int, torch.Tensor]] = WeakIdKeyDictionary()
"""Copies of indices that are on an accelerator, with their versions: attacks select the same samples at every step."""


def _on_cpu(index: torch.Tensor) -> torch.Tensor:
    """An index on the CPU; one on an accelerator is copied once, since a copy waits for the accelerator."""
    if index.device.type == "cpu" or index.is_inference():
        return index.cpu()
    version, copy = _copies.get(index, (-1, index))
    if version != index._version:
        copy = index.cpu()
        _copies[index] = (index._version, copy)
    return copy


def _number(generator: np.random.Generator) -> int:
    return int(generator.integers(0, 2**63))


def _seed(generator: np.random.Generator) -> int:
    return int(generator.integers(0, 2**32))
