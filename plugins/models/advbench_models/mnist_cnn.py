"""The paper's MNIST classifier: two convolutions, two fully connected layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from advbench.api import (
    Model,
    ParameterError,
    Trainable,
    TrainingJob,
    WeightsError,
    load_weights,
    param,
    verified_digest,
)
from advbench_models.mnist_training import train_mnist_classifier

__all__ = ["MnistCnn", "MnistCnnNetwork"]

SHIPPED = "shipped"
SHIPPED_FOLDER = Path(__file__).parent / "weights"


class MnistCnnNetwork(nn.Module):
    """Images in [0, 1], shape (batch, 1, 28, 28), to logits, shape (batch, 10); 431,080 parameters."""

    # Mean and standard deviation of MNIST's training pixels, rounded as everyone rounds them.
    mean = 0.1307
    std = 0.3081

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 20, kernel_size=5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, kernel_size=5),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(50 * 4 * 4, 500),
            nn.ReLU(),
            nn.Linear(500, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalises and classifies."""
        features = self.features((images - self.mean) / self.std)
        logits: torch.Tensor = self.classifier(features)
        return logits


@dataclasses.dataclass(frozen=True)
class MnistCnn(Model, Trainable):
    """Convolutional network of two convolutions and two fully connected layers, for MNIST.

    The shipped weights have not seen the images of the dataset ``mnist-5k``.
    """

    name = "mnist-cnn"
    source = "PyTorch's MNIST example (pytorch/examples, mnist/main.py) as it was in 2019"
    image_shape = (1, 28, 28)
    num_classes = 10

    weights: str = param(
        SHIPPED, help="'shipped', or the path of a .safetensors file made by 'advbench train mnist-cnn'"
    )

    def __post_init__(self) -> None:
        """Checks that the weights are of a kind that is ever read."""
        super().__post_init__()
        if self.weights != SHIPPED and Path(self.weights).suffix != ".safetensors":
            raise ParameterError(f"weights={self.weights}: must be {SHIPPED!r} or the path of a .safetensors file")

    def load(self) -> nn.Module:
        """Builds the network with its weights."""
        state = load_weights(self._path, self._remedy)
        network = MnistCnnNetwork()
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise WeightsError(
                f"weights {self._path} are not those of {self.name} ({error}); {self._remedy}"
            ) from error
        # Channels last is a third quicker on the CPU, and its rounding the same wherever the network is used.
        return network.to(memory_format=torch.channels_last)

    def weights_digest(self) -> str:
        """SHA-256 of the weights, held to their sidecar."""
        return verified_digest(self._path, self._remedy)

    def train(self, job: TrainingJob) -> Mapping[str, Any]:
        """Trains by the recipe of :mod:`advbench_models.mnist_training`."""
        return train_mnist_classifier(self.name, MnistCnnNetwork, job)

    @property
    def _path(self) -> Path:
        if self.weights == SHIPPED:
            return SHIPPED_FOLDER / f"{self.name}.safetensors"
        return Path(self.weights).expanduser()

    @property
    def _remedy(self) -> str:
        if self.weights == SHIPPED:
            return (
                f"reinstall advbench, or train your own with 'advbench train {self.name} --output FILE' "
                f"and use {self.name}:weights=FILE"
            )
        return f"'advbench train {self.name} --output {self.weights}' makes them"
