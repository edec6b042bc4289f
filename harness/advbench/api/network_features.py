"""The features of a network: what enters its last linear layer."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from advbench.errors import ContractError

__all__ = ["features"]


def features(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What enters the last linear layer of a network, the one that is called last.

    Args:
        network: A classifier that contains a ``torch.nn.Linear``, such as the one that a defense gets.
        images: Shape (m, channels, height, width).

    Returns:
        Shape (m, features), connected to the images if these require a gradient.

    Raises:
        ContractError: The network calls no linear layer, or the last one not once for each image.
    """
    called: list[tuple[torch.nn.Module, torch.Tensor]] = []

    def record(layer: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        called.append((layer, inputs[0]))

    with contextlib.ExitStack() as stack:
        for layer in network.modules():
            if isinstance(layer, torch.nn.Linear):
                stack.callback(layer.register_forward_pre_hook(record).remove)
        network(images)
    if not called:
        raise ContractError("the network calls no torch.nn.Linear, so it has no features")
    last = called[-1][0]
    entered = [tensor for layer, tensor in called if layer is last]  # a large batch passes in parts
    joined = torch.cat(entered) if all(tensor.ndim == 2 for tensor in entered) else entered[-1]
    if joined.ndim != 2 or len(joined) != len(images):
        raise ContractError(
            f"the last linear layer of the network gets shape {tuple(joined.shape)} for {len(images)} images; features "
            "have the shape (images, features)"
        )
    return joined
