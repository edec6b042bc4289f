"""An MNIST classifier with dropout that stays on: Monte Carlo dropout."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from advbench.api import Model, SampleRandom, Trainable, TrainingJob, param
from advbench_models.classifier_training import ClassifierTraining, in_unit_range
from advbench_models.mnist_cnn import MnistCnnNetwork
from advbench_models.mnist_training import RECIPES, train_mnist_classifier
from advbench_models.stored_weights import SHIPPED, StoredWeights

__all__ = ["DropoutNetwork", "MonteCarloDropout"]

RATE = 0.5
"""The share of values that a mask sets to 0."""

_LARGEST = "network.classifier.1.weight"
"""This tensor has 95 % of the parameters; it is stored in 8 bits."""


class DropoutNetwork(nn.Module):
    """The network of ``mnist-cnn`` with dropout before both fully connected layers.

    Args:
        samples: Number of masks over which probabilities are averaged.
    """

    def __init__(self, samples: int = 1) -> None:
        super().__init__()
        self.samples = samples
        self.network = MnistCnnNetwork()

    def forward(self, images: torch.Tensor, rng: SampleRandom | None = None) -> torch.Tensor:
        """Classifies images in [0, 1], shape (batch, 1, 28, 28); without random streams, nothing is dropped.

        Returns:
            Logits, shape (batch, 10).
        """
        network = self.network
        features = network.features((images - network.mean) / network.std)
        if rng is None:
            logits: torch.Tensor = network.classifier(features)
            return logits
        hidden, last = network.classifier[1], network.classifier[3]
        answers = []
        for _ in range(self.samples):
            activations = hidden(_masked(features.flatten(1), rng)).relu()
            answers.append(last(_masked(activations, rng)))
        return torch.stack(answers).log_softmax(dim=2).logsumexp(dim=0) - math.log(self.samples)


def _masked(values: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
    """Sets a random share of the values of each image to 0, and scales the others."""
    return values * rng.bernoulli(1 - RATE, values.shape[1]).to(values) / (1 - RATE)


@dataclasses.dataclass(frozen=True)
class MonteCarloDropout(StoredWeights, Model, Trainable):
    """The network of ``mnist-cnn``, trained with dropout that stays on when it classifies.

    Its probabilities are means over ``samples`` masks of dropout, an approximation of a Bayesian network. The shipped
    weights were trained without the images of the dataset ``mnist-5k``.

    Args:
        samples: Number of masks.
        weights: ``shipped``, or a file made by ``advbench train mc-dropout``.
    """

    name = "mc-dropout"
    source = (
        "Gal and Ghahramani 2016, Dropout as a Bayesian Approximation: Representing Model Uncertainty in Deep Learning"
    )
    stochastic = True
    image_shape = (1, 28, 28)
    num_classes = 10
    recipes: ClassVar[Mapping[str, str]] = RECIPES
    training_sets: ClassVar[tuple[str, ...]] = ("mnist",)
    shipped_folder: ClassVar[Path] = Path(__file__).parent / "weights"

    samples: int = param(10, min=1, max=10_000, help="masks of dropout over which probabilities are averaged")
    weights: str = param(
        SHIPPED, help="'shipped', or the path of a .safetensors file made by 'advbench train mc-dropout'"
    )

    def load(self) -> nn.Module:
        """Builds the network with its weights."""
        return self.load_weights_into(DropoutNetwork(self.samples))

    def train(self, job: TrainingJob) -> Mapping[str, Any]:
        """Trains with the recipe of :mod:`advbench_models.mnist_training`, with one mask for each image of a batch."""
        settings = {"dropout": f"{RATE} before both fully connected layers"}
        return train_mnist_classifier(
            self.name, DropoutNetwork, job, kind=_DropoutTraining, settings=settings, eight_bit=[_LARGEST]
        )


class _DropoutTraining(ClassifierTraining):
    """Learns images with masks that depend on the step and the image alone, so that it can be resumed."""

    def step(self, number: int, chosen: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Takes one gradient step on the batch's mean cross-entropy."""
        rng = SampleRandom(self.job.seed, f"dropout in step {number}", chosen, self.job.device)
        logits = self.network(in_unit_range(self.inputs(number, chosen)), rng)
        return self.descend(number, functional.cross_entropy(logits, self.labels[chosen]))
