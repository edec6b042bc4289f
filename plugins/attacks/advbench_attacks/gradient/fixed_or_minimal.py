"""What FGSM and PGD share: a fixed eps or a search for the smallest, and a choice of implementation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

from advbench.api import Attack, Budget, Norm, Parameter, ParameterError, Value

__all__ = ["FixedOrMinimalAttack"]


class FixedOrMinimalAttack(Attack):
    """An attack with a parameter ``search``: ``none`` uses a fixed eps, ``minimal`` finds the smallest in L∞.

    Attributes:
        mode_of: The value of ``search`` that a parameter belongs to, for parameters of one mode only.
        native_only: Parameters that Foolbox's implementation lacks, and the end of the error message.
    """

    mode_of: ClassVar[Mapping[str, str]] = {
        "eps": "none",
        "max_eps": "minimal",
        "engine": "none",
        "norm": "none",
        "loss": "none",
    }
    native_only: ClassVar[Mapping[str, str]] = {"loss": ", which follows the cross-entropy; use engine=native"}

    eps: float
    search: str
    max_eps: float
    engine: str
    norm: str

    def __post_init__(self) -> None:
        """Validates the parameters, and that none is set that the mode or the engine does not use.

        Raises:
            ParameterError: A value is not allowed, or not in this mode.
        """
        super().__post_init__()
        for parameter in super().parameters():
            if not self._applies(parameter.name, self.search) and getattr(self, parameter.name) != parameter.default:
                raise self._inapplicable(parameter.name, self.search)
        for parameter in super().parameters():
            value = getattr(self, parameter.name)
            if self.engine == "foolbox" and parameter.name in self.native_only and value != parameter.default:
                given = f"{parameter.name}={value}".lower()
                raise ParameterError(f"{given} has no meaning with engine=foolbox{self.native_only[parameter.name]}")

    @classmethod
    def parameters(cls, given: Mapping[str, str] | None = None) -> tuple[Parameter, ...]:
        """Returns the parameters of the mode that ``given`` names; of both modes if it names none."""
        all_parameters = super().parameters(given)
        search = (given or {}).get("search", "")
        if search not in cls.mode_of.values():
            return all_parameters
        return tuple(parameter for parameter in all_parameters if cls._applies(parameter.name, search))

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> dict[str, Value]:
        """Parses parameters from a spec.

        Raises:
            ParameterError: A parameter is unknown, malformed, out of range or of the other mode.
        """
        search = given.get("search", "none")
        for key in given:
            if search in cls.mode_of.values() and not cls._applies(key, search):
                raise cls._inapplicable(key, search)
        return super().parse(given)

    def values(self) -> dict[str, Value]:
        """Returns the mode's parameters with their values, defaults included."""
        return {key: value for key, value in super().values().items() if self._applies(key, self.search)}

    def budget(self) -> Budget | None:
        """Returns the ball of radius eps in the norm, or None for a search of the smallest eps."""
        return None if self.search == "minimal" else Budget(cast(Norm, self.norm), self.eps)

    def minimized_norm(self) -> Norm:
        """Returns L∞, the norm of the search."""
        return "linf"

    @classmethod
    def _applies(cls, key: str, search: str) -> bool:
        return cls.mode_of.get(key, search) == search

    @classmethod
    def _inapplicable(cls, key: str, search: str) -> ParameterError:
        if key == "eps":
            return ParameterError("eps has no meaning with search=minimal, which searches eps itself up to max_eps")
        return ParameterError(f"{key} has no meaning with search={search}; add search={cls.mode_of[key]}")
