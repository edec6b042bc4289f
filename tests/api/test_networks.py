"""Wrapped networks take and return float32, with a gradient, and are never called with 0 images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from advbench.api import ContractError, Float32Network

IMAGES = torch.rand(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))


def linear(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_logits_and_gradients_are_float32(dtype: torch.dtype) -> None:
    points = IMAGES.clone().requires_grad_()
    network = linear(dtype)
    logits = Float32Network(network)(points)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), points)
    assert (logits.dtype, gradient.dtype) == (torch.float32, torch.float32)
    weight = network[1].weight[0].float()  # type: ignore[index, union-attr]
    assert torch.allclose(gradient.flatten(1), weight.expand(4, 4), atol=1e-6)


class Counting(nn.Module):
    """Records the batch size of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(images))
        return images.reshape(len(images), -1)[:, :3]


@pytest.mark.parametrize("before", [0, 2])
def test_the_network_is_not_called_with_0_images(before: int) -> None:
    network = Counting()
    wrapped = Float32Network(network)
    if before:
        wrapped(IMAGES[:before])
    points = IMAGES[:0].clone().requires_grad_()
    logits = wrapped(points)
    (gradient,) = torch.autograd.grad(logits.sum(), points)
    assert (tuple(logits.shape), tuple(gradient.shape)) == ((0, 3), (0, 1, 2, 2))
    assert network.calls == [before or 1]


def test_float64_logits_that_are_equal_in_float32_keep_their_order() -> None:
    class Near(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return 1e9 + torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64) * images[:, 0, 0, :1].double().sign()

    points = IMAGES.clone().requires_grad_()
    assert Float32Network(Near())(points).argmax(1).tolist() == [2, 2, 2, 2]


def test_other_errors_do_not_trigger_a_cast() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float16))
            self.calls: list[Any] = []

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.calls.append(images.dtype)
            raise RuntimeError("lost")

    network = Broken()
    with pytest.raises(RuntimeError, match="lost"):
        Float32Network(network)(IMAGES)
    assert network.calls == [torch.float32]


def test_an_auxiliary_head_of_the_same_width_is_ignored() -> None:
    class Headed(nn.Module):
        def forward(self, images: torch.Tensor) -> Any:
            logits = images.flatten(1)
            return logits, logits * 0.5, torch.zeros(len(images), 3, dtype=torch.int64)

    assert torch.equal(Float32Network(Headed())(IMAGES), IMAGES.flatten(1))


@pytest.mark.parametrize("other", [IMAGES.flatten(1).flip(1), torch.zeros(4, 3), torch.zeros(4, 9)])
def test_ambiguous_logits_are_an_error(other: torch.Tensor) -> None:
    class Pair(nn.Module):
        def forward(self, images: torch.Tensor) -> Any:
            return [images.flatten(1), other]

    with pytest.raises(ContractError, match=r"shapes \(4, 4\) and \(4, \d\), and either may be the logits"):
        Float32Network(Pair())(IMAGES)
