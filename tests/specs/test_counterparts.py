"""Which specs of two runs stand for the same thing."""

from __future__ import annotations

import pytest

from advbench.specs import changed_parameters, counterparts


@pytest.mark.parametrize(
    ("first", "second", "found"),
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
def test_a_counterpart_is_the_nearest_and_no_guess(first: list[str], second: list[str], found: dict[str, str]) -> None:
    assert counterparts(first, second) == found
    assert counterparts(second, first) == {other: one for one, other in found.items()}


def test_what_changed_is_told_with_both_values() -> None:
    assert changed_parameters("a:x=1,y=2+b:x=1", "a:x=1,y=3+b:x=2,z=4") == [
        ("y", "2", "3"),
        ("x", "1", "2"),
        ("z", "—", "4"),
    ]
