"""The base of all components: a frozen dataclass whose fields are its parameters."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from advbench.api.parameters import Parameter, Value, field_parameters
from advbench.api.spec_text import SEPARATOR, term_text
from advbench.errors import ParameterError, nearest

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Component", "closest"]


@dataclasses.dataclass(frozen=True)
class Component(abc.ABC):
    """Base class of attacks, defenses, models, datasets, executors and reporters.

    Decorate subclasses with ``@dataclass(frozen=True)``. Each field declared with
    :func:`~advbench.api.param` is a parameter. Two components are equal if their class and
    parameters are equal.

    Attributes:
        name: The name in specs: lower-case letters, digits, ``-``, ``_`` and ``.``; the first character is a letter.
        source: The publication of the method: authors, year, section. ``advbench info`` shows it.
        depends_on: Names of the distributions whose versions affect the results. The versions are part of every key.
        self_contained: Whether the output of a model, defense or attack depends only on its code, parameters and
            weights. For other components, a few outputs are stored with the results, and stored results are reused only
            while the component still gives these outputs. Subclasses in other packages do not inherit it.
    """

    name: ClassVar[str]
    source: ClassVar[str] = ""
    depends_on: ClassVar[tuple[str, ...]] = ()
    self_contained: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Checks every parameter. A subclass that checks parameters against each other calls this method first."""
        for parameter in field_parameters(type(self)):
            value = parameter.check(getattr(self, parameter.name))
            object.__setattr__(self, parameter.name, value)

    @classmethod
    def parameters(cls, given: Mapping[str, str] | None = None) -> tuple[Parameter, ...]:
        """The parameters that this component takes.

        Args:
            given: The user's parameters, as text; for components whose set of parameters depends on them.
        """
        del given
        return field_parameters(cls)

    @classmethod
    def from_text(cls, given: Mapping[str, str]) -> Self:
        """Builds the component from parameters as written in a spec.

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
        """Converts parameters as written in a spec to values.

        Raises:
            ParameterError: A parameter is unknown, malformed or out of range.
        """
        known = {parameter.name: parameter for parameter in cls.parameters(given)}
        for key in given:
            if key not in known:
                hint = closest(key, known)
                takes = f"it takes {', '.join(known)}" if known else "it takes no parameters"
                raise ParameterError(f"has no parameter {key!r}; {hint or takes}{_quotes(key, known, given)}")
        return {key: known[key].parse(text) for key, text in given.items()}

    @classmethod
    def from_values(cls, values: Mapping[str, Value]) -> Self:
        """Builds the component from checked values; parameters left out take their defaults."""
        return cls(**values)

    def values(self) -> dict[str, Value]:
        """All parameters with their values, including defaults. Keys and full specs are made from them.

        The value of a parameter that takes components is the text of their specs.
        """
        values = {parameter.name: getattr(self, parameter.name) for parameter in field_parameters(type(self))}
        texts = {
            name: SEPARATOR.join(term_text(part.name, part.values()) for part in parts)
            for name, parts in self.nested().items()
        }
        return values | texts

    def nested(self) -> dict[str, tuple[Component, ...]]:
        """The components in each parameter that takes components, see :func:`~advbench.api.param`, by its name."""
        return {
            parameter.name: getattr(self, parameter.name)
            for parameter in field_parameters(type(self))
            if parameter.kind
        }

    def code_modules(self) -> tuple[str, ...]:
        """Names of additional modules whose code affects the results and is therefore a part of the keys.

        The modules of the component's class need not be named. Override this method in a component that calls the
        user's code, such as a network defined in a file that a parameter names.

        Raises:
            UsageError: The file or module that a parameter names cannot be used.
        """
        return ()

    @classmethod
    def summary(cls) -> str:
        """The first line of the class's docstring."""
        doc = cls.__dict__.get("__doc__") or ""
        # dataclass gives a class without a docstring its signature as docstring.
        return "" if doc.startswith(f"{cls.__name__}(") else doc.strip().partition("\n")[0]


def _quotes(key: str, known: Mapping[str, Parameter], given: Mapping[str, str]) -> str:
    """How to quote a given parameter that takes components: without quotes, a comma ends its value."""
    for name in given:
        if name in known and known[name].kind:
            return f'; if a spec in {name} has it, quote the whole value: {name}="SPEC:{key}=… | SPEC"'
    return ""


def closest(name: str, names: Mapping[str, object] | list[str]) -> str:
    """A suggestion such as ``did you mean 'jpeg'?``, or an empty text if no name is similar."""
    near = nearest(name.lower(), names)
    return f"did you mean {near!r}?" if near else ""
