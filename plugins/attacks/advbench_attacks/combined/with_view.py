"""An attack that sees defenses in another way."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import torch

from advbench.api import (
    Access,
    AdaptiveView,
    Artefact,
    Attack,
    Budget,
    Crafted,
    FitData,
    Goal,
    Norm,
    ParameterError,
    PerturbationSet,
    SampleRandom,
    param,
)

__all__ = ["WithView"]


@dataclass(frozen=True)
class WithView(Attack):
    """Runs an attack with another view of the defenses that it knows.

    Under the threat ``adaptive``, the attack's gradients are averaged over ``draws`` draws of a stochastic defense, and
    of the approximations that a defense offers for the backward pass it uses ``stand_ins`` alone. Under other threats,
    without a defense, and behind defenses with neither draws nor approximations, it is the attack itself.
    """

    name: ClassVar[str] = "with-view"
    source: ClassVar[str] = (
        "Athalye, Carlini and Wagner 2018, Obfuscated Gradients Give a False Sense of Security, section 4"
    )

    attack: tuple[Attack, ...] = param(kind="attacks", help="the attack to run")
    draws: int | None = param(
        None, min=1, help="draws of a stochastic defense for a gradient; none: the number of --eot"
    )
    stand_ins: str | None = param(
        None, help="which approximations of a defense to use: numbers from 1, separated by spaces; none: all"
    )

    def __post_init__(self) -> None:
        """Validates the parameters.

        Raises:
            ParameterError: There are several attacks, or one with a view of its own; or an approximation is no number.
        """
        super().__post_init__()
        if len(self.attack) > 1:
            raise ParameterError("attack: give one attack; worst-of combines several")
        if self.attack[0].view is not None:
            raise ParameterError(f"attack: {self.attack[0].name} has a view already; give the attack inside of it")
        if self.stand_ins is not None:
            numbers = re.split(r"[\s,]+", self.stand_ins.strip())
            if not all(number.isascii() and number.isdecimal() and int(number) for number in numbers):
                raise ParameterError(
                    f"stand_ins={self.stand_ins}: must be numbers of approximations, from 1, separated by spaces"
                )
            if len(set(map(int, numbers))) < len(numbers):
                raise ParameterError(f"stand_ins={self.stand_ins}: names an approximation twice; remove one")
            object.__setattr__(self, "stand_ins", " ".join(str(int(number)) for number in numbers))

    @property
    def inner(self) -> Attack:  # type: ignore[override]
        """The attack that runs."""
        return self.attack[0]

    @property
    def view(self) -> AdaptiveView:  # type: ignore[override]
        """The view of a defense."""
        numbers = () if self.stand_ins is None else tuple(map(int, self.stand_ins.split()))
        return AdaptiveView(self.draws, numbers)

    @property
    def access(self) -> Access:  # type: ignore[override]
        """What the attack needs of the model."""
        return self.inner.access

    @property
    def group_size(self) -> int | None:  # type: ignore[override]
        """The attack's size of groups."""
        return self.inner.group_size

    @property
    def self_contained(self) -> bool:  # type: ignore[override]
        """Whether the attack is."""
        return self.inner.self_contained

    def fit(self, model: torch.nn.Module, data: FitData, goal: Goal, rng: SampleRandom) -> Artefact | None:
        """Fits the attack; see :meth:`advbench.api.Attack.fit`."""
        return self.inner.fit(model, data, goal, rng)

    def fit_passes(self, samples: int) -> int | None:
        """Returns the attack's number of passes for its fit."""
        return self.inner.fit_passes(samples)

    def craft(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        goal: Goal,
        rng: SampleRandom,
        fitted: Artefact | None = None,
    ) -> torch.Tensor | Crafted:
        """Runs the attack on one batch; see :meth:`advbench.api.Attack.craft`."""
        return self.inner.craft(model, images, goal, rng, fitted)

    def component_names(self) -> tuple[str, ...]:
        """Returns the names of the attacks of an ensemble."""
        return self.inner.component_names()

    def component_access(self) -> tuple[Access, ...]:
        """Returns what each attack of an ensemble needs."""
        return self.inner.component_access()

    def budget(self) -> Budget | None:
        """Returns the attack's budget."""
        return self.inner.budget()

    def perturbation(self) -> PerturbationSet:
        """Returns the attack's perturbation set."""
        return self.inner.perturbation()

    def minimized_norm(self) -> Norm | None:
        """Returns the norm that the attack minimises."""
        return self.inner.minimized_norm()

    def misfit(self, image_shape: tuple[int, int, int], num_classes: int) -> str:
        """Returns why the attack cannot attack such images."""
        return self.inner.misfit(image_shape, num_classes)

    def passes(self) -> int | None:
        """Returns the attack's number of passes."""
        return self.inner.passes()
