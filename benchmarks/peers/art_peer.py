"""Attacks of the Adversarial Robustness Toolbox (ART)."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.settings import Run, Settings

__all__ = ["attacks"]


def attacks(settings: Settings) -> dict[str, Run]:
    """Returns the attacks of ART by comparison. Its CW takes hours, one image at a time, and is left out.

    Raises:
        ImportError: ART is not installed.
    """
    from art.attacks.evasion import (  # type: ignore[import-not-found,unused-ignore]
        DeepFool,
        FastGradientMethod,
        ProjectedGradientDescentPyTorch,
        SquareAttack,
    )
    from art.estimators.classification import PyTorchClassifier  # type: ignore[import-not-found,unused-ignore]

    def make_run(kind: Any, **keywords: Any) -> Run:
        def run(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                classes = network(images[:1]).shape[1]
            estimator = PyTorchClassifier(
                network, torch.nn.CrossEntropyLoss(), tuple(images.shape[1:]), classes, clip_values=(0, 1),
                device_type="gpu" if images.is_cuda else "cpu",
            )  # fmt: skip
            attack = kind(estimator, batch_size=len(images), **keywords)
            adversarial = attack.generate(images.cpu().numpy(), labels.cpu().numpy())
            return torch.from_numpy(adversarial).to(images.device, images.dtype)

        return run

    step_options = {"eps": settings.eps, "eps_step": settings.step_size, "max_iter": settings.steps}
    return {
        "fgsm": make_run(FastGradientMethod, eps=settings.eps),
        "pgd": make_run(ProjectedGradientDescentPyTorch, num_random_init=1, verbose=False, **step_options),
        "square": make_run(
            SquareAttack, norm=float("inf"), eps=settings.eps, max_iter=settings.queries, nb_restarts=1, verbose=False
        ),
        "deepfool": make_run(DeepFool, max_iter=settings.deepfool_steps, epsilon=0.02, nb_grads=10, verbose=False),
    }
