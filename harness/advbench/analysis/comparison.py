"""What two defenses of a run, or two runs, have in common and where they differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from advbench.analysis.paired import compare_records, holm
from advbench.specs import changed_parameters, counterparts

__all__ = ["compare_defenses", "compare_runs", "settings_that_differ"]

WORST = "worst case"

_SETTINGS = (
    "seed",
    "limit",
    "eot",
    "score_draws",
    "surrogate",
    "precision",
    "device",
    "threads",
    "batch_size",
    "platform",
)

_ADAPTABLE = ("model", "attack", "defense")
"""Components that may have other parameters; other data are other samples."""

ABSENT = "—"

Records = Mapping[str, Mapping[str, Any]]
Described = Mapping[str, Any]


def compare_defenses(manifest: Described, records: Records, first: str, second: str) -> list[dict[str, Any]]:
    """Compares two defenses of a run, attack by attack and in the worst case.

    Args:
        manifest: The run's.
        records: Its cells by key.
        first: The one's full spec.
        second: The other's.

    Returns:
        A row for each dataset, model, threat and attack on which both have a result, and one for each worst case over
        those; see :func:`compare_runs`.
    """
    return _rows(
        _Side(manifest, records, first), _Side(manifest, records, second), ("dataset", "model", "threat", "attack")
    )


def compare_runs(
    first: Described, first_records: Records, second: Described, second_records: Records
) -> list[dict[str, Any]]:
    """Compares the cells that two runs have in common, and their worst cases over those.

    A component that the runs have with other parameters is held to its counterpart
    (:func:`advbench.specs.counterparts`).

    Returns:
        Rows with ``dataset``, ``model``, ``threat``, ``attack`` (or ``worst case``), ``defense``, ``short``, ``n``,
        ``first`` and ``second`` (robust accuracies), ``difference``, ``only_first``, ``only_second``, ``p`` (McNemar's
        exact test) and ``p_holm`` (corrected for the number of rows); where the second run has other parameters,
        ``counterparts`` has its specs. Cells on other samples are left out.
    """
    sides = _Side(first, first_records), _Side(second, second_records)
    return _rows(*sides, ("dataset", "model", "threat", "attack", "defense"))


def settings_that_differ(first: Described, second: Described) -> list[tuple[str, str, str]]:
    """What else differs between two runs: components and their parameters, settings, versions, plugins' code, weights.

    Returns:
        Name and both values of each.
    """
    found = [difference for axis in ("dataset", *_ADAPTABLE) for difference in _differing_specs(axis, first, second)]
    found += [
        (key, str(first.get(key)), str(second.get(key))) for key in _SETTINGS if first.get(key) != second.get(key)
    ]
    for part in ("versions", "weights"):
        one, other = first.get(part, {}), second.get(part, {})
        found += [
            (f"{part}: {key}", str(one.get(key, "—"))[:16], str(other.get(key, "—"))[:16])
            for key in dict.fromkeys((*one, *other))
            if one.get(key) != other.get(key)
        ]
    codes = [{plugin["name"]: str(plugin["code"]) for plugin in run.get("plugins", ())} for run in (first, second)]
    changed = [name for name, code in codes[0].items() if codes[1].get(name, code) != code]
    return found + [(f"plugin {name}", "its code", "other code") for name in changed]


def _differing_specs(axis: str, first: Described, second: Described) -> Iterator[tuple[str, str, str]]:
    """Parameters of components that both runs have, and components that only one has."""
    specs = [{cell[axis]: cell["short"][axis] for cell in run["cells"]} for run in (first, second)]
    known = (
        {spec: spec for spec in specs[0] if spec in specs[1]} if axis == "dataset" else counterparts(*map(list, specs))
    )
    changes = [
        (f"{axis} {specs[0][one].partition(':')[0]}: {name}", before, after)
        for one, other in known.items()
        for name, before, after in changed_parameters(one, other)
    ]
    yield from dict.fromkeys(changes)
    yield from ((axis, short, ABSENT) for spec, short in specs[0].items() if spec not in known)
    yield from ((axis, ABSENT, short) for spec, short in specs[1].items() if spec not in known.values())


@dataclasses.dataclass(frozen=True)
class _Side:
    """The cells of a run, or of one of its defenses."""

    manifest: Described
    records: Records
    defense: str | None = None

    def finished(self) -> Iterator[tuple[Described, Mapping[str, Any]]]:
        """What the manifest says of each finished cell, and its record."""
        for cell in self.manifest["cells"]:
            record = self.records.get(cell["key"])
            if record is not None and record["status"] == "ok" and self.defense in (None, cell["defense"]):
                yield cell, record

    def samples(self, dataset: str) -> Any:
        """The sample ids."""
        return self.manifest["samples"].get(dataset)


def _rows(first: _Side, second: _Side, coordinates: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each pair of cells with the same coordinates on the same samples, and for each worst case over them."""
    others = {tuple(cell[key] for key in coordinates): record for cell, record in second.finished()}
    adapted = {
        axis: counterparts([cell[axis] for cell, _ in first.finished()], [cell[axis] for cell, _ in second.finished()])
        for axis in _ADAPTABLE
    }
    rows: list[dict[str, Any]] = []
    groups: dict[tuple[str, ...], list[tuple[dict[str, Any], Any, Any]]] = {}
    for cell, record in first.finished():
        there = {key: adapted[key].get(cell[key], "") if key in adapted else cell[key] for key in coordinates}
        other = others.get(tuple(there.values()))
        if other is None or first.samples(cell["dataset"]) != second.samples(cell["dataset"]):
            continue
        place = {key: cell[key] for key in ("dataset", "model", "threat", "attack")}
        place["short"] = {key: cell["short"][key] for key in ("dataset", "model", "attack")}
        if "defense" in coordinates:
            place["defense"], place["short"]["defense"] = cell["defense"], cell["short"]["defense"]
        changed = {axis: spec for axis, spec in there.items() if spec != cell[axis]}
        if changed:
            place["counterparts"] = changed
            place["short"] |= {axis: _arrow(cell, axis, spec) for axis, spec in changed.items()}
        rows.append({**place, **_numbers([record], [other])})
        groups.setdefault((cell["dataset"], cell["model"], place.get("defense", "")), []).append((place, record, other))
    threats = list(first.manifest["threats"])
    rows.sort(key=lambda row: (row["dataset"], row["model"], threats.index(row["threat"])))
    for triples in groups.values():
        if len(triples) > 1:
            place = {**triples[0][0]}
            if changed := {axis: spec for axis, spec in place.pop("counterparts", {}).items() if axis != "attack"}:
                place["counterparts"] = changed
            worst = {**place, "threat": "", "attack": WORST, "short": {**place["short"], "attack": WORST}}
            numbers = _numbers([record for _, record, _ in triples], [other for _, _, other in triples])
            rows.append({**worst, **numbers})
    for row, corrected in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = corrected
    return rows


def _arrow(cell: Described, axis: str, other: str) -> str:
    """A component's short spec, and what its counterpart has otherwise."""
    changes = ",".join(f"{name}={after}" for name, _, after in changed_parameters(cell[axis], other))
    return f"{cell['short'][axis]} → {changes}"


def _numbers(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = compare_records(first, second)
    return {
        "n": found.n,
        "first": found.first,
        "second": found.second,
        "difference": found.second - found.first,
        "only_first": found.only_first,
        "only_second": found.only_second,
        "p": found.p,
    }
