"""How much memory the autograd graph of a classifier takes."""

from __future__ import annotations

from collections.abc import Callable

import torch

__all__ = ["graph_bytes"]


def graph_bytes(
    network: torch.nn.Module, classifier: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor
) -> tuple[torch.Tensor, float]:
    """Classifies images and measures what autograd keeps for the backward pass.

    Args:
        network: The network, whose parameters and buffers do not count.
        classifier: What classifies the images: the network, or a defense with the network inside.
        images: Shape (batch, channels, height, width); they require gradients.

    Returns:
        The logits, and the bytes for each image.
    """
    own_storages = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    sizes: dict[int, int] = {}

    def record(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own_storages:
            sizes[tensor.data_ptr()] = min(tensor.nbytes, storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        logits = classifier(images)
    return logits, sum(sizes.values()) / max(1, len(images))
