"""Bounds of a network's logits over a box around each image, by interval arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

__all__ = ["margins_within", "worst_logits"]


def worst_logits(
    layers: Sequence[nn.Module], images: torch.Tensor, labels: torch.Tensor, radius: torch.Tensor | float
) -> torch.Tensor:
    """The logits of the worst point of each image's box, as far as interval bounds can tell.

    The label's logit is 0, and that of another class is the upper bound of its difference from the label's. The last
    layer is merged with these differences, which gives tighter bounds than those of the logits.

    Args:
        layers: Convolutions, ReLUs, flattenings and linear layers; the last one is linear.
        images: In [0, 1], shape (batch, channels, height, width).
        labels: int64, shape (batch,).
        radius: Half the width of the box, which is cut off at 0 and 1; a number or of shape (batch,).

    Returns:
        Shape (batch, classes).

    Source: Gowal et al. 2018, On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust Models,
    section 3.
    """
    reach = torch.as_tensor(radius, dtype=images.dtype, device=images.device).reshape(-1, 1, 1, 1)
    low, high = (images - reach).clamp(min=0), (images + reach).clamp(max=1)
    centre, spread = (high + low) / 2, (high - low) / 2
    *hidden, last = layers
    for layer in hidden:
        centre, spread = _through(layer, centre, spread)
    if not isinstance(last, nn.Linear):
        raise TypeError(f"the last layer is {type(last).__name__}, not Linear")
    # (W_j − W_y) · x + b_j − b_y for every class j
    weights = last.weight - last.weight[labels][:, None]
    offsets = last.bias - last.bias[labels][:, None]
    return torch.einsum("bkd,bd->bk", weights, centre) + torch.einsum("bkd,bd->bk", weights.abs(), spread) + offsets


def margins_within(
    layers: Sequence[nn.Module], images: torch.Tensor, labels: torch.Tensor, radius: torch.Tensor | float
) -> torch.Tensor:
    """Lower bounds of the label's lead over all other classes within the box, shape (batch,).

    The arguments are those of :func:`worst_logits`.
    """
    others = worst_logits(layers, images, labels, radius).scatter(1, labels[:, None], -torch.inf)
    return -others.amax(dim=1)


def _through(layer: nn.Module, centre: torch.Tensor, spread: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The centre and half the width of a box around all that a layer makes of a box."""
    if isinstance(layer, nn.Linear):
        return layer(centre), functional.linear(spread, layer.weight.abs())
    if isinstance(layer, nn.Conv2d):
        assert isinstance(layer.padding, tuple)
        wider = functional.conv2d(
            spread, layer.weight.abs(), None, layer.stride, layer.padding, layer.dilation, layer.groups
        )
        return layer(centre), wider
    if isinstance(layer, nn.ReLU):
        low, high = (centre - spread).clamp(min=0), (centre + spread).clamp(min=0)
        return (high + low) / 2, (high - low) / 2
    if isinstance(layer, nn.Flatten):
        return layer(centre), layer(spread)
    raise TypeError(f"there are no interval bounds for layers of type {type(layer).__name__}")
