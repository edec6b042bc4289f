from __future__ import annotations

import time

import pytest
import torch
from benchmarks.timing import CountingNetwork, time_interleaved


def test_implementations_run_in_turn() -> None:
    order: list[str] = []

    def run(name: str):
        return lambda: order.append(name) or name

    timed = time_interleaved({"a": run("a"), "b": run("b")}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert [timings.result for timings in timed.values()] == ["a", "b"]
    assert [len(timings.seconds) for timings in timed.values()] == [3, 3]


def test_sleeping_takes_wall_time_and_no_cpu_time() -> None:
    (timings,) = time_interleaved({"sleep": lambda: time.sleep(0.05)}, 2).values()
    assert timings.median >= 0.05
    assert timings.cpu_median < 0.05


@pytest.mark.parametrize("classes", [1, 3])
def test_forward_and_backward_images_are_counted(classes: int) -> None:
    network = CountingNetwork(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)).requires_grad_(False))
    images = torch.rand(5, 1, 2, 2, requires_grad=True)
    logits = network(images)
    for k in range(classes):
        torch.autograd.grad(logits[:, k].sum(), images, retain_graph=True)
    with torch.no_grad():
        network(images[:2])
    assert (network.forward_images, network.backward_images) == (7, 5 * classes)
    network.reset()
    assert (network.forward_images, network.backward_images) == (0, 0)
