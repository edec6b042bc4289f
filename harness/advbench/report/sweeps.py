"""Sweeps: groups of components that differ only in their parameters."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from advbench.errors import SpecError
from advbench.specs import Term, parse_chain, quote

__all__ = ["as_number", "family", "parameters_of", "sweep_groups", "terms_of", "with_sweep_names"]


def terms_of(spec: str) -> list[Term]:
    """The components of a spec. Text that is not a spec is taken as the name of a component."""
    try:
        return parse_chain(spec)
    except SpecError:
        return [Term(spec)]


def family(spec: str) -> str:
    """The names in a spec without parameters, such as ``jpeg+tvm``."""
    return "+".join(term.name for term in terms_of(spec))


def parameters_of(spec: str) -> dict[tuple[int, str], str]:
    """The parameters of a full spec as text, by the index of the component in the chain, from 0, and the name."""
    return {(index, key): values[0] for index, term in enumerate(terms_of(spec)) for key, values in term.items}


def as_number(text: str) -> float | None:
    """Converts the text of a parameter to a number, including fractions; None if it is not a number."""
    numerator, _, denominator = text.partition("/")
    try:
        return float(numerator) / float(denominator or 1)
    except (ValueError, ZeroDivisionError):
        return None


def sweep_groups(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Groups the rows of a leaderboard whose defenses differ only in parameters.

    A group stands at the position of its best row; its rows are sorted by their parameters.
    """
    groups: dict[tuple[str | None, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row.get("model"), family(row["defense"])), []).append(row)
    return [sorted(group, key=_in_order) if len(group) > 1 else group for group in groups.values()]


def with_sweep_names(cells: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Cells whose short defense names include the parameters of a sweep, even if they have default values.

    Aliases stay as they are.

    The second defense of ``jpeg:quality={50,75}`` has the short spec ``jpeg``; in a sweep it is shown as
    ``jpeg:quality=75``.
    """
    cells = list(cells)
    values: dict[str, dict[tuple[int, str], set[str]]] = {}
    for spec in {cell["defense"] for cell in cells}:
        for key, value in parameters_of(spec).items():
            values.setdefault(family(spec), {}).setdefault(key, set()).add(value)
    swept = {name: {key for key, texts in known.items() if len(texts) > 1} for name, known in values.items()}
    short = {cell["defense"]: cell["short"]["defense"] for cell in cells}
    longer = {
        full: _named(full, text, swept[family(full)])
        for full, text in short.items()
        if swept.get(family(full)) and family(text) == family(full)  # other names were given by the user
    }
    names = {full: name for full, name in longer.items() if name != short[full]}  # copies of all cells take memory
    return [
        {**cell, "short": {**cell["short"], "defense": names[cell["defense"]]}} if cell["defense"] in names else cell
        for cell in cells
    ]


def _named(full: str, short: str, swept: Collection[tuple[int, str]]) -> str:
    given = parameters_of(short)  # where components in parameters have no parameters at their defaults either
    shown = {*given, *swept}
    names = []
    for index, term in enumerate(terms_of(full)):
        values = {key: given.get((index, key), texts[0]) for key, texts in term.items if (index, key) in shown}
        items = [f"{key}={quote(value)}" for key, value in values.items()]
        names.append(f"{term.name}:{','.join(items)}" if items else term.name)
    return "+".join(names)


def _in_order(row: Mapping[str, Any]) -> list[tuple[bool, float, str]]:
    """Sort key: numbers by value, before texts."""
    return [_sortable(value) for value in parameters_of(row["defense"]).values()]


def _sortable(text: str) -> tuple[bool, float, str]:
    value = as_number(text)
    return (True, 0.0, text) if value is None else (False, value, "")
