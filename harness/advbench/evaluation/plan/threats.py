"""Threat models: what the attacker knows, which decides what is attacked; and the view that an attack asks for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from advbench.api import Attack
from advbench.api.component import closest
from advbench.contracts.budgets import check_view
from advbench.errors import UsageError, listed
from advbench.option_names import option

__all__ = [
    "ADAPTIVE",
    "NO_ATTACKER",
    "OBLIVIOUS",
    "THREATS",
    "TRANSFER",
    "Threat",
    "approximation_numbers",
    "select_threats",
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


def approximation_numbers(attack: Attack, count: int) -> tuple[int, ...]:
    """Which of a defense's approximations an attack uses, one in each run, counted from 0.

    Args:
        attack: The attack.
        count: How many the defense has; 1 if it needs none.
    """
    wanted = check_view(attack).approximations
    return tuple(dict.fromkeys(min(number, count) - 1 for number in wanted)) if wanted else tuple(range(count))
