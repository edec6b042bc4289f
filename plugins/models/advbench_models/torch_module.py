"""A network of the user's own, from a Python file or an installed package."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from advbench.api import (
    Model,
    ParameterError,
    UsageError,
    WeightsError,
    fill,
    find_object,
    param,
    read_state_dict,
    sha256_file,
)
from advbench_models.normalised import Normalised, channel_values

__all__ = ["TorchModule"]

_SHAPE = re.compile(r"(\d+)x(\d+)x(\d+)")


@dataclasses.dataclass(frozen=True)
class TorchModule(Model):
    """A network of your own: ``torch-module:build=net.py:make,weights=net.safetensors``.

    ``build`` names an ``nn.Module``, its class, or a function that returns one; a class and a function are called
    without arguments. Its outputs are logits. It takes images in [0, 1]: give ``mean`` and ``std`` where it was trained
    on normalised ones. Weights are a .safetensors file or a state dict that ``torch.save`` wrote; a pickle that holds
    anything else is refused, and nothing in it runs. Without weights, the network is used as it is built.
    """

    name: ClassVar[str] = "torch-module"

    build: str = param(help="FILE.py:NAME or package.module:NAME of a network, or of what makes one")
    weights: str | None = param(None, help="path of a state dict: .safetensors, or written by torch.save")
    mean: str | None = param(None, help="what is subtracted from images: a number, or one a channel as in 0.5:0.4:0.4")
    std: str | None = param(None, help="what images are divided by then; written as the mean")
    shape: str | None = param(None, help="channels x height x width that it takes, as in 3x32x32; none: any")
    classes: int | None = param(None, min=2, help="how many logits it gives; none: as many as the dataset has classes")

    def __post_init__(self) -> None:
        """Checks the forms of the parameters; nothing is imported yet."""
        super().__post_init__()
        if (self.mean is None) != (self.std is None):
            raise ParameterError("mean and std: give both, or neither")
        self._normalisation()
        if self.shape is not None and not _SHAPE.fullmatch(self.shape):
            raise ParameterError(f"shape={self.shape}: must be channels x height x width, as in 3x32x32")

    @property
    def image_shape(self) -> tuple[int, int, int] | None:  # type: ignore[override]
        """What it takes, where that is said."""
        found = _SHAPE.fullmatch(self.shape or "")
        return (int(found[1]), int(found[2]), int(found[3])) if found else None

    @property
    def num_classes(self) -> int | None:  # type: ignore[override]
        """How many logits it gives, where that is said."""
        return self.classes

    def load(self) -> nn.Module:
        """Builds the network, fills it and puts the normalisation before it."""
        network = self._built()
        if self._path is not None:
            fill(network, self._path)
        normalisation = self._normalisation()
        return network if normalisation is None else Normalised(network, *normalisation)

    def weights_digest(self) -> str:
        """SHA-256 of the file of weights; without one, of the weights of the network as it is built."""
        if self._path is None:
            return self._own_digest
        read_state_dict(self._path)  # what cannot be used is refused before any work
        return sha256_file(self._path)

    def code_modules(self) -> tuple[str, ...]:
        """The module that builds the network."""
        return (self._found[1],)

    @functools.cached_property
    def _found(self) -> tuple[Any, str]:
        try:
            return find_object(self.build)
        except UsageError as error:
            raise UsageError(f"model {self.name!r}: build={error}") from error

    @functools.cached_property
    def _own_digest(self) -> str:
        first, second = (_digest(self._built()) for _ in range(2))
        if first != second:
            raise WeightsError(
                f"model {self.name!r}: build={self.build} makes other weights each time; give weights=FILE, or let it "
                "read or seed them"
            )
        return first

    def _built(self) -> nn.Module:
        made = self._found[0]
        if not isinstance(made, nn.Module):
            if not callable(made):
                raise UsageError(
                    f"model {self.name!r}: build={self.build} is a {type(made).__name__}; expected a network"
                )
            made = made()
        if not isinstance(made, nn.Module):
            raise UsageError(
                f"model {self.name!r}: build={self.build} returns a {type(made).__name__}; expected a torch.nn.Module"
            )
        return made

    @property
    def _path(self) -> Path | None:
        return None if self.weights is None else Path(self.weights).expanduser()

    def _normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        if self.mean is None or self.std is None:
            return None
        return channel_values("mean", self.mean), channel_values("std", self.std, positive=True)


def _digest(network: nn.Module) -> str:
    sha = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        sha.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        sha.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
