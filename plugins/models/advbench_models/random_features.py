"""An MNIST classifier whose convolution is random: only its last layer is trained, by linear least squares."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from advbench.api import (
    Model,
    Trainable,
    TrainingJob,
    TrainingProgress,
    WeightsError,
    param,
    save_weights,
    widest_float,
)
from advbench_models.classifier_training import in_unit_range
from advbench_models.mnist_training import MNIST
from advbench_models.stored_weights import SHIPPED, StoredWeights

__all__ = ["RandomFeatures", "RandomFeaturesNetwork"]

_FILTERS, _SIDE, _POOL = 128, 6, 6
_RIDGE = 1e-2
_SCALE = 10.0
"""Logits are least squares answers from about 0 to 1, times this."""
_BATCH = 500

RECIPES: Mapping[str, str] = {"least-squares": "the last layer by regularised linear least squares, in one pass"}


class RandomFeaturesNetwork(nn.Module):
    """Maps images in [0, 1], shape (batch, 1, 28, 28), to logits, shape (batch, 10), through random filters."""

    filters: torch.Tensor
    offsets: torch.Tensor

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        filters = torch.randn(_FILTERS, 1, _SIDE, _SIDE, generator=generator)
        filters -= filters.mean(dim=(2, 3), keepdim=True)
        self.register_buffer("filters", filters / filters.norm(dim=(2, 3), keepdim=True))
        self.register_buffer("offsets", torch.randn(_FILTERS, generator=generator) / 4)
        places = (28 - _SIDE + 1) // _POOL
        self.last = nn.Linear(_FILTERS * places**2, 10)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The rectified answers of the random filters, averaged over squares; shape (batch, features)."""
        answers = torch.nn.functional.conv2d(images, self.filters, self.offsets).relu()
        return torch.nn.functional.avg_pool2d(answers, _POOL).flatten(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Classifies images."""
        logits: torch.Tensor = self.last(self.features(images))
        return logits


@dataclasses.dataclass(frozen=True)
class RandomFeatures(StoredWeights, Model, Trainable):
    """A layer of random filters with a trained linear classifier for MNIST.

    Several with different seeds form an ensemble:
    ``ensemble:of="mnist-random-features | mnist-random-features:seed=1"``.
    The shipped weights, for the seeds 0 to 4, were trained without the images of the dataset ``mnist-5k``.

    Args:
        seed: Seed of the random filters.
        weights: ``shipped``, or a file made by ``advbench train mnist-random-features``.
    """

    name = "mnist-random-features"
    source = (
        "Rahimi and Recht 2007, Random Features for Large-Scale Kernel Machines; Jarrett, Kavukcuoglu, Ranzato and "
        "LeCun 2009, What is the Best Multi-Stage Architecture for Object Recognition? (random filters)"
    )
    image_shape = (1, 28, 28)
    num_classes = 10
    recipes: ClassVar[Mapping[str, str]] = RECIPES
    training_sets: ClassVar[tuple[str, ...]] = ("mnist",)
    shipped_folder: ClassVar[Path] = Path(__file__).parent / "weights"

    seed: int = param(0, min=0, help="seed of the random filters")
    weights: str = param(
        SHIPPED, help="'shipped', or the path of a .safetensors file made by 'advbench train mnist-random-features'"
    )

    def load(self) -> nn.Module:
        """Builds the network with its weights.

        Raises:
            WeightsError: They are missing or damaged, or have the filters of another seed.
        """
        network = RandomFeaturesNetwork(self.seed)
        filters = network.filters.clone()
        self.load_weights_into(network)
        if not torch.allclose(network.filters, filters, atol=1e-5):
            raise WeightsError(f"weights {self.weights} have the filters of another seed than {self.seed}")
        return network

    def weights_name(self, dataset: str) -> str:
        """Returns ``mnist-random-features-0`` and the like."""
        del dataset
        return self.weights_file

    @property
    def weights_file(self) -> str:
        """The name of the shipped weights, which depends on the seed."""
        return f"{self.name}-{self.seed}"

    @property
    def training_spec(self) -> str:
        """The spec with the seed."""
        return f"{self.name}:seed={self.seed}"

    def train(self, job: TrainingJob) -> Mapping[str, Any]:
        """Solves for the last layer.

        Raises:
            DataError: The training set does not hold the images to be held out.
        """
        training_set = MNIST.load_training_set(job)
        network = RandomFeaturesNetwork(self.seed).to(job.device)
        batches = range(0, len(training_set), _BATCH)
        size = network.last.in_features + 1
        where = job.device if widest_float(job.device) == torch.float64 else torch.device("cpu")
        gram = torch.zeros(size, size, dtype=torch.float64, device=where)
        right = torch.zeros(size, 10, dtype=torch.float64, device=where)
        with torch.no_grad():
            for number, start in enumerate(batches, 1):
                images, labels = (part[start : start + _BATCH] for part in (training_set.images, training_set.labels))
                features = network.features(in_unit_range(images.to(job.device))).to(where).double()
                features = torch.cat((features, torch.ones_like(features[:, :1])), dim=1)
                gram += features.T @ features
                right += features.T @ torch.nn.functional.one_hot(labels.to(where), 10).double()
                job.report(TrainingProgress(number, len(batches), 1, 1, {}))
            gram += _RIDGE * torch.eye(size, dtype=torch.float64, device=where)
            solution = _SCALE * torch.linalg.solve(gram, right)
            network.last.weight.copy_(solution[:-1].T)
            network.last.bias.copy_(solution[-1])
            test_set = job.load_dataset(MNIST.test_set)
            found = [
                network(in_unit_range(part.to(job.device))).argmax(dim=1).cpu()
                for part in torch.split(test_set.images, _BATCH)
            ]
        provenance = {
            "component": self.name,
            "recipe": job.recipe,
            "filters_seed": self.seed,
            "ridge": _RIDGE,
            **job.provenance(),
            "training_set": MNIST.learned,
            "training_samples": len(training_set),
            "data_digest": training_set.digest(),
            "test_set": MNIST.test_set,
            "test_accuracy": int((torch.cat(found) == test_set.labels).sum()) / len(test_set),
        }
        digest = save_weights(job.output, network.state_dict(), provenance)
        return {"sha256": digest, **provenance}
