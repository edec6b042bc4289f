"""The graphs of a stochastic defense's draws: kept until the backward pass while memory is there, else made again."""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

__all__ = ["DrawGraphs"]

_BYTES = 2**29
"""How many bytes the graphs of all draws may take together. One more draw's is there in any case."""


class DrawGraphs:
    """A network that is asked several times before one backward pass.

    The first draw's graph is measured. Of the others, as many are kept as the limit has room for; the network runs
    again for the rest when their gradient is asked for, which takes time instead of memory. The numbers are the same.

    Args:
        network: From images to logits, frozen and in eval mode.
        limit: How many bytes the graphs may take together.
    """

    def __init__(self, network: torch.nn.Module, limit: int = _BYTES) -> None:
        self.network = network
        self.limit = limit
        self._bytes_a_sample: float | None = None

    def logits(self, images: torch.Tensor, draw: int) -> torch.Tensor:
        """Logits of shape (batch, classes).

        Args:
            images: What one draw made of the batch; shape (batch, channels, height, width).
            draw: The draw's number, from 0 on.
        """
        if not images.requires_grad:
            logits: torch.Tensor = self.network(images)
        elif self._bytes_a_sample is None:
            logits = self._measured(images)
        elif draw and (draw + 1) * len(images) * self._bytes_a_sample > self.limit:
            logits = checkpoint(self.network, images, use_reentrant=False, preserve_rng_state=False)
        else:
            logits = self.network(images)
        return logits

    def _measured(self, images: torch.Tensor) -> torch.Tensor:
        own = {tensor.untyped_storage().data_ptr() for tensor in (*self.network.parameters(), *self.network.buffers())}
        seen: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                seen[tensor.data_ptr()] = min(tensor.nbytes, storage.nbytes())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            logits: torch.Tensor = self.network(images)
        self._bytes_a_sample = sum(seen.values()) / max(1, len(images))
        return logits
