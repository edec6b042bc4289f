"""What a defense does with a few fixed images: predicted, attacked adaptively, and certified.

The classifier behind it is the same in every process.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from advbench.api import Certificate, Defense, SampleRandom
from advbench.contracts.artefacts import trial_defense_artefact
from advbench.evaluation.work.attacked.adaptive import DefendedClassifier, count_approximations
from advbench.evaluation.work.behaviour.attack_observation import FixedClassifier
from advbench.evaluation.work.chain_pass import ChainPass, image_shape
from advbench.specs import Chain

__all__ = ["adaptive_views", "certificate_columns", "defended", "predicted"]

_CLASSES = 10

View = tuple[torch.Tensor, torch.Tensor]
"""Logits, shape (n, classes), and a gradient, shape (n, channels, height, width)."""


def defended(defense: Defense, images: torch.Tensor, rng: SampleRandom) -> ChainPass:
    """The fixed classifier behind a defense, which is fitted to the images if it can be."""
    network = FixedClassifier(image_shape(defense, images), _CLASSES, limited=False)
    passed = ChainPass(Chain((defense,)), network, len(images))
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    fitted = trial_defense_artefact(defense, passed.inside(0, rng), images, labels, rng.derive("fit"))
    return ChainPass(passed.chain, network, len(images), (fitted,))


def predicted(passed: ChainPass, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
    """The logits, and the score if there is one."""
    answer = passed.answer(images, rng)
    return answer.logits if answer.score is None else torch.cat((answer.logits, answer.score[:, None]), dim=1)


def adaptive_views(passed: ChainPass, images: torch.Tensor, rng: SampleRandom) -> list[View]:
    """What an adaptive attack sees, for each approximation of a defense, or each view of one that classifies."""
    labels = torch.arange(len(images), device=images.device) % _CLASSES
    weights = torch.cos(torch.arange(_CLASSES, device=images.device, dtype=torch.float32))
    seen = []
    for number in range(count_approximations(passed.chain)):
        classifier = DefendedClassifier(
            passed.network, passed.chain, rng, 1, number=number, labels=labels, fitted=passed.fitted
        )
        with torch.enable_grad():
            points = images.detach().clone().requires_grad_()
            logits = classifier(points)
            (gradient,) = torch.autograd.grad((logits * weights).sum(), points)
        seen.append((logits.detach(), gradient))
    return seen


def certificate_columns(
    certify: Callable[[torch.Tensor, SampleRandom], Certificate], images: torch.Tensor, rng: SampleRandom
) -> torch.Tensor:
    """The class and the radius of the first image, shape (n, 2); 0 for the others, each of which would take as long."""
    certificate = certify(images[:1], rng[[0]])
    columns = torch.zeros(len(images), 2)
    columns[0] = torch.stack((certificate.classes[0].float(), certificate.radii[0].float())).cpu()
    return columns
