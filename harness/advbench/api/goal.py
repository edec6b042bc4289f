"""Goals of attacks: any wrong class, or a target class for each sample."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from advbench.api.parameters import class_param

if TYPE_CHECKING:
    import torch

    from advbench.api.attack import Attack

__all__ = ["POLICIES", "UNTARGETED", "Goal", "goal_of", "goal_param"]

UNTARGETED = "untargeted"

POLICIES = (UNTARGETED, "random", "next", "second", "least-likely")
"""The goals that have a name; a class number is a goal, too."""


def goal_param() -> str:
    """Declares the parameter ``goal`` of an attack that can be targeted. Use it as the default of a dataclass field.

    The goal is one of these; a target class is never the true class:

    - ``untargeted`` (default): any class but the true one;
    - ``random``: a random class for each sample, which depends on the run's seed and the sample's id;
    - ``next``: the class after the true one, (y + 1) mod K for K classes;
    - ``second``: the class with the largest logit of the other classes at the clean image;
    - ``least-likely``: the class with the smallest logit of the other classes at the clean image;
    - a class number, from 0: this class; samples of this class are not attacked.

    The logits of ``second`` and ``least-likely`` are those of the undefended network that is attacked.
    """
    return class_param(
        UNTARGETED,
        choices=POLICIES,
        help="class that the attack aims at: any wrong one, a random one, the one after the label, the most or the "
        "least likely wrong one, or a class number",
    )


def goal_of(attack: Attack) -> str:
    """The value of an attack's parameter ``goal``; ``untargeted`` if it was not declared with :func:`goal_param`."""
    attack = attack.innermost
    for parameter in attack.parameters():
        if parameter.name == "goal" and parameter.class_numbers:
            return str(attack.goal)  # type: ignore[attr-defined]
    return UNTARGETED


@dataclasses.dataclass(frozen=True, eq=False)
class Goal:
    """What an attack should make of a batch of samples.

    Attributes:
        labels: True labels, int64, shape (batch,).
        targets: Target classes, int64, shape (batch,), never the label; None if the attack is untargeted.
    """

    labels: torch.Tensor
    targets: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: torch.Tensor | slice) -> Goal:
        """The goal for some of the samples, selected by mask, indices or slice."""
        return Goal(self.labels[rows], None if self.targets is None else self.targets[rows])

    @property
    def targeted(self) -> bool:
        """Whether each sample has a target class."""
        return self.targets is not None

    @property
    def classes(self) -> torch.Tensor:
        """The class whose logit decides: the target, or the label if untargeted; int64, shape (batch,)."""
        return self.labels if self.targets is None else self.targets

    def reached(self, logits: torch.Tensor) -> torch.Tensor:
        """Whether the predicted class is the target, or any wrong class if untargeted; bool, shape (batch,).

        Args:
            logits: Shape (batch, classes).
        """
        predictions = logits.argmax(dim=1)
        return predictions != self.labels if self.targets is None else predictions == self.targets

    def margin(self, logits: torch.Tensor) -> torch.Tensor:
        """By how much the goal is reached, positive if it is: max_{j≠y} zⱼ − z_y, or zₜ − max_{j≠t} zⱼ if targeted.

        Args:
            logits: Shape (batch, classes).

        Returns:
            Shape (batch,).
        """
        classes = self.classes[:, None]
        margin = logits.scatter(1, classes, float("-inf")).amax(dim=1) - logits.gather(1, classes)[:, 0]
        return margin if self.targets is None else -margin
