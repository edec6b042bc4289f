"""Threat models: what the attacker knows, which decides what is attacked; and the view that an attack asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from advbench.api import Attack
from advbench.api.component import closest
from advbench.contracts.views import check_view
from advbench.errors import UsageError, describe, listed
from advbench.option_names import option
from advbench.specs import Chain, short_spec, transforms_images

if TYPE_CHECKING:
    from advbench.evaluation.plan.cells import AttackTarget

__all__ = [
    "ADAPTIVE",
    "NO_ATTACKER",
    "OBLIVIOUS",
    "THREATS",
    "TRANSFER",
    "Threat",
    "approximation_numbers",
    "select_threats",
    "view_obstacle",
    "with_view",
]


@dataclasses.dataclass(frozen=True)
class Threat:
    """What the attacker knows.

    Attributes:
        name: Its name in flags, records and tables.
        sees_model: Whether the model itself is attacked, and not a surrogate.
        sees_defense: Whether the adversarial images depend on the defense, so that each defense needs its own.
        meaning: What it means, in a sentence for readers of a leaderboard.
        caveat: What a result under it does not show.
    """

    name: str
    sees_model: bool
    sees_defense: bool
    meaning: str
    caveat: str


OBLIVIOUS = Threat(
    name="oblivious",
    sees_model=True,
    sees_defense=False,
    meaning="the attacker knows the model but not the defense, and crafts images on the undefended model",
    caveat="a high accuracy does not show that a defense withstands an attacker who knows it",
)
ADAPTIVE = Threat(
    name="adaptive",
    sees_model=True,
    sees_defense=True,
    meaning="the attacker knows model and defense, and crafts images on both together, with BPDA and EOT",
    caveat="a defense that withstands these attacks may still fail against an attack that is made for it",
)
TRANSFER = Threat(
    name="transfer",
    sees_model=False,
    sees_defense=False,
    meaning="the attacker knows only another model, the surrogate, and crafts images on it",
    caveat="a high accuracy does not show that a defense withstands an attacker who knows the model",
)

NO_ATTACKER = Threat(
    name="none",
    sees_model=True,
    sees_defense=False,
    meaning="no attacker: images are corrupted without knowledge of model and defense",
    caveat="accuracy under corruptions does not measure security against an attacker",
)
"""The threat of corruptions, whatever threats are selected; users do not select it."""

THREATS: dict[str, Threat] = {threat.name: threat for threat in (OBLIVIOUS, ADAPTIVE, TRANSFER)}
"""The threats by name."""


def select_threats(names: Sequence[str]) -> list[Threat]:
    """The threats with these names.

    Raises:
        UsageError: The list is empty, or contains an unknown threat or one twice.
    """
    if not names:
        raise UsageError(f"no threats selected; give at least one of {', '.join(THREATS)}")
    for name in names:
        if name not in THREATS:
            hint = closest(name, THREATS) or f"there are: {listed(THREATS)}"
            raise UsageError(f"unknown threat {name!r}; {hint}")
        if list(names).count(name) > 1:
            raise UsageError(f"{option('threats')}: {name!r} is given twice; remove one")
    return [THREATS[name] for name in names]


def with_view(target: AttackTarget, attack: Attack) -> AttackTarget:
    """The attack target with the attack's own number of draws, if what is attacked is stochastic.

    Raises:
        ContractError: The attack's view is not valid.
    """
    draws = check_view(attack).draws
    defended = target.defense is not None and target.defense.stochastic
    stochastic = defended or bool(getattr(target.model, "stochastic", False))
    return target if draws is None or not stochastic else dataclasses.replace(target, draws=draws)


def view_obstacle(attack: Attack, threat: Threat, defense: Chain) -> dict[str, str]:
    """Why a defense lacks the approximations that an attack asks for: ``skipped`` or ``failed`` of its cells."""
    if not threat.sees_defense or defense.identity:
        return {}
    try:
        wanted = check_view(attack).approximations
        count = _count(defense) if wanted else 0
    except (UsageError, KeyboardInterrupt):
        raise
    except BaseException as error:
        return {"failed": describe(error)}
    missing = next((number for number in wanted if number > count), None)
    if not count or missing is None:
        return {}
    has = f"{count} approximations" if count > 1 else "one approximation"
    return {
        "skipped": f"{short_spec(attack)} uses approximation {missing}, and defense {short_spec(defense)!r} has {has}"
    }


def approximation_numbers(attack: Attack, count: int) -> tuple[int, ...]:
    """Which of a defense's approximations an attack uses, one in each run, counted from 0.

    Args:
        attack: The attack.
        count: How many the defense has; 1 if it needs none.
    """
    wanted = check_view(attack).approximations
    return tuple(dict.fromkeys(min(number, count) - 1 for number in wanted)) if wanted else tuple(range(count))


def _count(defense: Chain) -> int:
    """How many approximations a defense has; 0 if autograd follows all of its parts."""
    from advbench.contracts.defenses import check_approximations  # imports torch

    parts = [part for part in defense.parts if not transforms_images(part) or not part.differentiable]
    return max((len(check_approximations(part)) for part in parts), default=0)
