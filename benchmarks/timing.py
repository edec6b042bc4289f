"""Timing of implementations in turn, and a network that counts passes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch

__all__ = ["CountingNetwork", "Timings", "time_interleaved"]

Result = TypeVar("Result")


@dataclass
class Timings(Generic[Result]):
    """Times and result of one implementation.

    Attributes:
        seconds: Wall time of each repetition.
        cpu_seconds: CPU time of this process's threads in each.
        result: Result of the last repetition.
    """

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    result: Result | None = None

    @property
    def median(self) -> float:
        """The median wall time."""
        return statistics.median(self.seconds)

    @property
    def cpu_median(self) -> float:
        """The median CPU time."""
        return statistics.median(self.cpu_seconds)


def time_interleaved(
    runs: Mapping[str, Callable[[], Result]], repeats: int, device: torch.device | None = None
) -> dict[str, Timings[Result]]:
    """Runs every implementation once, then all of them again, so that drifts of the machine affect all alike.

    Each repetition starts with another implementation, since a run affects caches and memory for the next.

    Args:
        runs: Implementations by name.
        repeats: Number of repetitions.
        device: Device of the computation; a GPU is synchronised before and after each run.

    Returns:
        Timings by name, in the given order.
    """
    timed: dict[str, Timings[Result]] = {name: Timings() for name in runs}
    order = list(runs)
    for repeat in range(repeats):
        first = repeat % len(order) if order else 0
        for name in order[first:] + order[:first]:
            run = runs[name]
            start_time, cpu_start = _now(device), time.process_time()
            timed[name].result = run()
            timed[name].seconds.append(_now(device) - start_time)
            timed[name].cpu_seconds.append(time.process_time() - cpu_start)
    return timed


class CountingNetwork(torch.nn.Module):
    """A network that counts the images that pass through it.

    Attributes:
        forward_images: Number of images passed forward.
        backward_images: Number of images' logits whose gradient was computed.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self.forward_images = self.backward_images = 0
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the network's logits."""
        self.forward_images += len(images)
        logits: torch.Tensor = self.network(images)
        if logits.requires_grad:
            logits.register_hook(self._count)  # type: ignore[no-untyped-call]
        return logits

    def reset(self) -> None:
        """Resets the counts to 0."""
        self.forward_images = self.backward_images = 0

    def _count(self, gradient: torch.Tensor) -> None:
        self.backward_images += len(gradient)


def _now(device: torch.device | None) -> float:
    """Returns the time, after the device has finished its work."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
