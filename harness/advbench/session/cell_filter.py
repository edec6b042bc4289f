"""Selects cells of a stored run by their attacks and defenses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from advbench.api.component import closest
from advbench.errors import SpecError, UsageError
from advbench.option_names import option
from advbench.report import with_sweep_names
from advbench.specs import parse_chain

__all__ = ["is_part", "matching_cells", "only_cells"]


def matching_cells(manifest: Mapping[str, Any], attacks: Sequence[str], defenses: Sequence[str]) -> list[int]:
    """The cells of some attacks and some defenses.

    Args:
        manifest: The run's manifest.
        attacks: Full specs, names with some of the parameters (``pgd`` means every ``pgd`` of the run), or the names
            that boards show. Empty for all.
        defenses: The same for defenses.

    Returns:
        Their indices.

    Raises:
        UsageError: An attack or a defense is not in the run.
    """
    cells = with_sweep_names(manifest["cells"])
    wanted = {
        kind: {full for spec in specs for full in _matches(manifest["run"], cells, kind, spec)}
        for kind, specs in (("attack", attacks), ("defense", defenses))
        if specs
    }
    return [index for index, cell in enumerate(cells) if all(cell[kind] in specs for kind, specs in wanted.items())]


def only_cells(manifest: Mapping[str, Any], indices: Sequence[int]) -> dict[str, Any]:
    """A manifest that has only some of its cells; worst cases are then those over these cells."""
    position = {old: new for new, old in enumerate(indices)}
    doubled = {
        str(position[int(index)]): key for index, key in manifest.get("doubled", {}).items() if int(index) in position
    }
    return {**manifest, "cells": [manifest["cells"][index] for index in indices], "doubled": doubled}


def _matches(run: str, cells: Sequence[Mapping[str, Any]], kind: str, spec: str) -> list[str]:
    known: dict[str, str] = {cell[kind]: cell["short"][kind] for cell in cells}
    matches = [full for full in known if spec == full] or [full for full in known if is_part(spec, full)]
    matches = matches or [full for full, short in known.items() if spec == short]
    if not matches:
        shown = list(dict.fromkeys(known.values()))
        more = f" and {len(shown) - 10} more" if len(shown) > 10 else ""
        hint = closest(spec, shown) or f"there are: {', '.join(shown[:10])}{more}"
        raise UsageError(f"{option(f'{kind}s', spec)}: is not in run {run}; {hint}")
    return matches


def is_part(spec: str, full: str) -> bool:
    """Whether a spec has the components of a full spec, and parameters that occur there."""
    try:
        given, terms = parse_chain(spec), parse_chain(full)
    except SpecError:
        return False
    return [term.name for term in given] == [term.name for term in terms] and all(
        set(part.items) <= set(term.items) for part, term in zip(given, terms, strict=True)
    )
