"""The recipe by which a classifier with certificates is trained: on interval bounds of its logits.

It is that of Gowal et al. 2018 (On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust
Models, section 3): the loss is κ times the cross-entropy of the images plus 1 − κ times that of the worst logits within
eps. The network learns the images alone at first; then eps grows from 0, and κ falls from 1 to ½. With 60 epochs, not
100, and a smaller network than theirs, the training takes about 20 minutes on one core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from advbench.api import TrainingJob
from advbench_models.classifier_recipe import ClassifierData, train_by_recipe
from advbench_models.classifier_training import ClassifierTraining, in_unit_range
from advbench_models.interval_bounds import margins_within, worst_logits
from advbench_models.mnist_training import MNIST

__all__ = ["RECIPES", "train_with_interval_bounds"]

IBP = "ibp"
RECIPES: Mapping[str, str] = {IBP: "60 epochs on interval bounds within L-infinity 0.3"}

EPOCHS = 60
BATCH_SIZE = 100
LEARNING_RATE = 1e-3
DECAYS = (0.6, 0.85)
"""After these shares of the steps, the learning rate is a tenth of what it was."""

EPS = 0.3
WARM_UP, GROWN = 0.03, 0.4
"""Between these shares of the steps, eps grows from 0 to its size, and κ falls from 1 to its last value."""
KAPPA = 0.5

TEST_RADII = (0.1, 0.2, 0.3)

LARGEST_TENSOR = "layers.5.weight"
"""It has 94 % of the parameters; it is stored in 8 bits."""


def train_with_interval_bounds(name: str, build: Callable[[], nn.Module], job: TrainingJob) -> Mapping[str, Any]:
    """Trains a classifier on interval bounds; see :func:`~advbench_models.classifier_recipe.train_by_recipe`."""
    settings = {
        "epochs": EPOCHS,
        "batch_size": BATCH_SIZE,
        "optimizer": "adam",
        "learning_rate": LEARNING_RATE,
        "schedule": " and ".join(f"a tenth after {share:.0%}" for share in DECAYS) + " of the steps",
        "loss": f"kappa times the cross-entropy of images plus 1 - kappa times that of the worst logits; kappa {KAPPA}",
        "eps": EPS,
        "eps_schedule": f"growing from {WARM_UP:.0%} to {GROWN:.0%} of the steps, and kappa falling with it",
    }

    def prepare(network: nn.Module, recipe: Mapping[str, Any], data: ClassifierData) -> ClassifierTraining:
        return _IntervalTraining(
            job,
            recipe,
            network,
            torch.optim.Adam(network.parameters(), lr=LEARNING_RATE),
            training_set=data.training_set,
            test_set=data.test_set,
            schedule=_learning_rate,
        )

    return train_by_recipe(
        name, build, job, MNIST, settings=settings, prepare=prepare, describe=_describe, eight_bit=[LARGEST_TENSOR]
    )


def _learning_rate(step: int, steps: int) -> float:
    return LEARNING_RATE * 0.1 ** sum(step >= share * steps for share in DECAYS)


def _describe(figures: Mapping[str, float]) -> Mapping[str, Any]:
    return {key: value for key, value in figures.items() if key.startswith("certified_accuracy")}


class _IntervalTraining(ClassifierTraining):
    """Learns images and the worst logits around them, and measures certified accuracies."""

    def step(self, number: int, chosen: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Takes one gradient step on the mixed loss."""
        grown = min(1.0, max(0.0, (number / self.steps - WARM_UP) / (GROWN - WARM_UP)))
        images, labels = in_unit_range(self.inputs(number, chosen)), self.labels[chosen]
        loss = clean = functional.cross_entropy(self.network(images), labels)
        if grown:
            kappa = 1 - (1 - KAPPA) * grown
            worst = functional.cross_entropy(worst_logits(self._layers, images, labels, grown * EPS), labels)
            loss = kappa * clean + (1 - kappa) * worst
        return self.descend(number, loss)

    @torch.no_grad()
    def evaluate(self) -> Mapping[str, float]:
        """The accuracy on the test set, and the certified ones."""
        images, labels = in_unit_range(self.test_images), self.test_labels
        certified = {
            f"certified_accuracy_{radius}": float(
                (margins_within(self._layers, images, labels, radius) > 0).float().mean()
            )
            for radius in TEST_RADII
        }
        return {**super().evaluate(), **certified}

    @property
    def _layers(self) -> list[nn.Module]:
        layers = self.network.layers
        assert isinstance(layers, nn.Sequential)
        return list(layers)
