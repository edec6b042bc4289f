"""What two defenses of a run, or two runs, have in common and where they differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from advbench.analysis.paired import compare_records, holm

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

    Returns:
        Rows with ``dataset``, ``model``, ``threat``, ``attack`` (or ``worst case``), ``defense``, ``short``, ``n``,
        ``first`` and ``second`` (robust accuracies), ``difference``, ``only_first``, ``only_second``, ``p`` (McNemar's
        exact test) and ``p_holm`` (corrected for the number of rows). Cells on other samples are left out.
    """
    sides = _Side(first, first_records), _Side(second, second_records)
    return _rows(*sides, ("dataset", "model", "threat", "attack", "defense"))


def settings_that_differ(first: Described, second: Described) -> list[tuple[str, str, str]]:
    """What else differs between two runs: settings, versions, plugins' code, weights; name and both values."""
    found = [(key, str(first.get(key)), str(second.get(key))) for key in _SETTINGS if first.get(key) != second.get(key)]
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
    rows: list[dict[str, Any]] = []
    groups: dict[tuple[str, ...], list[tuple[dict[str, Any], Any, Any]]] = {}
    for cell, record in first.finished():
        other = others.get(tuple(cell[key] for key in coordinates))
        if other is None or first.samples(cell["dataset"]) != second.samples(cell["dataset"]):
            continue
        place = {key: cell[key] for key in ("dataset", "model", "threat", "attack")}
        place["short"] = {key: cell["short"][key] for key in ("dataset", "model", "attack")}
        if "defense" in coordinates:
            place["defense"], place["short"]["defense"] = cell["defense"], cell["short"]["defense"]
        rows.append({**place, **_numbers([record], [other])})
        groups.setdefault((cell["dataset"], cell["model"], place.get("defense", "")), []).append((place, record, other))
    threats = list(first.manifest["threats"])
    rows.sort(key=lambda row: (row["dataset"], row["model"], threats.index(row["threat"])))
    for triples in groups.values():
        if len(triples) > 1:
            place = triples[0][0]
            worst = {**place, "threat": "", "attack": WORST, "short": {**place["short"], "attack": WORST}}
            numbers = _numbers([record for _, record, _ in triples], [other for _, _, other in triples])
            rows.append({**worst, **numbers})
    for row, corrected in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = corrected
    return rows


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
