"""Attacks of torchattacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.settings import Run, Settings

__all__ = ["attacks"]


def attacks(settings: Settings) -> dict[str, Run]:
    """Returns the attacks of torchattacks by comparison. Its CW tries a single constant and is left out.

    Raises:
        ImportError: torchattacks is not installed.
    """
    import torchattacks  # type: ignore[import-not-found,unused-ignore]

    def make_run(build: Callable[[torch.nn.Module], Any]) -> Run:
        return lambda network, images, labels: build(network)(images, labels)

    eps, step_size = settings.eps, settings.step_size
    return {
        "fgsm": make_run(lambda network: torchattacks.FGSM(network, eps=eps)),
        "pgd": make_run(lambda network: torchattacks.PGD(network, eps=eps, alpha=step_size, steps=settings.steps)),
        "deepfool": make_run(
            lambda network: torchattacks.DeepFool(network, steps=settings.deepfool_steps, overshoot=0.02)
        ),
        "apgd": make_run(lambda network: torchattacks.APGD(network, eps=eps, steps=settings.steps)),
        "square": make_run(lambda network: torchattacks.Square(network, eps=eps, n_queries=settings.queries)),
    }
