"""Attacks with a parameter that chooses a mode, and parameters that only some of the modes have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from advbench.api import Attack, Parameter, ParameterError, Value

__all__ = ["AttackWithModes"]


class AttackWithModes(Attack):
    """An attack with modes. Specs, keys and help texts show the parameters of the chosen mode alone.

    Attributes:
        mode_parameter: The name of the parameter that chooses the mode.
        modes_of: The modes that have a parameter, for parameters that not all modes have.
        why_inapplicable: The end of the error message for some of these parameters; by default it names a mode.
    """

    mode_parameter: ClassVar[str]
    modes_of: ClassVar[Mapping[str, tuple[str, ...]]]
    why_inapplicable: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        """Validates the parameters, and that none is set that the mode does not use.

        Raises:
            ParameterError: A value is not allowed, or not in this mode.
        """
        super().__post_init__()
        mode = getattr(self, self.mode_parameter)
        for parameter in super().parameters():
            if not self._applies(parameter.name, mode) and getattr(self, parameter.name) != parameter.default:
                raise self._inapplicable(parameter.name, mode)

    @classmethod
    def parameters(cls, given: Mapping[str, str] | None = None) -> tuple[Parameter, ...]:
        """Returns the parameters of the mode that ``given`` names; of all modes if it names none."""
        all_parameters = super().parameters(given)
        mode = (given or {}).get(cls.mode_parameter, "")
        if mode not in cls._modes():
            return all_parameters
        return tuple(parameter for parameter in all_parameters if cls._applies(parameter.name, mode))

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> dict[str, Value]:
        """Parses parameters from a spec.

        Raises:
            ParameterError: A parameter is unknown, malformed, out of range or of another mode.
        """
        mode = given.get(cls.mode_parameter, str(cls._chooser().default))
        for key in given:
            if mode in cls._modes() and not cls._applies(key, mode):
                raise cls._inapplicable(key, mode)
        return super().parse(given)

    def values(self) -> dict[str, Value]:
        """Returns the mode's parameters with their values, defaults included."""
        mode = getattr(self, self.mode_parameter)
        return {key: value for key, value in super().values().items() if self._applies(key, mode)}

    @classmethod
    def _chooser(cls) -> Parameter:
        return next(parameter for parameter in super().parameters() if parameter.name == cls.mode_parameter)

    @classmethod
    def _modes(cls) -> tuple[str, ...]:
        return tuple(map(str, cls._chooser().choices or ()))

    @classmethod
    def _applies(cls, key: str, mode: str) -> bool:
        return key not in cls.modes_of or mode in cls.modes_of[key]

    @classmethod
    def _inapplicable(cls, key: str, mode: str) -> ParameterError:
        given = f"{key} has no meaning with {cls.mode_parameter}={mode}"
        if key in cls.why_inapplicable:
            return ParameterError(f"{given}{cls.why_inapplicable[key]}")
        return ParameterError(f"{given}; add {cls.mode_parameter}={cls.modes_of[key][0]}")
