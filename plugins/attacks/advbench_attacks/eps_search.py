"""What FGSM and PGD share: they either keep to a fixed eps or search the smallest one, and Foolbox can run them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

from advbench.api import Attack, Budget, Norm, Parameter, ParameterError, Value

__all__ = ["EpsSearch"]


class EpsSearch(Attack):
    """An attack with a parameter ``search``: ``none`` keeps to eps, ``minimal`` searches the smallest in L∞.

    Attributes:
        only_in: Which parameters have a meaning in one mode only, and in which.
        only_native: Which parameters Foolbox's implementation has no equal of, and how the message goes on.
    """

    only_in: ClassVar[Mapping[str, str]] = {
        "eps": "none",
        "max_eps": "minimal",
        "engine": "none",
        "norm": "none",
        "loss": "none",
    }
    only_native: ClassVar[Mapping[str, str]] = {"loss": ", which follows the cross-entropy; use engine=native"}

    eps: float
    search: str
    max_eps: float
    engine: str
    norm: str

    def __post_init__(self) -> None:
        """Checks every parameter, and that none is set to what the mode would not heed.

        Raises:
            ParameterError: A value is not allowed, or not in this mode.
        """
        super().__post_init__()
        for parameter in super().parameters():
            if not self._heeds(parameter.name, self.search) and getattr(self, parameter.name) != parameter.default:
                raise self._unheeded(parameter.name, self.search)
        for parameter in super().parameters():
            value = getattr(self, parameter.name)
            if self.engine == "foolbox" and parameter.name in self.only_native and value != parameter.default:
                given = f"{parameter.name}={value}".lower()
                raise ParameterError(f"{given} has no meaning with engine=foolbox{self.only_native[parameter.name]}")

    @classmethod
    def parameters(cls, given: Mapping[str, str] | None = None) -> tuple[Parameter, ...]:
        """The parameters of the mode that ``given`` names; without one, those of both."""
        everything = super().parameters(given)
        search = (given or {}).get("search", "")
        if search not in cls.only_in.values():
            return everything
        return tuple(one for one in everything if cls._heeds(one.name, search))

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> dict[str, Value]:
        """Reads parameters as a spec writes them.

        Raises:
            ParameterError: A parameter is unknown, malformed, out of range or of the other mode.
        """
        search = given.get("search", "none")
        for key in given:
            if search in cls.only_in.values() and not cls._heeds(key, search):
                raise cls._unheeded(key, search)
        return super().parse(given)

    def values(self) -> dict[str, Value]:
        """The parameters of the mode with their values, defaults included."""
        return {key: value for key, value in super().values().items() if self._heeds(key, self.search)}

    def budget(self) -> Budget | None:
        """The ball of radius eps in the norm, or None where the smallest eps is searched."""
        return None if self.search == "minimal" else Budget(cast(Norm, self.norm), self.eps)

    def minimized_norm(self) -> Norm:
        """L∞, the norm of the search."""
        return "linf"

    @classmethod
    def _heeds(cls, key: str, search: str) -> bool:
        return cls.only_in.get(key, search) == search

    @classmethod
    def _unheeded(cls, key: str, search: str) -> ParameterError:
        if key == "eps":
            return ParameterError("eps has no meaning with search=minimal, which searches eps itself up to max_eps")
        return ParameterError(f"{key} has no meaning with search={search}; add search={cls.only_in[key]}")
