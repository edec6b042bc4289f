"""Target classes of attacks, chosen from their goals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from advbench.api import Attack, ContractError, Goal, SampleRandom
from advbench.api.goal import UNTARGETED, goal_of

__all__ = ["choose_targets", "trial_goal"]

_NEED_LOGITS = ("second", "least-likely")


def choose_targets(
    policy: str, labels: torch.Tensor, logits: Callable[[], torch.Tensor], ids: Sequence[int], seed: int
) -> Goal:
    """The goal of a batch: each sample's target class, or -1 for a sample that is not attacked.

    A target is never the label. Targets depend on the sample alone, not on its batch.

    Args:
        policy: The attack's parameter ``goal``; see :func:`advbench.api.goal_param`.
        labels: True labels, int64, shape (batch,).
        logits: Returns the undefended network's logits for the clean images, shape (batch, classes).
        ids: The samples.
        seed: The run's seed.

    Raises:
        ContractError: There is no such class.
    """
    if policy == UNTARGETED:
        return Goal(labels)
    known = logits()
    classes = known.shape[1]
    if policy == "next":
        return Goal(labels, (labels + 1) % classes)
    if policy == "random":
        drawn = SampleRandom(seed, "goal", ids, labels.device).integers(0, classes - 1)
        return Goal(labels, drawn + (drawn >= labels))
    if policy in _NEED_LOGITS:
        wanted = known if policy == "second" else -known
        return Goal(labels, wanted.scatter(1, labels[:, None], float("-inf")).argmax(dim=1))
    target = int(policy)
    if target >= classes:
        raise ContractError(f"goal={policy}: the model has only the classes 0 to {classes - 1}")
    return Goal(labels, torch.where(labels == target, -1, target))


def trial_goal(attack: Attack, labels: torch.Tensor, logits: torch.Tensor) -> Goal:
    """A goal of the attack's kind for a trial on a few images: every sample is attacked.

    Args:
        attack: The attack.
        labels: True labels, int64, shape (batch,).
        logits: Logits of the images, shape (batch, classes).
    """
    goal = choose_targets(goal_of(attack), labels, lambda: logits, range(len(labels)), 0)
    if goal.targets is None:
        return goal
    return Goal(labels, torch.where(goal.targets < 0, (labels + 1) % logits.shape[1], goal.targets))
