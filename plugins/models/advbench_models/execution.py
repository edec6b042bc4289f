"""How a network computes: the order of its values in memory, and their precision."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = [
    "MEMORY_FORMATS",
    "MEMORY_FORMAT_HELP",
    "PRECISIONS",
    "PRECISION_HELP",
    "ReducedPrecision",
    "prepared",
]

MEMORY_FORMATS = ("channels-last", "contiguous")
MEMORY_FORMAT_HELP = "order of values in memory; channels-last makes convolutions on CPUs faster, at the same values"
PRECISIONS = ("float32", "bfloat16")
PRECISION_HELP = "bfloat16 computes faster, but rounds logits and gradients to about three digits: another network"


class ReducedPrecision(nn.Module):
    """Computes in bfloat16 where PyTorch's autocast allows it: convolutions, matrix products and attention.

    Args:
        network: The network, with float32 weights.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor, *streams: Any) -> Any:
        """Returns what the network returns; its tensors may be of bfloat16."""
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            return self.network(images, *streams)


def prepared(network: nn.Module, memory_format: str, precision: str) -> nn.Module:
    """Returns the network with its weights in this order, computing in this precision.

    A convolution whose weights have their channels last computes in this order, whatever the order of the images.

    Args:
        network: The network; its weights are reordered in place.
        memory_format: One of ``MEMORY_FORMATS``.
        precision: One of ``PRECISIONS``.
    """
    if memory_format == "channels-last":
        network = network.to(memory_format=torch.channels_last)
    return ReducedPrecision(network) if precision == "bfloat16" else network
