"""Parameters are checked, parsed and written the same way everywhere."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass

import pytest

from advbench.api import Component, ParameterError, param
from advbench.api.parameters import Parameter, format_value


@dataclass(frozen=True)
class Sample(Component):
    """A component with one parameter of each type."""

    name = "sample"
    count: int = param(3, min=1, max=9, help="how many")
    rate: float = param(0.5, above=0, below=1, help="how much")
    wide: float | None = param(None, help="how wide")
    loud: bool = param(False, help="whether")
    kind: str = param("a", choices=("a", "b"), help="which")


def test_text_becomes_values_of_the_declared_types() -> None:
    given = {"count": "4", "rate": "8/255", "wide": "1e-3", "loud": "true", "kind": "b"}
    sample = Sample.from_text(given)
    assert sample.values() == {"count": 4, "rate": 8 / 255, "wide": 0.001, "loud": True, "kind": "b"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": "0"}, "count=0: must be a whole number from 1 to 9"),
        ({"count": "2.5"}, "count=2.5: must be a whole number from 1 to 9"),
        ({"count": "true"}, "count=true: must be a whole number"),
        ({"count": "none"}, "count=none: must be a whole number"),
        ({"rate": "1"}, "rate=1: must be a number above 0 and below 1"),
        ({"rate": "nan"}, "rate=nan: must be"),
        ({"rate": "inf"}, "rate=inf: must be"),
        ({"rate": "1/0"}, "rate=1/0: must be"),
        ({"rate": "a lot"}, "rate=a lot: must be a number"),
        ({"loud": "yes"}, "loud=yes: must be true or false"),
        ({"kind": "c"}, "kind=c: must be one of a, b"),
        ({"cuont": "3"}, "has no parameter 'cuont'; did you mean 'count'?"),
    ],
)
def test_errors_name_the_allowed_values(given: dict[str, str], message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Sample.from_text(given)
    assert message in str(caught.value)


def test_the_constructor_checks_bounds_too() -> None:
    with pytest.raises(ParameterError, match="count=10"):
        Sample(count=10)
    with pytest.raises(ParameterError, match="rate"):
        Sample(rate="0.5")  # type: ignore[arg-type]


def test_equal_numbers_make_equal_components_whatever_their_type() -> None:
    assert Sample(wide=1) == Sample(wide=1.0)
    assert repr(Sample(wide=1).wide) == "1.0"


def test_components_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Sample().count = 4  # type: ignore[misc]


@pytest.mark.parametrize("value", [8 / 255, 0.1, 1 / 3, 1e-30, 123456.789, -2 / 255, 0.0, 1.0, 0.30000000000000004])
def test_numbers_are_written_so_that_they_are_read_back_exactly(value: float) -> None:
    assert Parameter("x", "float", 0.0).parse(format_value(value)) == value


def test_multiples_of_1_255_are_written_as_fractions() -> None:
    assert format_value(8 / 255) == "8/255"
    assert format_value(0.3) == "0.3"


def test_a_field_of_another_type_is_an_error() -> None:
    @dataclass(frozen=True)
    class Listed(Component):
        name = "listed"
        sizes: tuple[int, ...] = (1, 2)

    with pytest.raises(TypeError, match="sizes"):
        Listed.parameters()
