"""A small convolutional classifier for Fashion-MNIST."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from advbench.api import Model, Trainable, TrainingJob, param
from advbench_models.fashion_mnist_training import RECIPES, train_fashion_mnist_classifier
from advbench_models.mnist_cnn import MnistCnnNetwork
from advbench_models.stored_weights import SHIPPED, StoredWeights

__all__ = ["FashionMnistCnn", "FashionMnistCnnNetwork"]


class FashionMnistCnnNetwork(MnistCnnNetwork):
    """Maps images in [0, 1], shape (batch, 1, 28, 28), to logits, shape (batch, 10); 431,080 parameters."""

    # Mean and standard deviation of Fashion-MNIST's training pixels.
    mean = 0.2860
    std = 0.3530


@dataclasses.dataclass(frozen=True)
class FashionMnistCnn(StoredWeights, Model, Trainable):
    """Convolutional network for Fashion-MNIST with the layers of ``mnist-cnn``.

    The shipped weights were trained on the training set alone. ``fashion-mnist-20`` comes from the test set.
    """

    name = "fashion-mnist-cnn"
    source = "the network of PyTorch's MNIST example (pytorch/examples, mnist/main.py) as it was in 2019"
    image_shape = (1, 28, 28)
    num_classes = 10
    recipes: ClassVar[Mapping[str, str]] = RECIPES
    training_sets: ClassVar[tuple[str, ...]] = ("fashion-mnist",)
    trains_behind_defenses = True
    shipped_folder: ClassVar[Path] = Path(__file__).parent / "weights"

    weights: str = param(
        SHIPPED, help="'shipped', or the path of a .safetensors file made by 'advbench train fashion-mnist-cnn'"
    )

    def load(self) -> nn.Module:
        """Builds the network with its weights."""
        return self.load_weights_into(FashionMnistCnnNetwork())

    def train(self, job: TrainingJob) -> Mapping[str, Any]:
        """Trains with the recipe of :mod:`advbench_models.fashion_mnist_training`."""
        return train_fashion_mnist_classifier(self.name, FashionMnistCnnNetwork, job)
