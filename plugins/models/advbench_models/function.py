"""A classifier of the user's own that is a function, from a Python file or an installed package."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, cast

from torch import nn

from advbench.api import (
    Access,
    FunctionNetwork,
    Model,
    ParameterError,
    UsageError,
    WeightsError,
    find_object,
    param,
    sha256_file,
)
from advbench_models.arguments import parse_shape, signature_mismatch

__all__ = ["Function"]


@dataclasses.dataclass(frozen=True)
class Function(Model):
    """A function of your own: ``function:predict=model.py:predict,classes=10``.

    It may call anything: scikit-learn, ONNX Runtime, XGBoost, a service. It gets images in [0, 1] as a NumPy array,
    float32, shape (images, channels, height, width).

    With ``gives=labels``, it returns class numbers of shape (images,), and ``classes`` is needed; or one-hot labels,
    probabilities or scores of shape (images, classes), of which only the largest counts. With ``gives=scores``, it
    returns logits, or with ``probabilities=true`` probabilities, whose logarithms are the logits. With
    ``gives=gradients``, it gets a torch tensor and returns logits that autograd follows.

    A stochastic function is called with ``(images, rng)``; see :class:`advbench.api.SampleRandom`.
    """

    name: ClassVar[str] = "function"

    predict: str = param(help="FILE.py:NAME or package.module:NAME of a function of images")
    gives: str = param(  # type: ignore[assignment, misc]
        "labels", choices=("labels", "scores", "gradients"), help="what attacks get: labels, scores or gradients"
    )
    classes: int | None = param(None, min=2, help="number of classes; needed if the function returns class numbers")
    shape: str | None = param(None, help="image shape, channels x height x width, as in 3x32x32; none: any")
    probabilities: bool = param(False, help="whether the scores are probabilities")
    tensors: bool = param(False, help="whether the function gets torch tensors on the device instead of NumPy arrays")
    stochastic: bool = param(False, help="whether the function is random and takes (images, rng)")  # type: ignore[misc]
    weights: str | None = param(
        None, help="path of a file that the function reads, such as a pickle; results are stored for its content"
    )

    def __post_init__(self) -> None:
        """Validates the parameters; imports nothing.

        Raises:
            ParameterError: A value is malformed, or not allowed together with the others.
        """
        super().__post_init__()
        if self.probabilities and self.gives != "scores":
            raise ParameterError(f"probabilities=true: allowed with gives=scores alone, not with gives={self.gives}")
        parse_shape(self.shape)

    @property
    def image_shape(self) -> tuple[int, int, int] | None:  # type: ignore[override]
        """The shape of images, if given."""
        return parse_shape(self.shape)

    @property
    def num_classes(self) -> int | None:  # type: ignore[override]
        """The number of classes, if given."""
        return self.classes

    def load(self) -> nn.Module:
        """Wraps the function as a network.

        Raises:
            UsageError: There is no such function, or it takes other arguments.
        """
        return FunctionNetwork(
            self._function[0],
            f"model {self.name!r}: predict={self.predict}",
            gives=cast(Access, self.gives),
            classes=self.classes,
            probabilities=self.probabilities,
            tensors=self.tensors,
        )

    def weights_digest(self) -> str:
        """The SHA-256 of the file that the function reads; the code has digests of its own.

        Raises:
            WeightsError: There is no such file.
            UsageError: The function cannot be used.
        """
        self._function  # noqa: B018  a function that cannot be used is rejected before any work
        if self.weights is None:
            return hashlib.sha256(b"no file").hexdigest()
        path = Path(self.weights).expanduser()
        if not path.is_file():
            raise WeightsError(f"model {self.name!r}: weights={self.weights}: no such file")
        return sha256_file(path)

    def code_modules(self) -> tuple[str, ...]:
        """Returns the module of the function."""
        return (self._function[1],)

    @functools.cached_property
    def _function(self) -> tuple[Callable[..., Any], str]:
        try:
            function, module = find_object(self.predict)
        except UsageError as error:
            raise UsageError(f"model {self.name!r}: predict={error}") from error
        where = f"model {self.name!r}: predict={self.predict}"
        if isinstance(function, nn.Module):
            raise UsageError(f"{where} is a network; use torch-module:build={self.predict}")
        if inspect.isclass(function) or not callable(function):
            what = "a class" if inspect.isclass(function) else f"an object of {type(function).__name__}"
            raise UsageError(f"{where} is {what}; name a function, which may call a method of it")
        arguments = ["images", "rng"] if self.stochastic else ["images"]
        reason = signature_mismatch(function, arguments, {})
        if reason:
            called = ", ".join(arguments)
            hint = " (stochastic=true adds rng)" if not self.stochastic else ""
            raise UsageError(f"{where} does not take ({called}){hint}: {reason}")
        return function, module
