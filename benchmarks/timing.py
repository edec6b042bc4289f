"""Timing: implementations take turns, and the network counts what goes through it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch

__all__ = ["Counting", "Timed", "take_turns"]

Result = TypeVar("Result")


@dataclass
class Timed(Generic[Result]):
    """What one implementation took and returned.

    Attributes:
        seconds: Wall time of each repetition.
        cpu_seconds: Time of this process's threads in each.
        result: What the last repetition returned.
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
        """The median time of the threads."""
        return statistics.median(self.cpu_seconds)


def take_turns(
    runs: Mapping[str, Callable[[], Result]], repeats: int, device: torch.device | None = None
) -> dict[str, Timed[Result]]:
    """Runs every implementation once, then every one again and so on, so that a machine that drifts does so for all.

    Each repetition begins with another one, since what ran before leaves its mark on caches and memory.

    Args:
        runs: Implementations by name.
        repeats: How often each runs.
        device: Where they compute; a GPU is waited for before and after each run.

    Returns:
        What each took, by name, in the given order.
    """
    timed: dict[str, Timed[Result]] = {name: Timed() for name in runs}
    order = list(runs)
    for repeat in range(repeats):
        first = repeat % len(order) if order else 0
        for name in order[first:] + order[:first]:
            run = runs[name]
            began, cpu_began = _now(device), time.process_time()
            timed[name].result = run()
            timed[name].seconds.append(_now(device) - began)
            timed[name].cpu_seconds.append(time.process_time() - cpu_began)
    return timed


class Counting(torch.nn.Module):
    """A network that counts the images that pass through it.

    Attributes:
        forward_images: How many images were given to it.
        backward_images: How many gradients of images' logits came back to it.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self.forward_images = self.backward_images = 0
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The network's answer."""
        self.forward_images += len(images)
        logits: torch.Tensor = self.network(images)
        if logits.requires_grad:
            logits.register_hook(self._count)  # type: ignore[no-untyped-call]
        return logits

    def reset(self) -> None:
        """Begins to count at 0."""
        self.forward_images = self.backward_images = 0

    def _count(self, gradient: torch.Tensor) -> None:
        self.backward_images += len(gradient)


def _now(device: torch.device | None) -> float:
    """The time, when the device has done what it was given."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
