"""Parameters of components, declared as dataclass fields.

A field declared with :func:`param` carries its help text, bounds and choices. The syntax of specs, the
checks, ``advbench info`` and every key of the store are derived from it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from fractions import Fraction
from typing import Any, Literal, TypeAlias, TypeVar, cast, overload

from advbench.errors import ParameterError

__all__ = [
    "Parameter",
    "Stage",
    "Value",
    "artefact_file_param",
    "class_param",
    "field_parameters",
    "format_value",
    "param",
]

Value: TypeAlias = "int | float | bool | str | None"
"""Types of a parameter's value."""

Stage: TypeAlias = Literal["", "run", "certify"]
"""What a parameter is for: everything, the run but not the fit, or certificates alone."""

T = TypeVar("T")

_METADATA = "advbench"
_HUGE = 2**1023
_LONGEST_CLASS_NUMBER = 10
_TYPES: dict[str, type[int | float | str]] = {"int": int, "float": float, "bool": bool, "str": str}
_WORDS: dict[str, Value] = {"true": True, "false": False, "none": None}
_ARTICLES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}


@overload
def param(
    default: T,
    *,
    help: str,
    min: float | None = None,
    max: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[Value, ...] | None = None,
    stage: Stage = "",
    kind: str = "",
) -> T: ...
@overload
def param(
    *,
    help: str,
    min: float | None = None,
    max: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[Value, ...] | None = None,
    stage: Stage = "",
    kind: str = "",
) -> Any: ...
def param(
    default: Any = dataclasses.MISSING,
    *,
    help: str,
    min: float | None = None,
    max: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[Value, ...] | None = None,
    stage: Stage = "",
    kind: str = "",
) -> Any:
    """Declares a parameter of a component. Use it as the default of a dataclass field.

    Args:
        default: The default value. Without it, users must give a value. The field's annotation sets the type:
            ``int``, ``float``, ``bool`` or ``str``, each optionally ``| None``. Text must not contain control
            characters, since specs cannot contain them.
        help: One line that says what the parameter does, with its unit.
        min: Smallest value allowed (inclusive).
        max: Largest value allowed (inclusive).
        above: Exclusive lower bound.
        below: Exclusive upper bound.
        choices: The only values allowed.
        stage: What the parameter is for, if not for everything: ``run`` for a parameter that a fit does not depend on,
            so that components that differ in it alone share what they have fitted; ``certify`` for a parameter that
            only certificates depend on.
        kind: For a parameter that takes components, their kind: ``attacks``, ``defenses`` or ``models``. The
            annotation is then such as ``tuple[Attack, ...]``. In specs, the value is the specs of one or several
            components, separated by ``|``, such as ``of="pgd:eps=0.3 | square"``.

    Returns:
        A dataclass field, typed as the default so that ``quality: int = param(75, ...)`` type-checks.
    """
    described: dict[str, Any] = {"help": help, "min": min, "max": max, "above": above, "below": below}
    described |= {"choices": choices, "stage": stage, "kind": kind}
    return dataclasses.field(default=default, metadata={_METADATA: described})


def class_param(default: str, *, help: str, choices: tuple[Value, ...]) -> str:
    """Declares a text parameter whose value is one of the choices or a class number, from 0."""
    described = {"help": help, "choices": choices, "class_numbers": True}
    return dataclasses.field(default=default, metadata={_METADATA: described})


def artefact_file_param(*, help: str) -> str | None:
    """Declares an optional text parameter whose value is the path of an artefact."""
    return dataclasses.field(default=None, metadata={_METADATA: {"help": help, "artefact_file": True}})


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter of one component.

    Attributes:
        name: Name of the field, and the key in a spec.
        type: ``int``, ``float``, ``bool``, ``str`` or ``components``.
        optional: Whether ``none`` is allowed.
        default: Default value.
        help: One line that says what the parameter does.
        min: Smallest value allowed, or None.
        max: Largest value allowed, or None.
        above: Exclusive lower bound, or None.
        below: Exclusive upper bound, or None.
        choices: The only values allowed, or None.
        class_numbers: Whether class numbers are allowed besides the choices.
        stage: ``run``, ``certify`` or ""; see :func:`param`.
        artefact_file: Whether it is the path of an artefact; see :func:`~advbench.api.artefact_param`.
        kind: For a parameter that takes components, their kind, such as ``attacks``; otherwise empty.
        required: Whether users must give a value because there is no default.
    """

    name: str
    type: str
    default: Value
    optional: bool = False
    help: str = ""
    min: float | None = None
    max: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Value, ...] | None = None
    class_numbers: bool = False
    stage: Stage = ""
    artefact_file: bool = False
    kind: str = ""
    required: bool = False

    def parse(self, text: str) -> Value:
        """Converts text from a spec to a value of this parameter's type.

        Components in a parameter are built from their text before; see :func:`advbench.specs.resolve`.

        Numbers may be fractions (``8/255``) or use scientific notation. ``none`` stands for None.

        Raises:
            ParameterError: The text is not of the type, or the value is not allowed.
        """
        if self.kind:
            return self.check(text)
        lowered = text.lower()
        if self.optional and lowered == "none":
            return None
        if self.type == "str":
            return self.check(text)
        if self.type == "bool":
            if lowered not in ("true", "false"):
                raise self._error(text)
            return _WORDS[lowered]
        try:
            number = _parse_number(text)
        except (ValueError, ZeroDivisionError, OverflowError):
            raise self._error(text) from None
        return self.check(number)

    def check(self, value: object) -> Value:
        """Checks a value and returns it in its canonical type; for example, 1 becomes 1.0 for a float parameter.

        Raises:
            ParameterError: The value has the wrong type or is not allowed.
        """
        if value is None:
            if self.optional:
                return None
            raise self._error(value)
        if self.kind:
            return cast(Value, self._check_components(value))
        if self.class_numbers and (number := _class_number(value)):
            return number
        converted = self._convert(value)
        if self.choices is not None and converted not in self.choices:
            raise self._error(value)
        if isinstance(converted, (int, float)) and not self._in_bounds(converted):
            raise self._error(value)
        return converted

    def _check_components(self, value: object) -> Any:
        parts = tuple(value) if isinstance(value, (tuple, list)) else ()
        if not parts or not all(hasattr(part, "parameters") and not isinstance(part, type) for part in parts):
            raise self._error(value)
        return parts

    def _convert(self, value: object) -> int | float | bool | str:
        """Converts a value to this parameter's type: an integral float to int, and an int to float."""
        wanted = _TYPES[self.type]
        if isinstance(value, (bool, str)):
            if type(value) is wanted:
                return value
        elif isinstance(value, (int, float)) and abs(value) < _HUGE:  # False for NaN
            if wanted is float:
                return float(value) + 0.0  # -0.0 becomes 0.0
            if wanted is int and float(value).is_integer():
                return int(value)
        raise self._error(value)

    def _in_bounds(self, value: float) -> bool:
        return not (
            (self.min is not None and value < self.min)
            or (self.max is not None and value > self.max)
            or (self.above is not None and value <= self.above)
            or (self.below is not None and value >= self.below)
        )

    def allowed(self) -> str:
        """The allowed values, in words, such as ``a whole number from 1 to 100``."""
        if self.kind:
            text = f"one or several {self.kind}, separated by '|'"
        elif self.choices is not None:
            text = "one of " + ", ".join(format_value(choice) for choice in self.choices)
            text += " or a class number" if self.class_numbers else ""
        else:
            text = " ".join(part for part in (_ARTICLES[self.type], self.bounds()) if part)
        return f"{text}, or none" if self.optional else text

    def bounds(self) -> str:
        """The bounds, in words, such as ``from 1 to 100``; empty if there are none."""
        low, high = self.min, self.max
        if low is not None and high is not None:
            return f"from {low:g} to {high:g}"
        parts = [
            f"{word} {bound:g}"
            for word, bound in (
                ("of at least", low),
                ("above", self.above),
                ("of at most", high),
                ("below", self.below),
            )
            if bound is not None
        ]
        return " and ".join(parts)

    def _error(self, value: object) -> ParameterError:
        shown = str(value) if isinstance(value, (str, tuple, list)) else format_value(value)  # type: ignore[arg-type]
        return ParameterError(f"{self.name}={shown}: must be {self.allowed()}")


def _class_number(value: object) -> str:
    """A class number in its canonical form; "" if it is none."""
    text = str(value) if isinstance(value, str) or type(value) is int else ""
    return str(int(text)) if text.isascii() and text.isdecimal() and len(text) < _LONGEST_CLASS_NUMBER else ""


def _parse_number(text: str) -> int | float:
    """Reads ``3``, ``-0.5``, ``1e-3`` or ``8/255``."""
    if "_" in text or not text.isascii() or text != text.strip():  # float() also reads digits of other scripts
        raise ValueError(text)
    numerator, slash, denominator = text.partition("/")
    if slash:
        return float(numerator) / float(denominator)
    try:
        return int(text)
    except ValueError:
        return float(text)


def format_value(value: Value) -> str:
    """Formats a value so that parsing the text gives the same value back.

    A float that equals k/255 and has no short decimal form is written as that fraction, as is usual in papers.
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        plain = f"{value:g}"
        if float(plain) == value or not math.isfinite(value):
            return plain
        numerator = round(value * 255)
        if 0 < abs(numerator) < 10 * 255 and numerator / 255 == value:
            return f"{numerator}/255"
        fraction = Fraction(value).limit_denominator(100)
        if fraction.denominator > 1 and fraction.numerator / fraction.denominator == value:
            return f"{fraction.numerator}/{fraction.denominator}"
        return repr(value)
    return str(value)


@functools.cache
def field_parameters(cls: type) -> tuple[Parameter, ...]:
    """The parameters that the fields of a dataclass declare, in order.

    Raises:
        TypeError: The annotation of a field is not an allowed type of a parameter.
    """
    return tuple(_from_field(cls, field) for field in dataclasses.fields(cls) if field.init)


def _from_field(cls: type, field: dataclasses.Field[Any]) -> Parameter:
    kind, optional = _annotated_type(field.type)
    if field.metadata.get(_METADATA, {}).get("kind"):
        kind = "components"
    elif kind not in _TYPES:
        raise TypeError(
            f"{cls.__name__}.{field.name}: the type of a parameter must be int, float, bool or str, each optionally "
            f"'| None', not {field.type!r}"
        )
    required = field.default is dataclasses.MISSING
    described = dict(field.metadata.get(_METADATA, {}))
    default: Any = None if required else field.default
    return Parameter(name=field.name, type=kind, optional=optional, default=default, required=required, **described)


def _annotated_type(annotation: object) -> tuple[str, bool]:
    """The name of the type, and whether None is allowed, from an annotation or its text."""
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    text = text.replace("typing.", "").replace("Optional[", "None | ").replace("]", "")
    parts = [part.strip() for part in text.split("|")]
    kinds = [part for part in parts if part not in ("None", "NoneType")]
    return (kinds[0] if len(kinds) == 1 else text), len(kinds) < len(parts)
