"""Specs of two runs that stand for the same thing, with other parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from advbench.errors import SpecError
from advbench.specs.grammar import parse_chain

__all__ = ["changed_parameters", "counterparts"]

ABSENT = "—"

_Parameters = dict[tuple[int, str], str]


def counterparts(first: Sequence[str], second: Sequence[str]) -> dict[str, str]:
    """Which of one run's full specs each of another's is to be held to.

    Args:
        first: The one's, of one kind.
        second: The other's.

    Returns:
        For each of the first that has one, its counterpart: itself or, of components that have no spec in common, the
        one of the second that differs from it in fewest parameters, where both have no other as near.
    """
    common = set(first) & set(second)
    names = {_names(spec) for spec in common}
    left, right = ([spec for spec in dict.fromkeys(specs) if _names(spec) not in names] for specs in (first, second))
    ahead, back = {one: _nearest(one, right) for one in left}, {one: _nearest(one, left) for one in right}
    changed = {one: other for one, other in ahead.items() if other is not None and back[other] == one}
    return {spec: spec for spec in dict.fromkeys(first) if spec in common} | changed


def changed_parameters(one: str, other: str) -> list[tuple[str, str, str]]:
    """The parameters in which two specs of the same components differ: name and both values."""
    before, after = _parameters(one), _parameters(other)
    return [
        (key[1], before.get(key, ABSENT), after.get(key, ABSENT))
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    ]


def _nearest(spec: str, others: Iterable[str]) -> str | None:
    """The one that differs in fewest parameters, unless several do."""
    ranked = sorted((len(changed_parameters(spec, one)), one) for one in others if _names(one) == _names(spec))
    return ranked[0][1] if len(ranked) == 1 or (ranked and ranked[0][0] < ranked[1][0]) else None


def _names(spec: str) -> tuple[str, ...]:
    try:
        return tuple(term.name for term in parse_chain(spec))
    except SpecError:
        return (spec,)


def _parameters(spec: str) -> _Parameters:
    """Parameters by the place of the component in the chain, and by name."""
    try:
        return {(at, key): values[0] for at, term in enumerate(parse_chain(spec)) for key, values in term.items}
    except SpecError:
        return {}
