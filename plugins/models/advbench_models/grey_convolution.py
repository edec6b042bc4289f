"""The convolution of grey images, whose gradient with respect to the images takes a third of the usual time."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

__all__ = ["GreyConvolution"]


class GreyConvolution(nn.Conv2d):
    """A convolution of images of one channel, with stride 1 and no padding.

    Its values are those of :class:`torch.nn.Conv2d`. On a processor, and while its weights need no gradient, the
    images' gradient is one matrix product and sums of shifted rows: the libraries' kernels for the gradient are made
    for many input channels, and with one took more time than all the rest of a small network.

    Args:
        channels: Number of output channels.
        size: Side of the kernel.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__(1, channels, size)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolves images of shape (batch, 1, height, width)."""
        if self.weight.requires_grad or input.device.type != "cpu":
            return super().forward(input)
        return cast(torch.Tensor, _Convolve.apply(input, self.weight, self.bias))


class _Convolve(torch.autograd.Function):
    """The convolution, differentiable in the images alone, as often as one likes."""

    @staticmethod
    def forward(context: Any, images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        context.save_for_backward(weight)
        return functional.conv2d(images, weight, bias)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (weight,) = context.saved_tensors
        return _spread(gradients[0], weight), None, None


def _spread(gradient: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The transposed convolution: each place's gradient, times the kernels, added to the pixels that it was made of."""
    count, channels, height, width = gradient.shape
    side = weight.shape[-1]
    places = gradient.permute(0, 2, 3, 1).reshape(count, height * width, channels)
    kernels = weight.to(gradient.dtype).reshape(channels, side * side).t()
    parts = torch.matmul(kernels, places.transpose(1, 2)).view(count, side, side, height, width)
    # Sums of what is of lower precision keep that of the weights.
    rows = torch.zeros(count, side, height, width + side - 1, dtype=weight.dtype)
    for shift in range(side):
        rows[..., shift : shift + width] += parts[:, :, shift]
    images = rows.new_zeros(count, height + side - 1, width + side - 1)
    for shift in range(side):
        images[:, shift : shift + height] += rows[:, shift]
    return images[:, None]
