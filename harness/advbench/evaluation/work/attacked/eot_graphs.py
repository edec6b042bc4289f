"""EOT, what ``--eot`` sets: logits averaged over draws of a stochastic defense, within a limit of memory.

The autograd graphs of the draws are kept for the backward pass as long as memory allows, else they are recomputed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch.utils.checkpoint import checkpoint

from advbench.evaluation.work.memory.graphs import graph_bytes

__all__ = ["Classifier", "EOTGraphs"]

Classifier: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""Images of shape (batch, channels, height, width) to logits of shape (batch, classes)."""

_BYTES = 2**29
"""How many bytes the graphs of all draws may take together; the graph of one more draw always exists."""

_BATCHED_IMAGES = 320
_SHARE = 4
"""Draws are batched up to so many images, and if their graphs take at most one part in so many of the limit."""


class EOTGraphs:
    """A network that runs several times before one backward pass.

    The memory of the first draw's graph is measured. As many further graphs are kept as fit into the limit. For the
    others the network runs again in the backward pass (gradient checkpointing), which takes time instead of memory. The
    logits and gradients are the same.

    Args:
        network: A network from images to logits, frozen and in eval mode.
        limit: How many bytes the graphs may take together.
    """

    def __init__(self, network: torch.nn.Module, limit: int = _BYTES) -> None:
        self.network = network
        self.limit = limit
        self._bytes_per_sample: float | None = None

    def mean_logits(
        self,
        images: torch.Tensor,
        draws: int,
        defend: Callable[[torch.Tensor, int], tuple[torch.Tensor, Classifier]],
    ) -> torch.Tensor:
        """Logits averaged over draws of the defense; shape (batch, classes).

        Args:
            images: The attacked batch; shape (batch, channels, height, width).
            draws: How often the defense is drawn.
            defend: Applies the defense to so many copies of the batch, one after another, each with its own draw.
                Returns the images, and what classifies them: the network, or a defense with the network inside, which
                gives the same logits when it is called again.

        Source: Athalye, Carlini and Wagner 2018, Obfuscated Gradients Give a False Sense of Security, section 4.2.
        """
        samples = len(images)
        draws_per_batch = self.draws_per_batch(samples, draws)
        total: torch.Tensor | None = None
        for done in range(0, draws, draws_per_batch):
            times = min(draws_per_batch, draws - done)
            copies = images if times == 1 else images.repeat(times, 1, 1, 1)
            defended, classifier = defend(copies, times)
            for logits in torch.split(self.logits(defended, done * samples, classifier), samples):
                total = logits if total is None else total + logits
        assert total is not None
        return total / draws

    def draws_per_batch(self, samples: int, draws: int) -> int:
        """How many draws of so many samples are computed as one batch."""
        if self._bytes_per_sample is None:
            return 1
        most = min(_BATCHED_IMAGES, self.limit / _SHARE / max(1.0, self._bytes_per_sample))
        return max(1, min(draws, int(most / max(1, samples))))

    def logits(self, images: torch.Tensor, before: int, classifier: Classifier | None = None) -> torch.Tensor:
        """Logits of shape (batch, classes).

        Args:
            images: The defended batch; shape (batch, channels, height, width).
            before: How many images the network has processed since the last backward pass.
            classifier: What classifies the batch, if not the network itself.
        """
        classifier = self.network if classifier is None else classifier
        if not images.requires_grad:
            logits = classifier(images)
        elif self._bytes_per_sample is None:
            logits = self._measure(images, classifier)
        elif before and (before + len(images)) * self._bytes_per_sample > self.limit:
            logits = checkpoint(classifier, images, use_reentrant=False, preserve_rng_state=False)
        else:
            logits = classifier(images)
        return logits

    def _measure(self, images: torch.Tensor, classifier: Classifier) -> torch.Tensor:
        logits, self._bytes_per_sample = graph_bytes(self.network, classifier, images)
        return logits
