"""The base of all components: a frozen dataclass whose fields are its parameters."""

from __future__ import annotations

import abc
import dataclasses
import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from advbench.api.parameters import Parameter, Value, field_parameters
from advbench.errors import ParameterError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Component", "closest"]


@dataclasses.dataclass(frozen=True)
class Component(abc.ABC):
    """What attacks, defenses, models, datasets, executors and reporters have in common.

    Subclasses are decorated with ``@dataclass(frozen=True)``; each of their fields, declared with
    :func:`~advbench.api.param`, is a parameter. Two components are equal when their class and
    parameters are.

    Attributes:
        name: What users write in a spec: lower case, digits, ``-``, ``_`` and ``.``, beginning with a letter.
        source: Where the method is published: authors, year, section; shown by ``advbench info``.
        depends_on: Distributions whose versions shape the outcome; they become part of every key.
        self_contained: Whether the answers of a model, defense or attack follow from its code, parameters and weights
            alone. Of others, a few answers are stored with the results, which are used again only where the component
            still answers so. A class that another package derives does not inherit it.
    """

    name: ClassVar[str]
    source: ClassVar[str] = ""
    depends_on: ClassVar[tuple[str, ...]] = ()
    self_contained: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Checks every parameter; a subclass that adds checks across parameters calls this first."""
        for parameter in field_parameters(type(self)):
            value = parameter.check(getattr(self, parameter.name))
            object.__setattr__(self, parameter.name, value)

    @classmethod
    def parameters(cls, given: Mapping[str, str] | None = None) -> tuple[Parameter, ...]:
        """The parameters that this component takes.

        Args:
            given: What the user gave, as text. Only a component whose parameters depend on it looks.
        """
        del given
        return field_parameters(cls)

    @classmethod
    def from_text(cls, given: Mapping[str, str]) -> Self:
        """Builds the component from parameters as a spec writes them.

        Raises:
            ParameterError: A parameter is unknown, malformed, out of range or missing.
        """
        values = cls.parse(given)
        for parameter in cls.parameters(given):
            if parameter.required and parameter.name not in given:
                raise ParameterError(f"needs {parameter.name}=…: {parameter.help}")
        return cls.from_values(values)

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> dict[str, Value]:
        """Reads parameters as a spec writes them.

        Raises:
            ParameterError: A parameter is unknown, malformed or out of range.
        """
        known = {parameter.name: parameter for parameter in cls.parameters(given)}
        for key in given:
            if key not in known:
                hint = closest(key, known)
                takes = f"it takes {', '.join(known)}" if known else "it takes no parameters"
                raise ParameterError(f"has no parameter {key!r}; {hint or takes}")
        return {key: known[key].parse(text) for key, text in given.items()}

    @classmethod
    def from_values(cls, values: Mapping[str, Value]) -> Self:
        """Builds the component from checked values; parameters left out take their defaults."""
        return cls(**values)

    def values(self) -> dict[str, Value]:
        """All parameters with their values, defaults included: what keys and full specs are made of."""
        return {parameter.name: getattr(self, parameter.name) for parameter in field_parameters(type(self))}

    def code_modules(self) -> tuple[str, ...]:
        """Names of imported modules whose code shapes the outcome, beside those of its class; keys cover them.

        A component that calls code of the user's, such as a network of a file that a parameter names, tells them.

        Raises:
            UsageError: What the parameters name cannot be used.
        """
        return ()

    @classmethod
    def summary(cls) -> str:
        """The first line of the class's docstring."""
        doc = cls.__dict__.get("__doc__") or ""
        # A dataclass without a docstring is given its signature as one.
        return "" if doc.startswith(f"{cls.__name__}(") else doc.strip().partition("\n")[0]


def closest(name: str, names: Mapping[str, object] | list[str]) -> str:
    """A suggestion such as ``did you mean 'jpeg'?``, or nothing where no name is near."""
    near = difflib.get_close_matches(name.lower(), list(names), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else ""
