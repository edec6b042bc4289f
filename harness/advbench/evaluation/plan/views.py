"""The view of a defense that an attack asks for: its draws, and which of the defense's approximations it uses."""

from __future__ import annotations

import dataclasses

from advbench.api import AdaptiveView, Attack, ContractError
from advbench.errors import UsageError, describe
from advbench.evaluation.plan.cells import AttackTarget, short
from advbench.evaluation.plan.threats import Threat
from advbench.specs import Chain, transforms_images

__all__ = ["approximation_numbers", "view_obstacle", "with_view"]


def with_view(target: AttackTarget, attack: Attack) -> AttackTarget:
    """The attack target with the attack's own number of draws, if what is attacked is stochastic.

    Raises:
        ContractError: The attack's view is not valid.
    """
    draws = _checked(attack).draws
    defended = target.defense is not None and target.defense.stochastic
    stochastic = defended or bool(getattr(target.model, "stochastic", False))
    return target if draws is None or not stochastic else dataclasses.replace(target, draws=draws)


def view_obstacle(attack: Attack, threat: Threat, defense: Chain) -> dict[str, str]:
    """Why a defense lacks the approximations that an attack asks for: ``skipped`` or ``failed`` of its cells."""
    if not threat.sees_defense or defense.identity:
        return {}
    try:
        wanted = _checked(attack).approximations
        count = _count(defense) if wanted else 0
    except (UsageError, KeyboardInterrupt):
        raise
    except BaseException as error:
        return {"failed": describe(error)}
    missing = next((number for number in wanted if number > count), None)
    if not count or missing is None:
        return {}
    has = f"{count} approximations" if count > 1 else "one approximation"
    return {"skipped": f"{short(attack)} uses approximation {missing}, and defense {short(defense)!r} has {has}"}


def approximation_numbers(attack: Attack, count: int) -> tuple[int, ...]:
    """Which of a defense's approximations an attack uses, one in each run, counted from 0.

    Args:
        attack: The attack.
        count: How many the defense has; 1 if it needs none.
    """
    wanted = _checked(attack).approximations
    return tuple(dict.fromkeys(min(number, count) - 1 for number in wanted)) if wanted else tuple(range(count))


def _count(defense: Chain) -> int:
    """How many approximations a defense has; 0 if autograd follows all of its parts."""
    from advbench.contracts.defenses import check_approximations  # imports torch

    parts = [part for part in defense.parts if not transforms_images(part) or not part.differentiable]
    return max((len(check_approximations(part)) for part in parts), default=0)


def _checked(attack: Attack) -> AdaptiveView:
    view: object = attack.view
    if view is None:
        return AdaptiveView()
    if not isinstance(view, AdaptiveView):
        raise ContractError(f"attack {attack.name!r} has view = {view!r}; expected an AdaptiveView or None")
    for value in (*view.approximations, *(() if view.draws is None else (view.draws,))):
        if not isinstance(value, int) or value < 1:
            raise ContractError(f"attack {attack.name!r} has {view!r} as its view; expected whole numbers from 1")
    return view
