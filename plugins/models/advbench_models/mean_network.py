"""A network that averages the outputs of several networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from advbench.api import Access, ContractError, SampleRandom, are_probabilities, combine_logits

__all__ = ["MeanNetwork", "Member"]


class Member(NamedTuple):
    """One of the networks.

    Attributes:
        name: What messages call its model.
        network: A classifier of images.
        stochastic: Whether it takes ``(images, rng)``.
        gives: What its model gives.
    """

    name: str
    network: torch.nn.Module
    stochastic: bool = False
    gives: Access = "gradients"


class MeanNetwork(torch.nn.Module):
    """The mean of the logits of several networks, or the logarithm of the mean of their softmax probabilities.

    Args:
        members: Classifiers of images of one shape, with the same classes.
        probabilities: Whether to average probabilities.
    """

    def __init__(self, members: Sequence[Member], *, probabilities: bool) -> None:
        super().__init__()
        self.networks = torch.nn.ModuleList(member.network for member in members)
        self.names = [member.name for member in members]
        self.drawn = [member.stochastic for member in members]
        self.gives = [member.gives for member in members]
        self.probabilities = probabilities

    def forward(self, images: torch.Tensor, rng: SampleRandom | None = None) -> torch.Tensor:
        """The logits, float32, shape (batch, classes).

        Args:
            images: float32 in [0, 1], shape (batch, channels, height, width).
            rng: The random streams of the images, if any of the networks takes them.

        Raises:
            ContractError: A network returned no logits, others have other numbers of classes, or one has no gradient.
        """
        logits = [self._logits(index, images, rng) for index in range(len(self.networks))]
        if len({one.shape[1] for one in logits}) > 1:
            counts = ", ".join(f"{one.shape[1]} from {self._label(at)}" for at, one in enumerate(logits))
            raise ContractError(f"the models of an ensemble returned different numbers of logits: {counts}")
        return combine_logits(torch.stack(logits), "probabilities" if self.probabilities else "logits")

    def _logits(self, index: int, images: torch.Tensor, rng: SampleRandom | None) -> torch.Tensor:
        streams = (rng.derive(str(index)),) if rng is not None and self.drawn[index] else ()
        logits: torch.Tensor = self.networks[index](images, *streams).float()
        if logits.ndim != 2 or len(logits) != len(images):
            raise ContractError(
                f"{self._label(index)} of an ensemble returned shape {tuple(logits.shape)} for {len(images)} images; "
                "expected (images, classes)"
            )
        if self.gives[index] != "gradients":
            return logits
        if torch.is_grad_enabled():
            if images.requires_grad and not logits.requires_grad:
                raise ContractError(
                    f"{self._label(index)} of an ensemble has no gradient at its images, so that attacks would leave "
                    "it out; compute its logits with torch and without detach(), or declare that it gives scores"
                )
        elif len(images) and are_probabilities(logits):  # not in attacks, which would wait for an accelerator
            raise ContractError(
                f"{self._label(index)} of an ensemble returned probabilities, and only logits can be averaged; leave "
                "its softmax out"
            )
        return logits

    def _label(self, index: int) -> str:
        return f"model {self.names[index]!r} ({index + 1} of {len(self.names)})"
