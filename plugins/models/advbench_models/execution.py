"""The order of a network's weights in memory."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["MEMORY_FORMATS", "MEMORY_FORMAT_HELP", "in_memory_format"]

MEMORY_FORMATS = ("channels-last", "contiguous")
MEMORY_FORMAT_HELP = "order of values in memory; channels-last makes convolutions on CPUs faster, at the same values"


def in_memory_format(network: nn.Module, memory_format: str) -> nn.Module:
    """Returns the network with its weights in this order; they are reordered in place.

    A convolution whose weights have their channels last computes in this order, whatever the order of the images.

    Args:
        network: The network.
        memory_format: One of ``MEMORY_FORMATS``.
    """
    return network.to(memory_format=torch.channels_last) if memory_format == "channels-last" else network
