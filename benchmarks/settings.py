"""Settings that all implementations share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch

__all__ = ["Run", "Settings"]

Run: TypeAlias = Callable[[torch.nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]
"""Takes a network, images and labels; returns adversarial images."""


@dataclass(frozen=True)
class Settings:
    """The attacks' parameters.

    Attributes:
        eps: Budget of FGSM and PGD, in L∞.
        steps: Steps of PGD, each of eps/30 (Madry et al.'s, not advbench's default), from a random start.
        deepfool_steps: Maximum steps of DeepFool, with 10 classes and an overshoot of .02.
        search_steps: Number of constants of CW, starting with .01.
        cw_steps: Maximum steps of CW per constant, at a learning rate of .01 and confidence 0.
        ddn_steps: Steps of DDN, without quantisation, and of FMN.
        queries: Queries of Square.
        grid: Number of equal parts of 1, where a minimal attack is replaced by one at every eps of a grid.
        pgd_max_eps: Largest eps of that grid for PGD.
    """

    eps: float = 0.3
    steps: int = 40
    deepfool_steps: int = 50
    search_steps: int = 5
    cw_steps: int = 1000
    ddn_steps: int = 100
    queries: int = 1000
    grid: int = 1000
    pgd_max_eps: float = 0.3

    @property
    def step_size(self) -> float:
        """PGD's step size; Madry et al.'s .01 at eps .3."""
        return self.eps / 30
