"""Sweeps: which rows of a leaderboard differ by their parameters alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from advbench.errors import SpecError
from advbench.specs import Term, parse_chain, quote

__all__ = ["as_number", "family", "parameters_of", "sweep_groups", "terms_of", "with_sweep_names"]


def terms_of(spec: str) -> list[Term]:
    """A spec's components; what is no spec is the name of one."""
    try:
        return parse_chain(spec)
    except SpecError:
        return [Term(spec)]


def family(spec: str) -> str:
    """What a spec names, without its parameters: ``jpeg+tvm``."""
    return "+".join(term.name for term in terms_of(spec))


def parameters_of(spec: str) -> dict[tuple[int, str], str]:
    """A full spec's parameters as text, by the place of the component in the chain, from 0, and by name."""
    return {(place, key): values[0] for place, term in enumerate(terms_of(spec)) for key, values in term.items}


def as_number(text: str) -> float | None:
    """The number that a parameter's text stands for, fractions included, or None."""
    numerator, _, denominator = text.partition("/")
    try:
        return float(numerator) / float(denominator or 1)
    except (ValueError, ZeroDivisionError):
        return None


def sweep_groups(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The rows of a leaderboard in groups: those that differ by their parameters alone are one.

    A group stands where its best row would, and its rows are in the order of their parameters.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(family(row["defense"]), []).append(row)
    return [sorted(group, key=_in_order) if len(group) > 1 else group for group in groups.values()]


def with_sweep_names(cells: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Cells whose defense's short name tells the parameters of a sweep, too, where these are the default.

    Of ``jpeg:quality={50,75}`` the second is ``jpeg`` in short, and ``jpeg:quality=75`` beside the first.
    """
    cells = list(cells)
    values: dict[str, dict[tuple[int, str], set[str]]] = {}
    for spec in {cell["defense"] for cell in cells}:
        for key, value in parameters_of(spec).items():
            values.setdefault(family(spec), {}).setdefault(key, set()).add(value)
    swept = {name: {key for key, texts in known.items() if len(texts) > 1} for name, known in values.items()}
    short = {cell["defense"]: cell["short"]["defense"] for cell in cells}
    longer = {full: _named(full, text, swept[family(full)]) for full, text in short.items() if swept.get(family(full))}
    names = {full: name for full, name in longer.items() if name != short[full]}  # copies of all would take much room
    return [
        {**cell, "short": {**cell["short"], "defense": names[cell["defense"]]}} if cell["defense"] in names else cell
        for cell in cells
    ]


def _named(full: str, short: str, swept: Collection[tuple[int, str]]) -> str:
    told = {*parameters_of(short), *swept}
    names = []
    for place, term in enumerate(terms_of(full)):
        items = [f"{key}={quote(values[0])}" for key, values in term.items if (place, key) in told]
        names.append(f"{term.name}:{','.join(items)}" if items else term.name)
    return "+".join(names)


def _in_order(row: Mapping[str, Any]) -> list[tuple[bool, float, str]]:
    """Numbers by their size, and before texts."""
    return [_sortable(value) for value in parameters_of(row["defense"]).values()]


def _sortable(text: str) -> tuple[bool, float, str]:
    value = as_number(text)
    return (True, 0.0, text) if value is None else (False, value, "")
