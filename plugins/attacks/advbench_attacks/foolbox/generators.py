"""Per-sample streams for libraries that draw from the global generators of torch, NumPy and Python."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

__all__ = ["run_per_sample"]

# The global generators are one for all threads.
_LOCK = threading.Lock()


def run_per_sample(
    craft: Callable[[list[int]], torch.Tensor], seeds: Sequence[int], device: torch.device, *, together: bool
) -> torch.Tensor:
    """Runs ``craft`` so that every sample's random numbers come from its own seed, whatever the batch.

    The first sample runs alone. If it drew nothing, the rest run at once, and the result holds if they
    drew nothing either. Otherwise each sample runs alone with the generators seeded for it.
    The generators' states are afterwards what they were.

    Args:
        craft: Called with the positions of some samples; returns a tensor whose first dimension runs over them.
        seeds: A seed a sample, of 32 bits; at least one.
        device: Where the work is done; a CUDA device's own generator is seeded too.
        together: Whether samples that draw nothing may share a batch at all.

    Returns:
        The results of all samples, in order.
    """
    with _LOCK, _preserved(device):
        first, drew = _seeded(craft, [0], seeds[0], device)
        others = list(range(1, len(seeds)))
        if not others:
            return first
        if together and not drew:
            rest, drew = _seeded(craft, others, seeds[1], device)
            if not drew:
                return torch.cat([first, rest])
        alone = [_seeded(craft, [position], seeds[position], device)[0] for position in others]
        return torch.cat([first, *alone])


def _seeded(
    craft: Callable[[list[int]], torch.Tensor], positions: list[int], seed: int, device: torch.device
) -> tuple[torch.Tensor, bool]:
    """The samples' result, and whether anything was drawn from a global generator."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    before = _fingerprint(device)
    result = craft(positions)
    return result, _fingerprint(device) != before


def _fingerprint(device: torch.device) -> tuple[Any, ...]:
    """The state of every global generator, to be compared."""
    _, keys, *rest = np.random.get_state()
    cuda = torch.cuda.get_rng_state(device).numpy().tobytes() if device.type == "cuda" else b""
    return torch.get_rng_state().numpy().tobytes(), cuda, np.asarray(keys).tobytes(), rest, random.getstate()


@contextlib.contextmanager
def _preserved(device: torch.device) -> Iterator[None]:
    """Puts the global generators' states back at the end."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)
