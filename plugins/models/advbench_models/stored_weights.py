"""Weights that are shipped with the package, or in a file of the user's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from advbench.api import Component, ParameterError, WeightsError, load_weights, verified_digest

__all__ = ["SHIPPED", "StoredWeights"]

SHIPPED = "shipped"


class StoredWeights(Component):
    """A model whose parameter ``weights`` names shipped weights or is the path of a .safetensors file.

    Attributes:
        shipped_folder: Folder of the shipped weights.
        shipped: The shipped weights files without their suffix, by the values of ``weights`` that name them. By
            default, ``shipped`` is the file named after the component.
        weights: The parameter, which the model declares.
    """

    shipped_folder: ClassVar[Path]
    shipped: ClassVar[Mapping[str, str]] = {}
    weights: str

    def __post_init__(self) -> None:
        """Validates the parameters.

        Raises:
            ParameterError: The weights are neither ``shipped`` nor the path of a .safetensors file.
        """
        super().__post_init__()
        if not self.self_contained and Path(self.weights).suffix != ".safetensors":
            names = ", ".join(map(repr, self._shipped))
            raise ParameterError(f"weights={self.weights}: must be {names} or the path of a .safetensors file")

    @property
    def self_contained(self) -> bool:  # type: ignore[override]
        """Whether the weights are shipped ones."""
        return self.weights in self._shipped

    def load_weights_into(self, network: nn.Module) -> nn.Module:
        """Loads the weights into a network and returns it.

        Raises:
            WeightsError: They are missing, damaged or another network's.
        """
        state = load_weights(self._path, self._remedy)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise WeightsError(
                f"weights {self._path} are not those of {self.name} ({error}); {self._remedy}"
            ) from error
        # Channels-last is a third faster on the CPU; set here, so that rounding is the same wherever the network is
        # used.
        return network.to(memory_format=torch.channels_last)

    def weights_digest(self) -> str:
        """Returns the SHA-256 of the weights, checked against their sidecar."""
        return verified_digest(self._path, self._remedy)

    @property
    def weights_file(self) -> str:
        """The name of the weights that ``shipped`` stands for, without the suffix, unless :attr:`shipped` names it."""
        return self.name

    @property
    def training_spec(self) -> str:
        """The spec that ``advbench train`` takes for these weights."""
        return self.name

    @property
    def _shipped(self) -> Mapping[str, str]:
        return self.shipped or {SHIPPED: self.weights_file}

    @property
    def _path(self) -> Path:
        name = self._shipped.get(self.weights)
        return Path(self.weights).expanduser() if name is None else self.shipped_folder / f"{name}.safetensors"

    @property
    def _remedy(self) -> str:
        if self.self_contained:
            # Further shipped weights are named after their recipe.
            recipe = "" if self.weights == SHIPPED else f" --recipe {self.weights}"
            separator = "," if ":" in self.training_spec else ":"
            command = f"advbench train {self.training_spec}{recipe} --output FILE"
            return (
                f"reinstall advbench, or train your own with '{command}' and use "
                f"{self.training_spec}{separator}weights=FILE"
            )
        return f"'advbench train {self.training_spec} --output {self.weights}' makes them"
