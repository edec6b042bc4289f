"""Projected ascent whose step size follows how the loss rises: the engine of APGD."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch

from advbench.api import SampleRandom, for_rows
from advbench_attacks.answers import ask
from advbench_attacks.balls import Ball
from advbench_attacks.input_gradients import each, input_gradient, lead

__all__ = ["Ascent", "Objective", "checkpoints"]

Objective: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Logits, shape (batch, classes), labels and target classes to what is to rise, shape (batch,)."""

_MOMENTUM = 0.75
"""The share α of the new step in a move, the rest being the last move's (section 3)."""

_RISES = 0.75
"""The share ρ of the steps since the last checkpoint in which the loss must have risen (section 3)."""


class Ascent:
    """Runs APGD on some samples at a time and keeps each sample's best point.

    The algorithm is number 1 of Croce and Hein 2020, Reliable evaluation of adversarial robustness with an ensemble
    of diverse parameter-free attacks. A step is 2 · eps long; at each of a few checkpoints it is halved, and the
    sample goes on from its best point, where the loss rose too seldom since the last one, or where neither the
    step nor the highest loss has changed since.

    The best point of a sample is the one of highest loss of those that fool the model, or of all where none does.

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
        ball: Where points may lie.
        steps: Gradient steps a run.
        early_stop: Whether a run of a sample ends at the first point that fools the model.

    Attributes:
        points: Per sample the best point of its runs, or the clean image where it had none.
        logits: What the model says of the clean images, shape (batch, classes).
    """

    def __init__(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        ball: Ball,
        *,
        steps: int,
        early_stop: bool,
    ) -> None:
        self.model = model
        self.images = images
        self.labels = labels
        self.ball = ball
        self.steps = steps
        self.early_stop = early_stop
        self.points = images.clone()
        with torch.no_grad():
            self.logits = ask(model, images)
        self._solved: torch.Tensor = self.logits.argmax(dim=1) != labels
        self._losses = torch.full(labels.shape, -math.inf, device=images.device)

    def unsolved(self) -> torch.Tensor:
        """The samples that neither were misclassified from the start nor have a point that fools the model."""
        return (~self._solved).nonzero().flatten()

    def run(self, rows: torch.Tensor, objective: Objective, targets: torch.Tensor, rng: SampleRandom) -> None:
        """One run on these samples, from random points.

        Args:
            rows: Which samples, each at most once.
            objective: What is to rise.
            targets: Their target classes, int64, shape (samples,); any where the objective has no target.
            rng: The random streams of all samples.
        """
        if not len(rows):
            return
        run = _Run(self, rows, objective, targets, rng)
        looks, last = checkpoints(self.steps), 0
        for step in range(1, self.steps + 1):
            run.step(step)
            if self.early_stop and run.hit.any():
                self._note(run, run.hit)
                run.keep(~run.hit)
                if not len(run.rows):
                    return
            if step in looks:
                run.check(step - last)
                last = step
        self._note(run, torch.ones_like(run.hit))

    def _note(self, run: _Run, ended: torch.Tensor) -> None:
        """Keeps the best points of those samples of a run that have ended it."""
        better = ended & (run.hit | (run.best_losses > self._losses[run.rows]))
        rows = run.rows[better]
        self.points[rows] = torch.where(each(run.hit), run.hit_points, run.best_points)[better]
        self._losses[rows] = run.best_losses[better]
        self._solved[rows] = run.hit[better]


class _Run:
    """The samples that still take steps in a run; every tensor has one row a sample.

    Attributes:
        rows: Which samples they are.
        hit: Whether one of their points fooled the model.
        hit_points: The one of highest loss of those that did.
        best_points: The point of highest loss.
        best_losses: Its loss.
    """

    def __init__(
        self, ascent: Ascent, rows: torch.Tensor, objective: Objective, targets: torch.Tensor, rng: SampleRandom
    ) -> None:
        self._ascent = ascent
        self._objective = objective
        self.rows = rows
        self._images = ascent.images[rows]
        self._labels = ascent.labels[rows]
        self._targets = targets
        self._points = ascent.ball.start(self._images, rng[rows])
        self._before = self._points
        self._sizes = torch.full(rows.shape, 2 * ascent.ball.eps, device=self._images.device)
        self._halved = torch.zeros_like(rows, dtype=torch.bool)
        self._rises = torch.zeros_like(rows)
        self._losses = torch.full_like(self._sizes, -math.inf)
        self._gradients = torch.zeros_like(self._images)
        self.hit = torch.zeros_like(self._halved)
        self.hit_points, self._hit_losses = self._points, self._losses
        self.best_points, self.best_losses, self._best_gradients = self._points, self._losses, self._gradients
        self._look(final=False)
        self._best_before = self.best_losses

    def step(self, count: int) -> None:
        """Takes step number ``count`` of the run and looks where it led."""
        ball = self._ascent.ball
        ahead = ball.project(self._points + each(self._sizes) * ball.steepest(self._gradients), self._images)
        if count > 1:
            move = _MOMENTUM * (ahead - self._points) + (1 - _MOMENTUM) * (self._points - self._before)
            ahead = ball.project(self._points + move, self._images)
        self._before, self._points = self._points, ahead
        losses = self._losses
        self._look(final=count == self._ascent.steps)
        self._rises = self._rises + (self._losses > losses)

    def check(self, steps: int) -> None:
        """Halves the step size of the samples that make little progress, and takes them back to their best point.

        Args:
            steps: Steps since the last checkpoint.
        """
        resting = ~self._halved & (self.best_losses <= self._best_before)
        self._halved = (self._rises < _RISES * steps) | resting
        self._sizes = torch.where(self._halved, self._sizes / 2, self._sizes)
        back = each(self._halved)
        self._points = torch.where(back, self.best_points, self._points)
        self._gradients = torch.where(back, self._best_gradients, self._gradients)
        self._losses = torch.where(self._halved, self.best_losses, self._losses)
        self._best_before = self.best_losses
        self._rises = torch.zeros_like(self._rises)

    def keep(self, which: torch.Tensor) -> None:
        """Goes on with these samples only."""
        for name, value in list(vars(self).items()):
            if isinstance(value, torch.Tensor):
                setattr(self, name, value[which])

    def _look(self, *, final: bool) -> None:
        """Asks the model about the points, and keeps the best; at the final ones no gradient is needed."""
        model = for_rows(self._ascent.model, self.rows)
        if final:
            with torch.no_grad():
                logits = ask(model, self._points)
        else:
            self._gradients, logits = input_gradient(model, self._points, self._labels, self._loss)
        self._losses = self._loss(logits, self._labels)
        higher = self._losses > self.best_losses  # what is no number never is
        self.best_losses = torch.where(higher, self._losses, self.best_losses)
        self.best_points = torch.where(each(higher), self._points, self.best_points)
        self._best_gradients = torch.where(each(higher), self._gradients, self._best_gradients)
        hit = lead(logits, self._labels)
        higher = hit & (self._losses > self._hit_losses)
        self._hit_losses = torch.where(higher, self._losses, self._hit_losses)
        self.hit_points = torch.where(each(higher), self._points, self.hit_points)
        self.hit = self.hit | hit

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self._objective(logits, labels, self._targets)


def checkpoints(steps: int) -> list[int]:
    """After which of so many steps the progress is looked at: ⌈p · steps⌉ for p = .22, .41, .57, .70 and so on.

    Each p is above the last by .03 less than that was above the one before, and by .06 at least (section 3).
    """
    found: list[int] = []
    percent, gap = 22, 22
    while percent < 100:
        found.append(-(-percent * steps // 100))
        gap = max(gap - 3, 6)
        percent += gap
    return [step for step in dict.fromkeys(found) if step < steps]
