"""The recipe TRADES, by which a robust MNIST classifier is trained.

The loss is the cross-entropy of the images plus beta times the Kullback-Leibler divergence between the probabilities
for the images and for adversarial ones, which maximise that divergence (Zhang, Yu, Jiao, Xing, El Ghaoui and Jordan
2019, Theoretically Principled Trade-off between Robustness and Accuracy, section 4). The attack starts from a little
noise. All else is as in :mod:`advbench_models.mnist_adversarial_training`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from advbench_models.classifier_training import in_unit_range
from advbench_models.mnist_adversarial_training import EPS, STEP_SIZE, STEPS, AdversarialTraining

__all__ = ["LOSS", "RECIPES", "TRADES", "TradesTraining"]

TRADES = "trades"
RECIPES: Mapping[str, str] = {TRADES: "16 epochs of TRADES with 8 steps within L-infinity 0.35"}


BETA = 6.0
LOSS = (
    f"cross-entropy of images plus {BETA:g} times the KL divergence between the probabilities for them and for "
    "adversarial images"
)
ATTACK = "PGD on this divergence from a little Gaussian noise"

LARGEST_TENSOR = "layers.5.weight"
"""It has 94 % of the parameters; it is stored in 8 bits."""

_START = 1e-3
"""Standard deviation of the noise from which the attack starts, since the divergence has no slope at the images."""


class TradesTraining(AdversarialTraining):
    """Learns to classify images, and to give the same probabilities within eps of them."""

    def step(self, number: int, chosen: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Takes one gradient step on the loss of TRADES."""
        images, labels = in_unit_range(self.images[chosen]), self.labels[chosen]
        near = most_different(
            self.network,
            images,
            eps=self.size(number) * EPS,
            steps=STEPS,
            step_size=self.size(number) * STEP_SIZE,
            generator=self.generator("adversarial images", number),
        )
        logits = self.network(images)
        loss = functional.cross_entropy(logits, labels) + BETA * divergence(logits, self.network(near)) / len(labels)
        return self.descend(number, loss)


def divergence(logits: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """The sum over the batch of KL(p ‖ q), with the probabilities p of some logits and q of others."""
    return functional.kl_div(others.log_softmax(dim=1), logits.log_softmax(dim=1), reduction="sum", log_target=True)


def most_different(
    network: nn.Module,
    images: torch.Tensor,
    *,
    eps: float,
    steps: int,
    step_size: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """Images within L∞ eps whose probabilities differ most from those for the images, by projected gradient ascent.

    The arguments are those of :func:`advbench_models.mnist_adversarial_training.pgd`.
    """
    with torch.no_grad():
        logits = network(images)
    points = (images + _START * torch.randn(images.shape, generator=generator).to(images.device)).clamp(0, 1)
    for _ in range(steps):
        points.requires_grad_()
        (gradient,) = torch.autograd.grad(divergence(logits, network(points)), points)
        points = points.detach() + step_size * gradient.sign()
        points = (images + (points - images).clamp(-eps, eps)).clamp(0, 1)
    return points
