"""Attacks for the tests of --max-queries. Loaded with ``--plugin`` beside the toy plugin."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from advbench.api import Attack, Budget, for_rows, hookimpl, param, until_spent


def log(text):
    if "QUERIES_LOG" in os.environ:
        with Path(os.environ["QUERIES_LOG"]).open("a") as file:
            file.write(f"{text}\n")


@dataclass(frozen=True)
class Lines(Attack):
    """Tries so many random points, and keeps the nearest success, or else the last point."""

    name = "lines"
    self_contained = True
    access = "labels"
    eps: float | None = param(0.3, min=0, help="budget; none: a minimal attack")
    queries: int = param(100, min=1, help="queries")
    ahead: int = param(1, min=1, help="how many points of a sample are queried at once")

    def budget(self):
        return None if self.eps is None else Budget("linf", self.eps)

    def minimized_norm(self):
        return "linf"

    def craft(self, model, images, goal, rng, fitted=None):
        rows = torch.arange(len(images))
        nearest, sizes = images.clone(), torch.full((len(images),), torch.inf)
        limit = 0.5 if self.eps is None else self.eps
        for _ in range(0, self.queries, self.ahead):
            draws = torch.stack([rng.uniform(1, 4, 4, low=-limit, high=limit) for _ in range(self.ahead)])
            points = (images + draws).clamp(0, 1)
            asked = rows.repeat(self.ahead)
            log(f"query {len(asked)}")
            reached = goal[asked].reached(for_rows(model, asked)(points.flatten(0, 1))).reshape(self.ahead, -1)
            for number in range(self.ahead):
                size = (points[number] - images).abs().flatten(1).amax(dim=1)
                better = reached[number] & (size < sizes)
                if self.eps is not None:
                    better |= ~reached[number] & sizes.isinf()
                nearest[better] = points[number][better]
                sizes[better & reached[number]] = size[better & reached[number]]
        return nearest


@dataclass(frozen=True)
class OneByOne(Lines):
    """The same, sample by sample, as attacks of libraries that draw from global generators."""

    name = "one-by-one"

    def craft(self, model, images, goal, rng, fitted=None):
        crafted = []
        for row in torch.arange(len(images)).split(1):
            part, clean = for_rows(model, row), images[row]

            def run(classifier, row=row, clean=clean):
                return Lines.craft(self, classifier, clean, goal[row], rng[row])

            crafted.append(until_spent(part, run, clean)[0])
        return torch.cat(crafted)


@dataclass(frozen=True)
class Climb(Attack):
    """Gradient steps; catches every exception, as careless attacks do."""

    name = "climb"
    self_contained = True
    steps: int = param(30, min=1, help="steps")

    def budget(self):
        return Budget("linf", 0.3)

    def craft(self, model, images, goal, rng, fitted=None):
        points = images.clone()
        for _ in range(self.steps):
            try:
                leaf = points.clone().requires_grad_()
                loss = torch.nn.functional.cross_entropy(model(leaf), goal.labels, reduction="sum")
                step = torch.autograd.grad(loss, leaf)[0].sign()
            except Exception:
                step = torch.zeros_like(points)
            points = (images + (points + 0.02 * step - images).clamp(-0.3, 0.3)).clamp(0, 1)
        return points


@dataclass(frozen=True)
class Hidden(Attack):
    """Does not say whose images it asks about."""

    name = "hidden"
    self_contained = True
    access = "labels"

    def craft(self, model, images, goal, rng, fitted=None):
        model(torch.cat([images, 1 - images]))
        return images.clone()


@hookimpl
def register_attacks(register):
    for attack in (Lines, OneByOne, Climb, Hidden):
        register(attack)
