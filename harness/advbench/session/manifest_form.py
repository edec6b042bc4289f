"""The form of a manifest that commands rely on, checked before one is shown.

The store verifies that a manifest is what was written. Another program, or another version of this one, may have
written something else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, get_args

from advbench.api import Norm

__all__ = ["wrong_field"]

_Check: TypeAlias = "Callable[[Any], bool]"

_COORDINATES = ("dataset", "model", "attack", "threat", "defense")


def _is(*types: type) -> _Check:
    return lambda value: type(value) in types


def _all(check: _Check) -> _Check:
    return lambda value: type(value) is list and all(map(check, value))


def _each(check: _Check) -> _Check:
    return lambda value: type(value) is dict and all(map(check, value.values()))


def _has(**checks: _Check) -> _Check:
    return lambda value: (
        type(value) is dict and all(key in value and check(value[key]) for key, check in checks.items())
    )


def _none_or(check: _Check) -> _Check:
    return lambda value: value is None or check(value)


_TEXT, _INTEGER, _BOOL = _is(str), _is(int), _is(bool)
_NUMBER = _is(int, float)
_TEXTS = _all(_TEXT)

_SHORT = _has(dataset=_TEXT, model=_TEXT, attack=_TEXT, defense=_TEXT)

_FIELDS: dict[str, _Check] = {
    "run": _TEXT,
    "name": _TEXT,
    "command": _TEXT,
    "created": _TEXT,
    "seed": _INTEGER,
    "device": _TEXT,
    "threads": _INTEGER,
    "versions": _each(_TEXT),
    "threats": _each(_has(meaning=_TEXT, caveat=_TEXT, how=_TEXT)),
    "samples": _each(_all(_INTEGER)),
    "cells": _all(_is(dict)),
}
_OPTIONAL_FIELDS: dict[str, _Check] = {
    "schema": _INTEGER,
    "updated": _TEXT,
    "eot": _none_or(_INTEGER),
    "score_draws": _none_or(_INTEGER),
    "max_queries": _none_or(_INTEGER),
    "surrogate": lambda value: value is None or _TEXT(value) or _TEXTS(value),
    "precision": _none_or(_TEXT),
    "fit_samples": _INTEGER,
    "fit_data": _none_or(_TEXT),
    "limit": _none_or(_INTEGER),
    "batch_size": _INTEGER,
    "platform": _TEXT,
    "plugins": _all(_is(dict)),
    "weights": _each(_none_or(_TEXT)),
    "subsets": _each(_each(_all(_INTEGER))),
    "class_names": _each(_TEXTS),
    "dataset_notes": _each(_TEXTS),
    "doubled": _each(_TEXT),
    "data_digests": _each(_TEXT),
    "board": _each(_none_or(_TEXT)),
    "repeats": _has(command=_TEXT, runs=_TEXTS),
    "entries": _each(_TEXTS),
    "certificates": _all(
        _has(
            **dict.fromkeys(("dataset", "model", "defense", "norm"), _TEXT),
            short=_has(dataset=_TEXT, model=_TEXT, defense=_TEXT),
            votes=_none_or(_INTEGER),
            keys=_TEXTS,
            n=_INTEGER,
        )
    ),
    "radii": _all(_NUMBER),
}
_CELL: dict[str, _Check] = {
    "key": _TEXT,
    **dict.fromkeys(_COORDINATES, _TEXT),
    "short": lambda value: _SHORT(value) and _TEXT(value.get("surrogate", "")),
    "attack_kind": lambda value: value in (None, "budget", "minimal", "set", "natural"),
    "budget": _none_or(_has(norm=_TEXT, eps=_NUMBER)),
    "stochastic": _BOOL,
    "skipped": _TEXT,
    "failed": _TEXT,
    "n": _INTEGER,
}
_OPTIONAL_IN_CELL: dict[str, _Check] = {
    "surrogate": _none_or(_TEXT),
    "norm": lambda value: value in (None, *get_args(Norm)),
    "perturbation": _none_or(_has(kind=_TEXT, label=_TEXT, size=_none_or(_TEXT))),
    "draws_a_gradient": _none_or(_INTEGER),
    "identity": _BOOL,
    "attacked_model_stochastic": _BOOL,
    "image_shape": _none_or(_all(_INTEGER)),
    "attack_access": _none_or(_TEXT),
    "attack_passes": _none_or(_INTEGER),
    "goal": _TEXT,
    "artefact": _TEXT,
    "defense_artefacts": _TEXTS,
    "stored_as": _each(_TEXT),
    "parameters": _each(_is(str, int, float, bool, type(None))),
    "components": _TEXTS,
    "component_access": _TEXTS,
}


def wrong_field(manifest: Mapping[str, Any]) -> str:
    """The name of the first field of a manifest that is missing or has the wrong type; empty if all are right."""
    for name, check in {**_FIELDS, **_OPTIONAL_FIELDS}.items():
        if (name in manifest or name in _FIELDS) and not (name in manifest and check(manifest[name])):
            return name
    cells = manifest["cells"]
    for name, check in {**_CELL, **_OPTIONAL_IN_CELL}.items():
        if not _holds(cells, name, check, required=name in _CELL):
            return f"{name} of a cell"
    if any(cell["threat"] not in manifest["threats"] for cell in cells):
        return "threats"
    if any(cell["dataset"] not in manifest["samples"] for cell in cells if not cell["skipped"]):
        return "samples"
    positions = {str(position) for position in range(len(cells))} if manifest.get("doubled") else set()
    return "" if positions.issuperset(manifest.get("doubled", ())) else "doubled"


def _holds(cells: Sequence[Mapping[str, Any]], name: str, check: _Check, *, required: bool) -> bool:
    """Whether a field of all cells is right. Cells share equal values as one object, which is checked once."""
    if required and not all(name in cell for cell in cells):
        return False
    return all(map(check, {id(value): value for cell in cells if name in cell for value in (cell[name],)}.values()))
