"""The engine of Auto-PGD: projected gradient ascent with an adaptive step size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch

from advbench.api import Goal, SampleRandom, can_reject, for_rows
from advbench_attacks.active_sets import split, store_where
from advbench_attacks.balls import Ball
from advbench_attacks.classifier_calls import float32_logits
from advbench_attacks.gradient.evasion import evasion_step
from advbench_attacks.input_gradients import input_gradient
from advbench_attacks.norms import per_image
from advbench_attacks.success_criterion import is_adversarial

__all__ = ["AutoPgdSearch", "Objective", "checkpoints"]

Objective: TypeAlias = Callable[[torch.Tensor, Goal, torch.Tensor], torch.Tensor]
"""Takes logits, shape (batch, classes), a goal and classes; returns what to maximise, shape (batch,)."""

_MOMENTUM = 0.75
"""The share α of the new step in a move; the rest is the previous move's (section 3)."""

_MIN_RISING_SHARE = 0.75
"""The minimum share ρ of steps since the last checkpoint in which the loss must rise (section 3)."""


class AutoPgdSearch:
    """Runs APGD on a subset of samples at a time and keeps each sample's best point.

    This is algorithm 1 of Croce and Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of
    diverse parameter-free attacks. The step size starts at 2 · eps. At a checkpoint it is halved, and the sample
    continues from its best point, if the loss rose in too few steps since the last checkpoint, or if neither the step
    size nor the highest loss has changed since.

    A sample's best point is the one of highest loss among its adversarial points, or among all points if none is
    adversarial.

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        goal: What to make of each sample.
        ball: The ball that contains all points.
        steps: Gradient steps per run.
        early_stop: Whether a sample ends a run at its first adversarial point.

    Attributes:
        points: Each sample's best point so far; the clean image before its first run.
        logits: Logits of the clean images, shape (batch, classes).
    """

    def __init__(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        goal: Goal,
        ball: Ball,
        *,
        steps: int,
        early_stop: bool,
    ) -> None:
        self.model = model
        self.images = images
        self.goal = goal
        self.ball = ball
        self.steps = steps
        self.early_stop = early_stop
        self.points = images.clone()
        with torch.no_grad():
            self.logits = float32_logits(model, images)
        self._solved = goal.reached(self.logits)
        self._losses = torch.full(goal.labels.shape, -math.inf, device=images.device)

    def unsolved(self) -> torch.Tensor:
        """Returns the indices of samples whose goal neither the clean image nor an adversarial point reaches."""
        return (~self._solved).nonzero().flatten()

    def run(self, rows: torch.Tensor, objective: Objective, targets: torch.Tensor, rng: SampleRandom) -> None:
        """Runs the attack once on these samples, from random start points.

        Args:
            rows: Indices of the samples, without duplicates.
            objective: What to maximise.
            targets: Classes that the objective aims at, int64, shape (samples,); most objectives ignore them.
            rng: The random streams of all samples.
        """
        if not len(rows):
            return
        run = _Run(self, rows, objective, targets, rng)
        check_steps, last_check = checkpoints(self.steps), 0
        for step in range(1, self.steps + 1):
            run.step(step)
            if self.early_stop:
                finished, active = split(run.is_adv)
                if len(finished):
                    self._keep_best(run, run.is_adv)
                    run.select(active)
                if not len(active):
                    return
            if step in check_steps:
                run.check(step - last_check)
                last_check = step
        self._keep_best(run, torch.ones_like(run.is_adv))

    def _keep_best(self, run: _Run, finished: torch.Tensor) -> None:
        """Keeps the best points of those samples that have finished the run."""
        improved = finished & (run.is_adv | (run.best_losses > self._losses[run.rows]))
        best = torch.where(per_image(run.is_adv), run.adv_points, run.best_points)
        store_where(
            improved, run.rows, (self.points, best), (self._losses, run.best_losses), (self._solved, run.is_adv)
        )


class _Run:
    """The samples that still take steps in a run; every tensor has one row per sample.

    Attributes:
        rows: Indices of the samples.
        is_adv: Whether a sample has an adversarial point.
        adv_points: The adversarial point of highest loss.
        best_points: The point of highest loss.
        best_losses: Its loss.
    """

    def __init__(
        self, search: AutoPgdSearch, rows: torch.Tensor, objective: Objective, targets: torch.Tensor, rng: SampleRandom
    ) -> None:
        self._search = search
        self._objective = objective
        self.rows = rows
        self._images = search.images[rows]
        self._goal = search.goal[rows]
        self._targets = targets
        self._points = search.ball.random_start(self._images, rng[rows])
        self._previous = self._points
        self._step_sizes = torch.full(rows.shape, 2 * search.ball.eps, device=self._images.device)
        self._was_halved = torch.zeros_like(rows, dtype=torch.bool)
        self._rises = torch.zeros_like(rows)
        self._losses = torch.full_like(self._step_sizes, -math.inf)
        self._gradients = torch.zeros_like(self._images)
        self.is_adv = torch.zeros_like(self._was_halved)
        self.adv_points, self._adv_losses = self._points, self._losses
        self.best_points, self.best_losses, self._best_gradients = self._points, self._losses, self._gradients
        self._evaluate(final=False)
        self._best_at_last_check = self.best_losses

    def step(self, count: int) -> None:
        """Takes step number ``count`` of the run, counted from 1, and evaluates the new points."""
        ball = self._search.ball
        candidates = ball.project(
            self._points + per_image(self._step_sizes) * ball.steepest_direction(self._gradients), self._images
        )
        if count > 1:
            move = _MOMENTUM * (candidates - self._points) + (1 - _MOMENTUM) * (self._points - self._previous)
            candidates = ball.project(self._points + move, self._images)
        self._previous, self._points = self._points, candidates
        losses = self._losses
        self._evaluate(final=count == self._search.steps)
        self._rises = self._rises + (self._losses > losses)

    def check(self, steps: int) -> None:
        """Halves the step size of samples that make little progress, and moves them back to their best point.

        Args:
            steps: Number of steps since the last checkpoint.
        """
        stalled = ~self._was_halved & (self.best_losses <= self._best_at_last_check)
        self._was_halved = (self._rises < _MIN_RISING_SHARE * steps) | stalled
        self._step_sizes = torch.where(self._was_halved, self._step_sizes / 2, self._step_sizes)
        restart = per_image(self._was_halved)
        self._points = torch.where(restart, self.best_points, self._points)
        self._gradients = torch.where(restart, self._best_gradients, self._gradients)
        self._losses = torch.where(self._was_halved, self.best_losses, self._losses)
        self._best_at_last_check = self.best_losses
        self._rises = torch.zeros_like(self._rises)

    def select(self, chosen: torch.Tensor) -> None:
        """Continues with the samples at these positions only."""
        for name, value in list(vars(self).items()):
            if isinstance(value, (torch.Tensor, Goal)):
                setattr(self, name, value[chosen])

    def _evaluate(self, *, final: bool) -> None:
        """Evaluates the model at the current points and keeps the best; the final step needs no gradient."""
        model = for_rows(self._search.model, self.rows)
        if can_reject(model):
            step = evasion_step(model, self._points, self._goal, self._loss, final=final)
            self._gradients, self._losses = step.gradients, step.values
            self._keep_best(step.is_adv)
            return
        if final:
            with torch.no_grad():
                logits = float32_logits(model, self._points)
        else:
            self._gradients, logits = input_gradient(model, self._points, self._goal, self._loss)
        self._losses = self._loss(logits, self._goal)
        self._keep_best(is_adversarial(logits, self._goal))

    def _keep_best(self, is_adv: torch.Tensor) -> None:
        """Keeps the current points where their losses are the highest so far."""
        higher = self._losses > self.best_losses  # NaN is never higher
        self.best_losses = torch.where(higher, self._losses, self.best_losses)
        self.best_points = torch.where(per_image(higher), self._points, self.best_points)
        self._best_gradients = torch.where(per_image(higher), self._gradients, self._best_gradients)
        higher = is_adv & (self._losses > self._adv_losses)
        self._adv_losses = torch.where(higher, self._losses, self._adv_losses)
        self.adv_points = torch.where(per_image(higher), self._points, self.adv_points)
        self.is_adv = self.is_adv | is_adv

    def _loss(self, logits: torch.Tensor, goal: Goal) -> torch.Tensor:
        return self._objective(logits, goal, self._targets)


def checkpoints(steps: int) -> list[int]:
    """Returns the steps after which progress is checked: ⌈p · steps⌉ for p = .22, .41, .57, .70 and so on.

    The gaps between successive p shrink by .03 each, down to .06 (section 3).
    """
    after: list[int] = []
    percent, gap = 22, 22
    while percent < 100:
        after.append(-(-percent * steps // 100))
        gap = max(gap - 3, 6)
        percent += gap
    return [step for step in dict.fromkeys(after) if step < steps]
