"""A common interface for networks of any kind: float32 images in, float32 logits out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from advbench.errors import ContractError

if TYPE_CHECKING:
    from advbench.api.randomness import SampleRandom

__all__ = ["Float32Network", "logits_in"]


class Float32Network(nn.Module):
    """Wraps a network so that it takes float32 images and returns float32 logits, whatever dtype it uses.

    - :func:`logits_in` finds the logits in the network's output. Logits of another floating type are cast to float32;
      the gradient passes through the cast.
    - If the weights have another floating type and the network rejects float32 images, the images are cast to that
      type.
    - For 0 images the network is not called: the result has shape (0, classes) and is connected to the images.

    The wrapped network is shared and not modified.

    Args:
        network: Maps images, shape (batch, channels, height, width), to logits, shape (batch, classes).
        label: Name of the network in messages.
        takes_rng: Whether the network is that of a stochastic model, which takes ``(images, rng)``.

    Attributes:
        takes_rng: The same.
    """

    def __init__(self, network: nn.Module, label: str = "the network", *, takes_rng: bool = False) -> None:
        super().__init__()
        self.training = False
        self.network = network
        self.label = label
        self.takes_rng = takes_rng
        self._classes: int | None = None
        self._cast: torch.dtype | None = None

    def forward(self, images: torch.Tensor, rng: SampleRandom | None = None) -> torch.Tensor:
        """Float32 logits of shape (batch, classes).

        Args:
            images: Shape (batch, channels, height, width).
            rng: The random streams of the images, for the network of a stochastic model alone.

        Raises:
            ContractError: The network's output contains no logits.
        """
        if not len(images):
            return self._empty_logits(images)
        streams = (rng,) if self.takes_rng else ()
        logits = logits_in(self._answer(images, *streams), self.label)
        if logits.ndim == 2:
            self._classes = logits.shape[1]
        if logits.dtype == torch.float32:
            # A network may write its next output to the same memory; with a gradient, autograd refuses that.
            return logits if logits.requires_grad else logits.clone()
        if logits.dtype == torch.bool:
            return logits.to(torch.int64)  # bool tensors have no argmax
        return _in_float32(logits) if logits.is_floating_point() else logits

    def _answer(self, images: torch.Tensor, *streams: SampleRandom | None) -> Any:
        if self._cast is not None:
            return self.network(images.to(self._cast), *streams)
        try:
            # The clone protects the images from networks that normalise in place. torch.compile warns if its input is
            # not a leaf of the graph, so compiled networks get the images themselves.
            return self.network(images if hasattr(self.network, "_orig_mod") else images.clone(), *streams)
        except RuntimeError as error:
            # Cast only after an error: most networks with weights of another type cast the images themselves.
            if "type" not in str(error):
                raise
            for dtype in _other_types(self.network):
                try:
                    answer = self.network(images.to(dtype), *streams)
                except RuntimeError:
                    continue
                self._cast = dtype
                return answer
            raise

    def _empty_logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of 0 images. If the number of classes is unknown, the network classifies one black image first."""
        if self._classes is None:
            from advbench.api.randomness import SampleRandom

            with torch.no_grad():
                self(images.new_zeros(1, *images.shape[1:]), SampleRandom(0, "classes", [0], images.device))
        if self._classes is None:
            raise ContractError(f"{self.label} returns no logits of shape (batch, classes)")
        return images.flatten(1).sum(dim=1, keepdim=True).expand(0, self._classes) * 0


def logits_in(answer: Any, label: str = "the network") -> torch.Tensor:
    """Finds the logits in the output of a network.

    A tensor is taken as the logits. For a mapping, the entry ``logits`` is used; for an object, the attribute
    ``logits`` (outputs of Hugging Face classifiers; GoogLeNet and Inception of torchvision in training mode); for a
    tuple or list, the first item.

    Args:
        answer: The output of the network.
        label: Name of the network in messages.

    Returns:
        The logits, usually of shape (batch, classes).

    Raises:
        ContractError: The output contains no logits; or a later item of a tuple may also be the logits, because it is
            a matrix of another width, or one of the same width with another argmax for most images.
    """
    if isinstance(answer, torch.Tensor):
        return answer
    logits = answer.get("logits") if isinstance(answer, Mapping) else getattr(answer, "logits", None)
    if logits is None and isinstance(answer, (tuple, list)) and answer:
        logits = answer[0]
        _check_first(answer, label)
    if logits is None:
        kind = type(answer).__name__
        inside = f" with {', '.join(repr(key) for key in answer)}" if isinstance(answer, Mapping) and answer else ""
        raise ContractError(
            f"{label} returned {kind}{inside}, not a tensor of logits; return only the logits, or return them as the "
            "entry or attribute 'logits', or as the first item of a tuple"
        )
    return logits_in(logits, label)


def _check_first(answer: tuple[Any, ...] | list[Any], label: str) -> None:
    """Raises ContractError if the first item of a tuple may be features and a later one the logits.

    A later matrix of the same width may be the logits of an auxiliary head, which agrees with the first on most images.
    """
    first = answer[0]
    if not isinstance(first, torch.Tensor) or first.ndim != 2:
        return
    for item in answer[1:]:
        if not isinstance(item, torch.Tensor) or item.ndim != 2 or not item.is_floating_point() or item.shape[1] < 2:
            continue
        if item.shape == first.shape:
            differ = first.detach().argmax(dim=1) != item.detach().argmax(dim=1)
            if int(differ.sum()) * 2 <= len(first):
                continue
        elif len(item) != len(first):
            continue  # not one row per image
        raise ContractError(
            f"{label} returned a {type(answer).__name__} with tensors of shapes {tuple(first.shape)} and "
            f"{tuple(item.shape)}, and either may be the logits; return only the logits, or return them as the entry "
            "or attribute 'logits'"
        )


def _in_float32(logits: torch.Tensor) -> torch.Tensor:
    """Casts logits to float32. If that would lose the differences of float64 logits, subtracts the largest one first.

    Neither softmax nor the losses of attacks change if the same number is added to all logits of an image.
    """
    cast = logits.to(torch.float32)
    if logits.dtype != torch.float64 or logits.ndim != 2:
        return cast
    values = logits.detach()
    best = values.argmax(dim=1)
    top = values.gather(1, best[:, None])
    spread = top[:, 0] - values.median(dim=1).values
    offset = (top[:, 0].abs() > _OFFSET * spread) & (top[:, 0].abs() > 1)  # probabilities stay unchanged
    loses_digits = offset | (cast.detach().argmax(dim=1) != best)
    if not bool(loses_digits.any()):
        return cast
    return (logits - torch.where(loses_digits[:, None], top, torch.zeros_like(top))).to(torch.float32)


_OFFSET = 100.0
"""If the largest logit is this many times larger than the spread of the logits, float32 would lose digits."""


def _other_types(network: nn.Module) -> list[torch.dtype]:
    """Floating types of the network's weights other than float32, in the order of its layers."""
    types = (parameter.dtype for parameter in network.parameters())
    return list(dict.fromkeys(dtype for dtype in types if dtype.is_floating_point and dtype != torch.float32))
