"""The same cells with twice the steps, to check whether their attacks have converged."""

from __future__ import annotations

import dataclasses

from advbench.api import Attack, DataSources, ParameterError
from advbench.evaluation.plan.behaviours import BehaviourIds
from advbench.evaluation.plan.build import Plan, build_plan

__all__ = ["double_steps"]


def double_steps(
    plan: Plan, sources: DataSources, device: str, behaviours: BehaviourIds | None = None
) -> tuple[Plan, dict[int, str]]:
    """Plans the cells again with twice the steps of each attack that has a parameter ``steps``.

    The arguments are those of :func:`~advbench.evaluation.plan.build.build_plan`.

    Returns:
        The plan, which is empty if no attack has steps; and for each cell with a counterpart in it, by the cell's
        position, the key of the counterpart.
    """
    twice = {attack: _twice(attack) for axes in plan.parts for attack in axes.attacks}
    parts = []
    for axes in plan.parts:
        attacks = tuple(doubled_attack for attack in axes.attacks if (doubled_attack := twice[attack]) is not None)
        if attacks:
            parts.append(dataclasses.replace(axes, attacks=attacks))
    if not parts:
        return dataclasses.replace(plan, cells=()), {}
    doubled = build_plan(parts, sources, device, behaviours)
    keys = {cell.coordinates: cell.key for cell in doubled.cells}
    counterparts = {}
    for position, cell in enumerate(plan.cells):
        doubled_attack = twice[cell.attack]
        if doubled_attack is not None and cell.key:
            key = keys.get(dataclasses.replace(cell, attack=doubled_attack).coordinates)
            if key:
                counterparts[position] = key
    return doubled, counterparts


def _twice(attack: Attack) -> Attack | None:
    """The attack with twice the steps; None if it has no such parameter, or does not allow so many."""
    values = attack.values()
    steps = values.get("steps")
    if not isinstance(steps, int) or isinstance(steps, bool):
        return None
    try:
        return type(attack).from_values({**values, "steps": 2 * steps})
    except ParameterError:
        return None
