"""Finds cells by their coordinates, as specs, names, components or the objects of the call."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from advbench.api import Component
from advbench.discovery.registry import Registry
from advbench.errors import UsageError, listed
from advbench.evaluation.plan.cells import Cell, display_name
from advbench.live.components import LiveObjects
from advbench.specs import full_spec, resolve_chain, resolve_one, short_spec

__all__ = ["COORDINATES", "Coordinates", "choices", "described"]

COORDINATES = ("dataset", "model", "attack", "threat", "defense", "surrogate")
"""What identifies a cell."""


class Coordinates:
    """The cells of a run by their coordinates.

    Args:
        cells: The cells.
        registry: Where their components come from.
        live: The objects that were evaluated.
    """

    def __init__(self, cells: Sequence[Cell], registry: Registry, live: LiveObjects) -> None:
        self._cells = cells
        self._registry = registry
        self._live = live

    def matching(self, caller: str, coordinates: Mapping[str, Any]) -> list[Cell]:
        """The cells that have all of some coordinates, at least one.

        Args:
            caller: The method that was called, for messages.
            coordinates: Some of :data:`COORDINATES`.

        Raises:
            UsageError: There is no such cell.
        """
        wanted = {name: self._spellings(name, given) for name, given in coordinates.items()}
        matches = [cell for cell in self._cells if all(any_of & _specs(cell, name) for name, any_of in wanted.items())]
        if not matches:
            known = choices(self._cells, coordinates)
            raise UsageError(f"{caller}: no cell has {described(coordinates)}; there are: {known}")
        return matches

    def full_spec(self, caller: str, axis: str, given: Any) -> str:
        """The full spec of a component of the run.

        Args:
            caller: The method that was called, for messages.
            axis: ``dataset``, ``model``, ``attack`` or ``defense``.
            given: The component: a spec, a name, a component or an object of the call.

        Raises:
            UsageError: The run has no such component.
        """
        wanted = self._spellings(axis, given)
        for cell in self._cells:
            if wanted & _specs(cell, axis):
                return cell.specs()[axis]
        shown = listed(dict.fromkeys(_shown(cell, axis) for cell in self._cells))
        raise UsageError(f"{caller}: no cell has {described({axis: given})}; there are: {shown}")

    def specs(self, caller: str, axis: str, given: Any) -> list[str]:
        """The texts that select components of the run by specs, some parameters or names.

        Args:
            caller: The method that was called, for messages.
            axis: ``attack`` or ``defense``.
            given: One component or several, as for :meth:`full_spec`; None for none.

        Raises:
            UsageError: An object is not in the run, or none is given.
        """
        if given is None:
            return []
        items = list(given) if isinstance(given, (list, tuple, set, frozenset)) else [given]
        if not items:
            raise UsageError(f"{caller}: {axis}s: is empty; give at least one, or leave it out")
        texts = ((_text(item), item) for item in items)
        return [self.full_spec(caller, axis, item) if text is None else text for text, item in texts]

    def _spellings(self, axis: str, given: Any) -> set[str]:
        """A coordinate as it is given, and as the full specs of the components that it names."""
        text = _text(given)
        kind = "models" if axis == "surrogate" else f"{axis}s"
        if text is None:
            return set(self._live.names_of(kind, given))
        if axis == "threat":
            return {text}
        try:
            if axis == "defense":
                return {text, *map(full_spec, resolve_chain(self._registry, text))}
            return {text, full_spec(resolve_one(self._registry, kind, text))}
        except UsageError:  # the caller lists the specs of the run
            return {text}


def choices(cells: Sequence[Cell], asked: Collection[str] = ()) -> str:
    """The coordinates in which cells differ, and those that were asked for, for messages."""
    shown = {axis: list(dict.fromkeys(name for cell in cells if (name := _shown(cell, axis)))) for axis in COORDINATES}
    several = (f"{axis} {listed(of_axis)}" for axis, of_axis in shown.items() if len(of_axis) > 1 or axis in asked)
    return "; ".join(several) or "one cell"


def described(coordinates: Mapping[str, Any]) -> str:
    """Coordinates as they are given, for messages; objects by their kind and class alone."""
    return ", ".join(f"{axis}={_named(given)}" for axis, given in coordinates.items())


def _named(given: Any) -> str:
    text = _text(given)
    if text is not None:
        return repr(text)
    return f"<function {given.__name__}>" if hasattr(given, "__code__") else f"<{type(given).__name__} object>"


def _text(given: Any) -> str | None:
    """A spec or name as text, also for a component or its class; None for any other object."""
    if isinstance(given, type) and issubclass(given, Component):
        return given.name
    return full_spec(given) if isinstance(given, Component) else given if isinstance(given, str) else None


def _specs(cell: Cell, axis: str) -> set[str]:
    """The specs and the name by which a coordinate of a cell may be given."""
    if axis == "surrogate":
        return set() if cell.surrogate is None else {full_spec(cell.surrogate), _shown(cell, axis)}
    full = {cell.specs()[axis], _shown(cell, axis)}
    return full if axis == "threat" else {*full, short_spec(getattr(cell, axis))}


def _shown(cell: Cell, axis: str) -> str:
    """What boards call a coordinate of a cell; empty for a surrogate that it does not have."""
    if axis == "surrogate":
        return "" if cell.surrogate is None else display_name(cell.surrogate, cell.aliases)
    return cell.threat.name if axis == "threat" else cell.short_names()[axis]
