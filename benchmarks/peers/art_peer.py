"""The attacks of the Adversarial Robustness Toolbox."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.settings import Run, Settings

__all__ = ["attacks"]


def attacks(settings: Settings) -> dict[str, Run]:
    """The toolbox's attacks by contest. Its CW takes one image at a time for hours and is left out.

    Raises:
        ImportError: The toolbox is not installed.
    """
    from art.attacks.evasion import (  # type: ignore[import-not-found,unused-ignore]
        DeepFool,
        FastGradientMethod,
        ProjectedGradientDescentPyTorch,
    )
    from art.estimators.classification import PyTorchClassifier  # type: ignore[import-not-found,unused-ignore]

    def made(kind: Any, **keywords: Any) -> Run:
        def run(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                classes = network(images[:1]).shape[1]
            estimator = PyTorchClassifier(
                network, torch.nn.CrossEntropyLoss(), tuple(images.shape[1:]), classes, clip_values=(0, 1),
                device_type="gpu" if images.is_cuda else "cpu",
            )  # fmt: skip
            attack = kind(estimator, batch_size=len(images), **keywords)
            found = attack.generate(images.cpu().numpy(), labels.cpu().numpy())
            return torch.from_numpy(found).to(images.device, images.dtype)

        return run

    stepping = {"eps": settings.eps, "eps_step": settings.step_size, "max_iter": settings.steps}
    return {
        "fgsm": made(FastGradientMethod, eps=settings.eps),
        "pgd": made(ProjectedGradientDescentPyTorch, num_random_init=1, verbose=False, **stepping),
        "deepfool": made(DeepFool, max_iter=settings.deepfool_steps, epsilon=0.02, nb_grads=10, verbose=False),
    }
