"""What FGSM and PGD share: a fixed eps or a search for the smallest, and a choice of implementation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

from advbench.api import Budget, Norm, ParameterError
from advbench_attacks.modes import AttackWithModes

__all__ = ["FixedOrMinimalAttack"]


class FixedOrMinimalAttack(AttackWithModes):
    """An attack with a parameter ``search``: ``none`` uses a fixed eps, the other modes find the smallest in L∞.

    Attributes:
        native_only: Parameters that Foolbox's implementation lacks, and the end of the error message.
    """

    mode_parameter: ClassVar[str] = "search"
    modes_of: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "eps": ("none",),
        "max_eps": ("minimal",),
        "engine": ("none",),
        "norm": ("none",),
        "loss": ("none",),
        "goal": ("none", "minimal"),
    }
    why_inapplicable: ClassVar[Mapping[str, str]] = {
        "eps": ", which searches eps itself",
        "goal": ", which is untargeted as in Foolbox 2.3.0; use search=minimal or a fixed eps",
    }
    native_only: ClassVar[Mapping[str, str]] = {"loss": ", which follows the cross-entropy; use engine=native"}

    eps: float
    search: str
    engine: str
    norm: str

    def __post_init__(self) -> None:
        """Validates the parameters, and that none is set that the mode or the engine does not use.

        Raises:
            ParameterError: A value is not allowed, or not in this mode.
        """
        super().__post_init__()
        for parameter in super().parameters():
            value = getattr(self, parameter.name)
            if self.engine == "foolbox" and parameter.name in self.native_only and value != parameter.default:
                given = f"{parameter.name}={value}".lower()
                raise ParameterError(f"{given} has no meaning with engine=foolbox{self.native_only[parameter.name]}")

    def budget(self) -> Budget | None:
        """Returns the ball of radius eps in the norm, or None for a search of the smallest eps."""
        return Budget(cast(Norm, self.norm), self.eps) if self.search == "none" else None

    def minimized_norm(self) -> Norm:
        """Returns L∞, the norm of the search."""
        return "linf"
