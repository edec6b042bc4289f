"""Attacks without goals, and attacks whose goal replaces the number of target classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from advbench.api import Attack, Component, Parameter, ParameterError, Value, goal_param

__all__ = ["GOAL", "AttackWithTargets", "UntargetedAttack"]

_UNTARGETED = "untargeted"


@dataclass(frozen=True)
class _WithGoal(Component):
    goal: str = goal_param()


(GOAL,) = _WithGoal.parameters()
"""The parameter ``goal``, for attacks whose parameters are not fields."""


class UntargetedAttack(Attack):
    """An attack that cannot be targeted, and says so if a spec sets ``goal``.

    Attributes:
        why_untargeted: Why, for the error message.
        use_instead: The name of an attack that can be targeted.
    """

    why_untargeted: ClassVar[str]
    use_instead: ClassVar[str]

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> dict[str, Value]:
        """Parses parameters from a spec.

        Raises:
            ParameterError: A parameter is unknown, malformed or out of range, or the spec sets a goal.
        """
        if "goal" in given:
            goal = given["goal"]
            raise ParameterError(f"goal={goal}: {cls.why_untargeted}; use {cls.use_instead}:goal={goal}")
        return super().parse(given)


class AttackWithTargets(Attack):
    """An attack with the parameters ``goal`` and ``targets``, the number of classes that it tries if untargeted.

    Specs, keys and help texts of a targeted attack do not have ``targets``.
    """

    goal: str
    targets: int | None

    def __post_init__(self) -> None:
        """Validates the parameters.

        Raises:
            ParameterError: A value is not allowed, or both a goal and a number of targets are set.
        """
        super().__post_init__()
        default = next(parameter.default for parameter in super().parameters() if parameter.name == "targets")
        if self.goal != _UNTARGETED and self.targets != default:
            raise _both(self.goal)

    @classmethod
    def parameters(cls, given: Mapping[str, str] | None = None) -> tuple[Parameter, ...]:
        """Returns the parameters; without ``targets`` if ``given`` sets a goal."""
        targeted = (given or {}).get("goal", _UNTARGETED) != _UNTARGETED
        return tuple(
            parameter for parameter in super().parameters(given) if parameter.name != "targets" or not targeted
        )

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> dict[str, Value]:
        """Parses parameters from a spec.

        Raises:
            ParameterError: A parameter is unknown, malformed, out of range, or both a goal and a number of targets are
                set.
        """
        goal = given.get("goal", _UNTARGETED)
        if goal != _UNTARGETED and "targets" in given:
            raise _both(goal)
        return super().parse(given)

    def values(self) -> dict[str, Value]:
        """Returns the parameters with their values, defaults included; without ``targets`` if there is a goal."""
        values = super().values()
        return values if self.goal == _UNTARGETED else {key: values[key] for key in values if key != "targets"}


def _both(goal: str) -> ParameterError:
    return ParameterError(f"targets has no meaning with goal={goal}, which names the target class; leave one out")
