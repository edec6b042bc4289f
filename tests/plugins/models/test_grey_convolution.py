"""The convolution of grey images gives what PyTorch's own gives, its gradient too."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from advbench_models.grey_convolution import GreyConvolution
from advbench_models.mnist_cnn import MnistCnn


def pair(channels: int, size: int) -> tuple[GreyConvolution, nn.Conv2d]:
    torch.manual_seed(0)
    ours, theirs = GreyConvolution(channels, size), nn.Conv2d(1, channels, size)
    theirs.load_state_dict(ours.state_dict())
    return ours.requires_grad_(False), theirs.requires_grad_(False)


@pytest.mark.parametrize(
    ("channels", "size", "shape"), [(20, 5, (7, 1, 28, 28)), (3, 2, (1, 1, 5, 9)), (1, 1, (2, 1, 4, 4))]
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_equal_pytorchs(
    channels: int, size: int, shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    ours, theirs = (network.to(memory_format=memory_format) for network in pair(channels, size))
    images = torch.rand(shape, requires_grad=True)
    assert torch.equal(ours(images), theirs(images))
    weights = torch.rand_like(ours(images))
    (gradient,) = torch.autograd.grad((weights * ours(images)).sum(), images)
    (expected,) = torch.autograd.grad((weights * theirs(images)).sum(), images)
    assert gradient.shape == images.shape
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5)


def test_second_derivatives_exist() -> None:
    network = GreyConvolution(3, 3).double().requires_grad_(False)
    images = torch.rand(2, 1, 6, 5, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(network, (images,))
    assert torch.autograd.gradgradcheck(network, (images,))


def test_weights_with_requires_grad_get_a_gradient() -> None:
    network = GreyConvolution(4, 3)
    network(torch.rand(2, 1, 8, 8)).sum().backward()
    assert network.weight.grad is not None
    assert network.weight.grad.abs().sum() > 0


def test_low_precision_gradients_are_summed_in_the_weights_precision() -> None:
    ours, theirs = pair(20, 5)
    images = torch.rand(2, 1, 12, 12, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        answer = ours(images)
    assert answer.dtype == torch.bfloat16
    (gradient,) = torch.autograd.grad(answer.float().sum(), images)
    (expected,) = torch.autograd.grad(theirs(images).sum(), images)
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient, expected, rtol=0.02, atol=0.02)


def test_mnist_cnn_uses_it_with_the_shipped_weights() -> None:
    network = MnistCnn().load()
    assert isinstance(network.get_submodule("features.0"), GreyConvolution)
