"""Random streams per sample for libraries that draw from the global generators of torch, NumPy and Python."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

__all__ = ["run_per_sample"]

# All threads share the global generators.
_LOCK = threading.Lock()


def run_per_sample(
    craft: Callable[[list[int]], tuple[torch.Tensor, bool]],
    seeds: Sequence[int],
    device: torch.device,
    *,
    allow_batch: bool,
) -> torch.Tensor:
    """Runs ``craft`` so that each sample's random numbers come from its own seed, independent of the batch.

    The first sample runs alone. If it draws nothing to its end, the remaining samples run as one batch; that result is
    used if they draw nothing either. Otherwise each sample runs alone, with generators seeded for it. The states of the
    generators are restored afterwards.

    Args:
        craft: Called with the indices of some samples; returns a tensor whose first dimension runs over them, and
            whether it was ended early, so that it may not have come to draw.
        seeds: One 32-bit seed per sample; at least one.
        device: The device of the computation; a CUDA device's own generator is seeded too.
        allow_batch: Whether samples that draw nothing may run as one batch.

    Returns:
        The results of all samples, in order.
    """
    with _LOCK, _preserved(device):
        first, has_drawn = _run_seeded(craft, [0], seeds[0], device)
        remaining = list(range(1, len(seeds)))
        if not remaining:
            return first
        if allow_batch and not has_drawn:
            rest, has_drawn = _run_seeded(craft, remaining, seeds[1], device)
            if not has_drawn:
                return torch.cat([first, rest])
        single_results = [_run_seeded(craft, [position], seeds[position], device)[0] for position in remaining]
        return torch.cat([first, *single_results])


def _run_seeded(
    craft: Callable[[list[int]], tuple[torch.Tensor, bool]], positions: list[int], seed: int, device: torch.device
) -> tuple[torch.Tensor, bool]:
    """Returns the samples' result, and whether a global generator was used, or would perhaps have been used later."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    before = _fingerprint(device)
    result, ended_early = craft(positions)
    return result, ended_early or _fingerprint(device) != before


def _fingerprint(device: torch.device) -> tuple[Any, ...]:
    """Returns the state of every global generator, for comparison."""
    _, keys, *rest = np.random.get_state()
    gpu = b""
    if device.type == "cuda":
        gpu = torch.cuda.get_rng_state(device).numpy().tobytes()
    elif device.type == "mps":
        gpu = torch.mps.get_rng_state().numpy().tobytes()
    return torch.get_rng_state().numpy().tobytes(), gpu, np.asarray(keys).tobytes(), rest, random.getstate()


@contextlib.contextmanager
def _preserved(device: torch.device) -> Iterator[None]:
    """Restores the global generators' states on exit."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)
