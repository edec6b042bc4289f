"""Which changes to the layers of a network are seen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from advbench.contracts.network_unchanged import network_snapshot


class Counting(torch.nn.Module):
    """Keeps counts on itself and on a layer of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.pool = torch.nn.MaxPool2d(2)
        self.pool.register_forward_hook(lambda layer, given, answer: answer)
        self.pool.calls = 0  # type: ignore[assignment]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.pool.calls = self.calls  # type: ignore[assignment]
        answer: torch.Tensor = self.pool(images)
        return answer


def swap(network: Counting) -> None:
    network.pool = torch.nn.AvgPool2d(2)  # type: ignore[assignment]


def method(network: Counting) -> None:
    network.pool.forward = lambda images: images  # type: ignore[method-assign, assignment]


CHANGES: dict[str, Callable[[Counting], object]] = {
    "hook": lambda network: network.register_forward_hook(lambda *_: None),
    "backward hook": lambda network: network.pool.register_full_backward_hook(lambda *_: None),
    "setting": lambda network: setattr(network.pool, "stride", 1),
    "class": lambda network: setattr(network.pool, "__class__", torch.nn.AvgPool2d),
    "layer": swap,
    "method": method,
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_change_is_seen(how: str) -> None:
    network = Counting()
    before = network_snapshot(network)
    CHANGES[how](network)
    assert network_snapshot(network) != before


def test_what_a_network_keeps_of_its_own_and_hooks_that_are_removed_are_no_change() -> None:
    network = Counting()
    before = network_snapshot(network)
    network(torch.zeros(1, 1, 4, 4))
    network.register_forward_hook(lambda *_: None).remove()
    assert network_snapshot(network) == before
