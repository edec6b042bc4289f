"""Networks as users have them, called as one kind: float32 images in, float32 logits out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from advbench.errors import ContractError

__all__ = ["Float32Network", "logits_in"]


class Float32Network(nn.Module):
    """A network that is given float32 images and gives float32 logits, whatever it computes in and returns.

    - Its logits are those that :func:`logits_in` finds in what it returns. Those of another floating type are cast,
      and the gradient goes through the cast.
    - Where its weights are of another floating type, and it refuses float32 images, the images are cast to that type.
    - It is never given 0 images: the answer has shape (0, classes) and a gradient to the images.

    The network is shared and not changed.

    Args:
        network: From images, shape (batch, channels, height, width), to logits, shape (batch, classes).
        label: What messages call it.
    """

    def __init__(self, network: nn.Module, label: str = "the network") -> None:
        super().__init__()
        self.training = False
        self.network = network
        self.label = label
        self._classes: int | None = None
        self._cast: torch.dtype | None = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Float32 logits of shape (batch, classes).

        Raises:
            ContractError: Nothing that it returned can be the logits.
        """
        if not len(images):
            return self._of_nothing(images)
        logits = logits_in(self._answer(images), self.label)
        if logits.ndim == 2:
            self._classes = logits.shape[1]
        if logits.dtype == torch.float32:
            return logits
        if logits.dtype == torch.bool:
            return logits.to(torch.int64)  # which has an argmax
        return _in_float32(logits) if logits.is_floating_point() else logits

    def _answer(self, images: torch.Tensor) -> Any:
        if self._cast is not None:
            return self.network(images.to(self._cast))
        try:
            # A network may normalise in place. torch.compile warns of images that are no leaves of the graph.
            return self.network(images if hasattr(self.network, "_orig_mod") else images.clone())
        except RuntimeError as error:
            # Asked only now: most networks with such weights cast the images themselves.
            if "type" not in str(error):
                raise
            for dtype in _other_types(self.network):
                try:
                    answer = self.network(images.to(dtype))
                except RuntimeError:
                    continue
                self._cast = dtype
                return answer
            raise

    def _of_nothing(self, images: torch.Tensor) -> torch.Tensor:
        """The logits of 0 images; how many classes there are is asked of one black image where it is not known."""
        if self._classes is None:
            with torch.no_grad():
                self(images.new_zeros(1, *images.shape[1:]))
        if self._classes is None:
            raise ContractError(f"{self.label} gives no logits of shape (batch, classes)")
        return images.flatten(1).sum(dim=1, keepdim=True).expand(0, self._classes) * 0


def logits_in(answer: Any, label: str = "the network") -> torch.Tensor:
    """The logits in what a network returned.

    A tensor is the logits. Of a mapping it is the entry ``logits``, of an object with such an attribute that one (the
    outputs of Hugging Face's classifiers; torchvision's GoogLeNet and Inception in training mode), and of a tuple or a
    list the first item.

    Args:
        answer: What it returned.
        label: What messages call it.

    Raises:
        ContractError: There is no such thing, or a later item of a tuple may be the logits, too: a table of another
            width, or one of the same width that has its maximum elsewhere for most images.
    """
    if isinstance(answer, torch.Tensor):
        return answer
    found = answer.get("logits") if isinstance(answer, Mapping) else getattr(answer, "logits", None)
    if found is None and isinstance(answer, (tuple, list)) and answer:
        found = answer[0]
        _check_first(answer, label)
    if found is None:
        kind = type(answer).__name__
        inside = f" with {', '.join(repr(key) for key in answer)}" if isinstance(answer, Mapping) and answer else ""
        raise ContractError(
            f"{label} returned {kind}{inside}, not a tensor of logits; return them alone, as the entry or attribute "
            "'logits', or as the first item of a tuple"
        )
    return logits_in(found, label)


def _check_first(answer: tuple[Any, ...] | list[Any], label: str) -> None:
    """Raises ContractError where a tuple's first item may be features, and another one the logits.

    Another table of the same width may be an auxiliary head, which agrees with the first on most images.
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
            continue  # no row for each image
        raise ContractError(
            f"{label} returned a {type(answer).__name__} with tensors of shapes {tuple(first.shape)} and "
            f"{tuple(item.shape)}, of which either may be the logits; return the logits alone, or as the entry or "
            "attribute 'logits'"
        )


def _in_float32(logits: torch.Tensor) -> torch.Tensor:
    """The cast; of float64 logits that float32 cannot tell apart well, the largest is subtracted first.

    No loss of attacks, and no softmax, depends on what is added to all logits of an image.
    """
    cast = logits.to(torch.float32)
    if logits.dtype != torch.float64 or logits.ndim != 2:
        return cast
    values = logits.detach()
    best = values.argmax(dim=1)
    top = values.gather(1, best[:, None])
    apart = top[:, 0] - values.median(dim=1).values
    offset = (top[:, 0].abs() > _OFFSET * apart) & (top[:, 0].abs() > 1)  # which leaves probabilities as they are
    blurred = offset | (cast.detach().argmax(dim=1) != best)
    if not bool(blurred.any()):
        return cast
    return (logits - torch.where(blurred[:, None], top, torch.zeros_like(top))).to(torch.float32)


_OFFSET = 100.0
"""Logits whose largest is so many times what they differ by have a common offset, which costs float32 digits."""


def _other_types(network: nn.Module) -> list[torch.dtype]:
    """The floating types of a network's weights other than float32, in the order of its layers."""
    types = (parameter.dtype for parameter in network.parameters())
    return list(dict.fromkeys(dtype for dtype in types if dtype.is_floating_point and dtype != torch.float32))
