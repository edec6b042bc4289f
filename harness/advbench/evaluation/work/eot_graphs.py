"""The graphs of a stochastic defense's draws: kept until the backward pass while memory is there, else made again."""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

__all__ = ["DrawGraphs"]

_BYTES = 2**29
"""How many bytes the graphs of all draws may take together. One more draw's is there in any case."""


_TOGETHER = 320
_SHARE = 4
"""Draws go together up to so many images, and where their graphs take that part of the limit at most."""


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

    def draws_per_batch(self, samples: int, draws: int) -> int:
        """How many draws of so many samples may go through defense and network together: few small ones, or one."""
        if self._bytes_a_sample is None:
            return 1
        most = min(_TOGETHER, self.limit / _SHARE / max(1.0, self._bytes_a_sample))
        return max(1, min(draws, int(most / max(1, samples))))

    def logits(self, images: torch.Tensor, before: int) -> torch.Tensor:
        """Logits of shape (batch, classes).

        Args:
            images: What the defense made of the batch; shape (batch, channels, height, width).
            before: How many images the network was asked about already since the last backward pass.
        """
        if not images.requires_grad:
            logits: torch.Tensor = self.network(images)
        elif self._bytes_a_sample is None:
            logits = self._measured(images)
        elif before and (before + len(images)) * self._bytes_a_sample > self.limit:
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
