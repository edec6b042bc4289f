"""The same matrix with twice the steps, by which one sees whether its attacks have converged."""

from __future__ import annotations

import dataclasses

from advbench.api import Attack, DataSources, ParameterError
from advbench.evaluation.plan.build import Plan, build_plan
from advbench.evaluation.work.behaviour.ask import Answers

__all__ = ["double_steps"]


def double_steps(
    plan: Plan, sources: DataSources, device: str, answers: Answers | None = None
) -> tuple[Plan, dict[int, str]]:
    """Plans the cells again with twice the steps of each attack that has a parameter ``steps``.

    Takes what :func:`~advbench.evaluation.plan.build.build_plan` takes.

    Returns:
        The plan, which is empty where no attack has steps; and the key of the counterpart of each cell that has one,
        by the cell's position.
    """
    twice = {attack: _twice(attack) for axes in plan.parts for attack in axes.attacks}
    parts = []
    for axes in plan.parts:
        attacks = tuple(more for attack in axes.attacks if (more := twice[attack]) is not None)
        if attacks:
            parts.append(dataclasses.replace(axes, attacks=attacks))
    if not parts:
        return dataclasses.replace(plan, cells=()), {}
    doubled = build_plan(parts, sources, device, answers)
    keys = {tuple(cell.specs().values()): cell.key for cell in doubled.cells}
    counterparts = {}
    for place, cell in enumerate(plan.cells):
        more = twice[cell.attack]
        if more is not None and cell.key:
            key = keys.get(tuple(dataclasses.replace(cell, attack=more).specs().values()))
            if key:
                counterparts[place] = key
    return doubled, counterparts


def _twice(attack: Attack) -> Attack | None:
    """The attack with twice the steps, or None where it has none or takes no more."""
    values = attack.values()
    steps = values.get("steps")
    if not isinstance(steps, int) or isinstance(steps, bool):
        return None
    try:
        return type(attack).from_values({**values, "steps": 2 * steps})
    except ParameterError:
        return None
