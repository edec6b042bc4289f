"""The best of several attacks for each sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from advbench.api import (
    Access,
    Artefact,
    Attack,
    Budget,
    Crafted,
    Goal,
    Norm,
    ParameterError,
    SampleRandom,
    for_rows,
    goal_of,
    most_access,
    param,
)
from advbench_attacks.classifier_calls import float32_logits
from advbench_attacks.norms import lp_norm

__all__ = ["WorstOf"]


@dataclass(frozen=True)
class WorstOf(Attack):
    """Runs several attacks in turn and keeps the best result of each sample.

    The attacks either all have the same budget, or all minimise the same norm. With a budget, an attack runs on the
    samples that those before it have not fooled; a sample that none fools keeps the point of the largest margin
    max_{j≠y} zⱼ − z_y. Minimal attacks all run on all samples; each sample keeps its nearest adversarial point.
    """

    name: ClassVar[str] = "worst-of"
    source: ClassVar[str] = (
        "Croce and Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free "
        "attacks, section 5"
    )

    of: tuple[Attack, ...] = param(kind="attacks", help="the attacks to run, in order")

    def __post_init__(self) -> None:
        """Validates that the attacks can be combined.

        Raises:
            ParameterError: They differ in budget or norm, or one has no Lp ball, is targeted, is fitted needs groups of
                samples, or has a view of its own.
        """
        super().__post_init__()
        first = self.of[0]
        for attack in self.of:
            if goal_of(attack) != "untargeted":
                raise ParameterError(f"of: {attack.name} has a goal; give targeted attacks as attacks of their own")
            if attack.group_size is not None:
                raise ParameterError(f"of: {attack.name} needs groups of samples and cannot be combined")
            if attack.has_fit:
                raise ParameterError(f"of: {attack.name} is fitted to data; give it as an attack of its own")
            if attack.view is not None:
                raise ParameterError(f"of: {attack.name} changes the view; give it the worst-of as its attack instead")
            if attack.perturbation().kind != "lp":
                raise ParameterError(f"of: {attack.name} has no Lp ball as its perturbation set and cannot be combined")
            if (attack.budget() is None) != (first.budget() is None):
                minimal, other = (attack, first) if attack.budget() is None else (first, attack)
                raise ParameterError(
                    f"of: {minimal.name} is a minimal attack, and {other.name} has a budget; give attacks of one kind"
                )
            if attack.budget() != first.budget():
                first_budget, budget = (f"{one.norm} ≤ {one.eps:g}" for one in (first.budget(), attack.budget()) if one)
                raise ParameterError(
                    f"of: {first.name} has the budget {first_budget}, and {attack.name} {budget}; give all the same "
                    "norm and eps"
                )
            if first.budget() is None and attack.minimized_norm() != first.minimized_norm():
                raise ParameterError(f"of: {first.name} and {attack.name} minimise different norms")

    @property
    def access(self) -> Access:  # type: ignore[override]
        """The most that one of the attacks needs."""
        return most_access(attack.access for attack in self.of)

    @property
    def self_contained(self) -> bool:  # type: ignore[override]
        """Whether all attacks are."""
        return all(attack.self_contained for attack in self.of)

    def craft(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        goal: Goal,
        rng: SampleRandom,
        fitted: Artefact | None = None,
    ) -> Crafted:
        """Attacks one batch; see :meth:`advbench.api.Attack.craft`. The note ``component`` says which attack won."""
        del fitted
        with torch.no_grad():
            logits = float32_logits(model, images)
        rows = (~goal.reached(logits)).nonzero().flatten()
        best = _Best(images, goal, goal.margin(logits), self._norm())
        for index, attack in enumerate(self.of):
            if not len(rows):
                break
            part_model, part_goal, part_rng = for_rows(model, rows), goal[rows], rng.derive(f"{index}")[rows]
            crafted = attack.craft(part_model, images[rows].clone(), part_goal, part_rng, None)
            points = crafted.images if isinstance(crafted, Crafted) else crafted
            with torch.no_grad():
                logits = float32_logits(part_model, points)
            fooled = best.update(index, rows, points, logits)
            if best.norm is None:
                rows = rows[~fooled]
        return Crafted(best.points, {"component": best.component})

    def budget(self) -> Budget | None:
        """Returns the budget of the attacks."""
        return self.of[0].budget()

    def minimized_norm(self) -> Norm | None:
        """Returns the norm that the attacks minimise."""
        return self.of[0].minimized_norm()

    def passes(self) -> int | None:
        """Returns the sum over the attacks, as a sample needs that withstands them all; None if one is unknown."""
        passes = [attack.passes() for attack in self.of]
        return None if None in passes else sum(number or 0 for number in passes)

    def component_names(self) -> tuple[str, ...]:
        """Returns the names of the attacks; with a number if several have the same."""
        names = [attack.name for attack in self.of]
        return tuple(f"{name}-{index + 1}" if names.count(name) > 1 else name for index, name in enumerate(names))

    def component_access(self) -> tuple[Access, ...]:
        """Returns what each attack needs of the model."""
        return tuple(attack.access for attack in self.of)

    def _norm(self) -> Norm | None:
        """The norm by which results are compared; None for attacks with a budget."""
        return (self.minimized_norm() or "l2") if self.budget() is None else None


class _Best:
    """The best point of each sample.

    Args:
        images: Clean images.
        goal: The goal.
        margins: The goal's margins at the clean images, shape (batch,).
        norm: The norm of minimal attacks; None if points are compared by their margins.

    Attributes:
        points: The best points; the clean image where there is none.
        component: The index of the attack that fooled the sample, int8, shape (batch,); -1 if none did.
    """

    def __init__(self, images: torch.Tensor, goal: Goal, margins: torch.Tensor, norm: Norm | None) -> None:
        self.norm = norm
        self.points = images.clone()
        self.component = torch.full(goal.labels.shape, -1, dtype=torch.int8, device=images.device)
        self._images = images
        self._goal = goal
        self._values = margins.clone() if norm is None else torch.full_like(margins, -torch.inf)

    def update(self, index: int, rows: torch.Tensor, points: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Keeps the points that are better than the best so far; returns which of them reach the goal."""
        goal = self._goal[rows]
        fooled = goal.reached(logits)
        if self.norm is None:
            values = goal.margin(logits)
            improved = fooled | (values > self._values[rows])
        else:
            values = -lp_norm(points - self._images[rows], self.norm)
            improved = fooled & (values > self._values[rows])
        better = rows[improved]
        self.points[better], self._values[better] = points[improved], values[improved]
        self.component[rows[improved & fooled]] = index
        return fooled
