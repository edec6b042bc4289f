"""Threats: what the attacker knows. A threat is a wrapper round model and defense, not an attack."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch

from advbench.api.component import closest
from advbench.errors import UsageError
from advbench.specs import Chain

__all__ = ["THREATS", "Threat", "select_threats"]


@dataclasses.dataclass(frozen=True)
class Threat:
    """What the attacker knows.

    Attributes:
        name: The word in flags, records and tables.
        sees_defense: Whether the adversarial images depend on the defense, so that each defense needs its own.
        target: Gives the classifier that is attacked, from the model and the defense.
        meaning: What it is, in a sentence for readers of a leaderboard.
        caveat: What a result under it does not prove.
    """

    name: str
    sees_defense: bool
    target: Callable[[torch.nn.Module, Chain], torch.nn.Module]
    meaning: str
    caveat: str


THREATS: dict[str, Threat] = {
    "oblivious": Threat(
        name="oblivious",
        sees_defense=False,
        target=lambda model, _chain: model,
        meaning="the attacker knows the model but not the defense: images are crafted on the undefended model",
        caveat="it does not show that a defense withstands an attacker who knows of it",
    ),
}
"""The threats by name."""


def select_threats(names: Sequence[str]) -> list[Threat]:
    """The threats of the matrix.

    Raises:
        UsageError: There is none, an unknown one, or one twice.
    """
    if not names:
        raise UsageError(f"no threats selected; give at least one of {', '.join(THREATS)}")
    for name in names:
        if name not in THREATS:
            hint = closest(name, THREATS) or f"there are: {', '.join(THREATS)}"
            raise UsageError(f"unknown threat {name!r}; {hint}")
        if list(names).count(name) > 1:
            raise UsageError(f"--threats: {name!r} is given twice; remove one")
    return [THREATS[name] for name in names]
