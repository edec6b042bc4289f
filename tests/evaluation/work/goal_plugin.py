"""A targeted attack on the toy model, and one that is written for the first version of the API."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from advbench.api import Attack, Budget, goal_param, hookimpl, param


@dataclass(frozen=True)
class Aim(Attack):
    """Steps along the sign of the goal's margin, which reach any class of the toy model with a large eps."""

    name = "aim"
    self_contained = True
    eps: float = param(1.0, min=0, help="L-infinity budget")
    minimal: bool = param(False, help="declare no budget")
    goal: str = goal_param()

    def budget(self):
        return None if self.minimal else Budget("linf", self.eps)

    def craft(self, model, images, goal, rng, fitted=None):
        log = os.environ.get("GOAL_LOG")
        if log:
            targets = goal.labels * 0 - 9 if goal.targets is None else goal.targets
            with Path(log).open("a") as file:
                for id_, label, target in zip(rng.ids, goal.labels.tolist(), targets.tolist(), strict=True):
                    file.write(f"{id_} {label} {target}\n")
        points = images.clone()
        for _ in range(20):
            points = points.detach().requires_grad_(True)
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(goal.margin(model(points)).sum(), points)
            step = points.detach() + self.eps / 4 * gradient.sign()
            points = (images + (step - images).clamp(-self.eps, self.eps)).clamp(0, 1)
        if self.minimal:
            with torch.no_grad():
                reached = goal.reached(model(points))
            points = torch.where(reached[:, None, None, None], points, images)
        return points


@hookimpl
def register_attacks(register):
    register(Aim)
