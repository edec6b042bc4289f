"""Matching the specs of two runs."""

from __future__ import annotations

import pytest

from advbench.specs import changed_parameters, counterparts


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (["a:x=1"], ["a:x=1"], {"a:x=1": "a:x=1"}),
        (["a:x=1"], ["a:x=2"], {"a:x=1": "a:x=2"}),
        (["a:x=1"], ["b:x=1"], {}),
        (["a:x=1,y=1", "a:x=2,y=1"], ["a:x=2,y=9", "a:x=1,y=9"], {"a:x=1,y=1": "a:x=1,y=9", "a:x=2,y=1": "a:x=2,y=9"}),
        (["a:x=1"], ["a:x=2", "a:x=3"], {}),
        (["a:x=1", "a:x=2"], ["a:x=2", "a:x=3"], {"a:x=2": "a:x=2"}),
        (["a:x=1+b:y=1"], ["a:x=1+b:y=2", "a:x=1"], {"a:x=1+b:y=1": "a:x=1+b:y=2"}),
        (["a:x=1"], ["a:x=1,new=3"], {"a:x=1": "a:x=1,new=3"}),
        (["a live object (1)"], ["a live object (1)"], {"a live object (1)": "a live object (1)"}),
        (["a live object (1)"], ["a live object (2)"], {}),
    ],
    ids=["same", "changed", "another", "sweep", "either", "swept", "chain", "newer", "no spec", "no specs"],
)
def test_the_counterpart_is_the_unique_nearest_spec(
    first: list[str], second: list[str], expected: dict[str, str]
) -> None:
    assert counterparts(first, second) == expected
    assert counterparts(second, first) == {other: spec for spec, other in expected.items()}


def test_changed_parameters_have_both_values() -> None:
    assert changed_parameters("a:x=1,y=2+b:x=1", "a:x=1,y=3+b:x=2,z=4") == [
        ("y", "2", "3"),
        ("x", "1", "2"),
        ("z", "—", "4"),
    ]
