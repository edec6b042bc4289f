"""Functions as networks: classifiers that are no networks of torch, such as pipelines of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from advbench.api.float32_network import logits_in
from advbench.errors import ContractError

if TYPE_CHECKING:
    from advbench.api.attack import Access
    from advbench.api.randomness import SampleRandom

__all__ = ["FunctionNetwork"]

_SUM = 1e-2
"""How far the sum of a row of probabilities may be from 1."""

Array = npt.NDArray[Any]


class FunctionNetwork(nn.Module):
    """A function of images as the network of a model; see :attr:`advbench.api.Model.gives`.

    A function that gives ``gradients`` gets a tensor and returns logits that autograd follows. Any other function gets
    a NumPy array, float32 in [0, 1], shape (m, channels, height, width), and its result may be a tensor, an array or a
    list:

    - if it gives ``scores``, logits of shape (m, classes), or probabilities;
    - if it gives ``labels``, class numbers of shape (m,), or one-hot labels, probabilities or logits of shape
      (m, classes), of which only the largest entry of each row counts.

    Args:
        function: Called with the images; for a stochastic model with ``(images, rng)``. It may be an ``nn.Module``,
            which always gets tensors.
        label: What messages call it.
        gives: What it gives.
        classes: The number of classes, which must be known if the function returns class numbers.
        probabilities: Whether the function returns probabilities as scores. The logits are then their logarithms.
        tensors: Whether the function gets tensors instead of arrays.

    Raises:
        ContractError: On a call, if the function returns anything else.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        label: str = "the function",
        *,
        gives: Access = "gradients",
        classes: int | None = None,
        probabilities: bool = False,
        tensors: bool = False,
    ) -> None:
        super().__init__()
        self.training = False
        self.function = function
        self.label = label
        self.gives = gives
        self.classes = classes
        self.probabilities = probabilities
        self.tensors = tensors or isinstance(function, nn.Module)

    def forward(self, images: torch.Tensor, rng: SampleRandom | None = None) -> torch.Tensor:
        """Logits of shape (m, classes), or what the largest entry is to be taken of.

        Args:
            images: float32 in [0, 1], shape (m, channels, height, width).
            rng: The random streams of the images; None if the function is deterministic.

        Raises:
            ContractError: The function returned anything else than it may.
        """
        streams = () if rng is None else (rng,)
        if self.gives == "gradients":
            return self.function(images, *streams)  # type: ignore[no-any-return]
        given = images.detach() if self.tensors else images.detach().cpu().numpy()
        with torch.no_grad():
            returned = self.function(given, *streams)
        if isinstance(self.function, nn.Module):
            returned = logits_in(returned, self.label)
        answer = self._checked(returned, len(images))
        return torch.from_numpy(np.ascontiguousarray(answer)).to(images.device)

    def _checked(self, returned: Any, count: int) -> Array:
        answer = _as_array(returned)
        if answer is None or answer.dtype.kind not in "biuf":
            kind = type(returned).__name__ if answer is None else f"an array of {answer.dtype}"
            raise ContractError(f"{self.label} returned {kind}; expected {self._expected(count)}")
        column = answer.shape == (count, 1) and answer.dtype.kind in "biu"
        if answer.shape == (count,) or column:
            return self._one_hot(answer.reshape(count))
        if answer.ndim != 2 or len(answer) != count or answer.shape[1] < 2:
            raise ContractError(f"{self.label} returned shape {answer.shape}; expected {self._expected(count)}")
        answer = answer.astype(np.float64 if answer.dtype == np.float64 else np.float32)
        if not np.isfinite(answer).all():
            bad = int((~np.isfinite(answer)).any(axis=1).sum())
            raise ContractError(f"{self.label} returned NaN or infinite values for {bad} of {count} images")
        if self.gives != "scores":
            return answer
        likely = bool((answer >= -_SUM).all() and (np.abs(answer.sum(axis=1) - 1) <= _SUM).all())
        if self.probabilities and not likely:
            raise ContractError(f"{self.label} returned rows that are no probabilities: at least 0, with the sum 1")
        if self.probabilities:
            return np.log(np.clip(answer.astype(np.float64), np.finfo(np.float64).tiny, None))
        if likely and count >= _FEW:
            raise ContractError(
                f"{self.label} returned probabilities as scores; return logits, or set probabilities to true"
            )
        return answer

    def _one_hot(self, labels: Array) -> Array:
        """Class numbers as one-hot labels, float32, shape (m, classes)."""
        if self.gives != "labels":
            raise ContractError(
                f"{self.label} returned shape {labels.shape}, and gives {self.gives}: return a score for each class, "
                "shape (images, classes), or set gives to labels"
            )
        whole = np.isfinite(labels) & (labels == np.floor(labels))
        if not whole.all():
            example = labels[~whole][0]
            raise ContractError(f"{self.label} returned {example!s} as a class; return class numbers from 0")
        if self.classes is None:
            raise ContractError(
                f"{self.label} returned class numbers, and their number is unknown: set classes, as in classes=10"
            )
        if len(labels) and not (labels.min() >= 0 and labels.max() < self.classes):
            found = f"{labels.min():.0f} to {labels.max():.0f}"
            raise ContractError(
                f"{self.label} returned the classes {found}; with classes={self.classes} they must be from 0 to "
                f"{self.classes - 1}"
            )
        one_hot: Array = np.eye(self.classes, dtype=np.float32)[labels.astype(np.int64)]
        return one_hot

    def _expected(self, count: int) -> str:
        what = "a score for each class" if self.gives == "scores" else "class numbers of shape"
        more = "" if self.gives == "scores" else f" ({count},), or an array of shape"
        return f"{what}{more or ', shape'} ({count}, classes)"


_FEW = 2
"""Of fewer images, the scores may look like probabilities by chance."""


def _as_array(returned: Any) -> Array | None:
    """What a function returned as an array; None if it is no array of numbers."""
    if isinstance(returned, torch.Tensor):
        tensor = returned.detach().cpu()
        return (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor).numpy()
    try:
        array: Array = np.asarray(returned)
    except Exception:
        return None
    return None if array.dtype.kind == "O" else array
