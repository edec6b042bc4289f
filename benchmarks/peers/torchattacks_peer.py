"""The attacks of torchattacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.settings import Run, Settings

__all__ = ["attacks"]


def attacks(settings: Settings) -> dict[str, Run]:
    """The attacks of torchattacks by contest. Its CW tries one constant only and is left out.

    Raises:
        ImportError: torchattacks is not installed.
    """
    import torchattacks  # type: ignore[import-not-found,unused-ignore]

    def made(maker: Callable[[torch.nn.Module], Any]) -> Run:
        return lambda network, images, labels: maker(network)(images, labels)

    eps, step_size = settings.eps, settings.step_size
    return {
        "fgsm": made(lambda network: torchattacks.FGSM(network, eps=eps)),
        "pgd": made(lambda network: torchattacks.PGD(network, eps=eps, alpha=step_size, steps=settings.steps)),
        "deepfool": made(lambda network: torchattacks.DeepFool(network, steps=settings.deepfool_steps, overshoot=0.02)),
    }
