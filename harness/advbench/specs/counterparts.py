"""Matching the components of two runs whose parameters differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from advbench.errors import SpecError
from advbench.specs.grammar import parse_chain

__all__ = ["changed_parameters", "counterparts"]

ABSENT = "—"

_Parameters = dict[tuple[int, str], str]


def counterparts(first: Sequence[str], second: Sequence[str]) -> dict[str, str]:
    """Matches the specs of one run with those of another, for comparing the runs.

    A spec that both runs have matches itself. For components without a common spec, two specs match if each differs
    from the other in fewer parameters than from any other spec.

    Args:
        first: Full specs of one kind in the first run.
        second: Full specs of this kind in the second run.

    Returns:
        The matching spec of the second run for each spec of the first that has one.
    """
    common = set(first) & set(second)
    names = {_names(spec) for spec in common}
    left, right = ([spec for spec in dict.fromkeys(specs) if _names(spec) not in names] for specs in (first, second))
    forward, backward = ({spec: _nearest(spec, b) for spec in a} for a, b in ((left, right), (right, left)))
    changed = {spec: other for spec, other in forward.items() if other is not None and backward[other] == spec}
    return {spec: spec for spec in dict.fromkeys(first) if spec in common} | changed


def changed_parameters(one: str, other: str) -> list[tuple[str, str, str]]:
    """The parameters in which two specs of the same components differ.

    Returns:
        For each parameter its name and both values, ``—`` standing for a missing one.
    """
    before, after = _parameters(one), _parameters(other)
    return [
        (key[1], before.get(key, ABSENT), after.get(key, ABSENT))
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    ]


def _nearest(spec: str, others: Iterable[str]) -> str | None:
    """The spec that differs in the fewest parameters; None if several do, or if there is none."""
    ranked = sorted((len(changed_parameters(spec, other)), other) for other in others if _names(other) == _names(spec))
    return ranked[0][1] if len(ranked) == 1 or (ranked and ranked[0][0] < ranked[1][0]) else None


def _names(spec: str) -> tuple[str, ...]:
    try:
        return tuple(term.name for term in parse_chain(spec))
    except SpecError:
        return (spec,)


def _parameters(spec: str) -> _Parameters:
    """Parameters by the index of the component in the chain and the name."""
    try:
        return {(index, key): values[0] for index, term in enumerate(parse_chain(spec)) for key, values in term.items}
    except SpecError:
        return {}
