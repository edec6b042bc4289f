from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from benchmarks.simulated_device import DEVICE, DeviceTensor, SimulatedDevice, to_device, to_host

from advbench.contracts.images import check_finite, finite_checks_together
from advbench.errors import ContractError


def _assign(values: torch.Tensor, mask: torch.Tensor) -> None:
    values[mask] = values[mask] + 1


@pytest.mark.parametrize(
    ("operation", "waits"),
    [
        (lambda values, mask: values.sum().item(), 1),
        (lambda values, mask: bool(mask.any()), 1),
        (lambda values, mask: "some" if mask.any() else "none", 1),
        (lambda values, mask: values.tolist(), 1),
        (lambda values, mask: values.cpu(), 1),
        (lambda values, mask: mask.nonzero(), 1),
        (lambda values, mask: values[mask], 1),
        (lambda values, mask: values.masked_select(mask), 1),
        (lambda values, mask: torch.equal(values, values), 1),
        (lambda values, mask: values.unique(), 1),
        (_assign, 2),
        (lambda values, mask: torch.tensor([1.0, 2.0], device=values.device), 1),
        (lambda values, mask: values.new_tensor([1.0]), 1),
        (lambda values, mask: torch.ones(2).to(values.device), 1),
        (lambda values, mask: torch.ones(2).to(values.device, non_blocking=True), 0),
        (lambda values, mask: values.masked_fill(mask, 0), 0),
        (lambda values, mask: values.__setitem__(mask, 0.0), 0),
        (lambda values, mask: torch.where(mask, values, 0.0), 0),
        (lambda values, mask: values[mask.to(torch.int64)], 0),
        (lambda values, mask: torch.full((3,), 2.0, device=values.device) + values, 0),
        (lambda values, mask: values.double().argsort(), 0),
    ],
)
def test_operations_that_wait_are_counted(
    operation: Callable[[torch.Tensor, torch.Tensor], object], waits: int
) -> None:
    with SimulatedDevice() as device:
        values = to_device(torch.tensor([1.0, 2.0, 3.0]))
        mask = values > 1
        device.waits.clear()
        operation(values, mask)
        assert device.waits.total() == waits


def test_a_network_computes_the_gradients_of_the_cpu() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8, 3))
    network.eval().requires_grad_(False)
    images = torch.rand(5, 1, 4, 4)

    def gradient(points: torch.Tensor) -> torch.Tensor:
        points = points.clone().requires_grad_()
        return torch.autograd.grad(network(points).logsumexp(dim=1).sum(), points)[0]

    expected = gradient(images)
    with SimulatedDevice() as device:
        to_device(network)
        computed = gradient(to_device(images))
    assert isinstance(computed, DeviceTensor)
    assert computed.device == DEVICE
    assert torch.equal(to_host(computed), expected)
    assert not device.waits


def test_tensors_of_two_devices_do_not_mix() -> None:
    with SimulatedDevice(), pytest.raises(RuntimeError, match="same device"):
        to_device(torch.ones(3)) + torch.ones(3)


@pytest.mark.parametrize("failing", [False, True])
def test_checks_of_an_accelerators_values_are_made_together(failing: bool) -> None:
    with SimulatedDevice() as device:
        fine, bad = to_device(torch.ones(3, 2)), to_device(torch.tensor([1.0, torch.nan, torch.inf]))
        with pytest.raises(ContractError, match="2 of 3 are wrong"), finite_checks_together():
            for values in (fine, bad, fine, bad):
                check_finite(values, "{bad} of {count} are wrong")
            assert not device.waits
            if failing:
                raise RuntimeError("an error that came of it")
        assert device.waits.total() == 1


def test_checks_on_the_cpu_are_made_at_once() -> None:
    with finite_checks_together(), pytest.raises(ContractError, match="1 of 2 are wrong"):
        check_finite(torch.tensor([1.0, torch.nan]), "{bad} of {count} are wrong")
