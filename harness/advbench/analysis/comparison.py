"""Comparing two defenses, models or attacks of a run, or two runs, sample by sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from advbench.analysis.paired import compare_records, holm
from advbench.analysis.samples import sample_ids
from advbench.analysis.set_kinds import CORRUPTION, set_kind
from advbench.analysis.surrogates import surrogate_of
from advbench.errors import UsageError
from advbench.specs import changed_parameters, counterparts

__all__ = ["compare_components", "compare_defenses", "compare_runs", "settings_that_differ"]

WORST = "worst case"

_SETTINGS = (
    "seed",
    "limit",
    "eot",
    "score_draws",
    "max_queries",
    "surrogate",
    "precision",
    "fit_samples",
    "fit_data",
    "device",
    "threads",
    "batch_size",
    "platform",
)

_COORDINATES = ("dataset", "model", "threat", "attack", "defense")
"""What identifies a cell, together with the surrogate if a run has several."""

_ADAPTABLE = ("model", "attack", "defense")
"""Components that can be compared if their parameters differ; with another dataset, the samples would differ."""

ABSENT = "—"

Records = Mapping[str, Mapping[str, Any]]
Described = Mapping[str, Any]


def compare_defenses(manifest: Described, records: Records, first: str, second: str) -> list[dict[str, Any]]:
    """Compares two defenses of a run, for each attack and in the worst case.

    Args:
        manifest: The manifest of the run.
        records: The records of its cells by key.
        first: Full spec of the first defense.
        second: Full spec of the second defense.

    Returns:
        One row for each dataset, model, threat and attack for which both have results, and one for each worst case over
        these; see :func:`compare_runs`.
    """
    return compare_components(manifest, records, "defense", first, second)


def compare_components(
    manifest: Described, records: Records, axis: str, first: str, second: str
) -> list[dict[str, Any]]:
    """Compares two defenses, models or attacks of a run, all else being equal.

    Args:
        manifest: The manifest of the run.
        records: The records of its cells by key.
        axis: ``defense``, ``model`` or ``attack``.
        first: Full spec of the first component.
        second: Full spec of the second component.

    Returns:
        One row for each combination of the other coordinates for which both have results, and one for each worst case
        over the attacks and threats; see :func:`compare_runs`. Rows have no entry for the axis.

    Raises:
        UsageError: The axis is none of these.
    """
    if axis not in _ADAPTABLE:
        raise UsageError(f"compare_components(): the axis is {axis!r}; it must be one of {', '.join(_ADAPTABLE)}")
    sides = _Side(manifest, records, axis, first), _Side(manifest, records, axis, second)
    return _rows(*sides, tuple(key for key in _coordinates(manifest) if key != axis))


def compare_runs(
    first: Described, first_records: Records, second: Described, second_records: Records
) -> list[dict[str, Any]]:
    """Compares the cells that two runs have in common, and their worst cases over these cells.

    A component whose parameters differ between the runs is compared with its counterpart
    (:func:`advbench.specs.counterparts`).

    Args:
        first: The manifest of the first run.
        first_records: The records of its cells by key.
        second: The manifest of the second run.
        second_records: The records of its cells by key.

    Returns:
        Rows with ``dataset``, ``model``, ``threat``, ``attack`` (or ``worst case``), ``defense``, ``short``, ``n``,
        ``first`` and ``second`` (robust accuracies), ``difference``, ``only_first``, ``only_second``, ``p`` (McNemar's
        exact test) and ``p_holm`` (corrected for the number of rows). If the second run has other parameters,
        ``counterparts`` has its specs. If a run has several surrogates, rows have ``surrogate``, which is empty but for
        the threat ``transfer``. Cells with different samples are skipped.
    """
    sides = _Side(first, first_records), _Side(second, second_records)
    return _rows(*sides, _coordinates(first, second))


def _coordinates(*runs: Described) -> tuple[str, ...]:
    """What identifies a cell in runs that are compared. Two runs with one surrogate each are compared as they are."""
    several = any("surrogate" in cell["short"] for run in runs for cell in run["cells"])
    return (*_COORDINATES, "surrogate") if several else _COORDINATES


def settings_that_differ(first: Described, second: Described) -> list[tuple[str, str, str]]:
    """Lists the differences between two runs: components and parameters, settings, versions, plugins' code, weights.

    Returns:
        Name, value in the first run and value in the second run of each difference.
    """
    differences = [item for axis in ("dataset", *_ADAPTABLE) for item in _differing_specs(axis, first, second)]
    differences += [
        (key, _setting(first.get(key)), _setting(second.get(key)))
        for key in _SETTINGS
        if first.get(key) != second.get(key)
    ]
    for part in ("versions", "weights", "data_digests"):
        before, after = first.get(part, {}), second.get(part, {})
        differences += [
            (f"{part}: {key}", str(before.get(key, ABSENT))[:16], str(after.get(key, ABSENT))[:16])
            for key in dict.fromkeys((*before, *after))
            if before.get(key) != after.get(key)
        ]
    codes = [{plugin["name"]: str(plugin["code"]) for plugin in run.get("plugins", ())} for run in (first, second)]
    changed = [name for name, code in codes[0].items() if codes[1].get(name, code) != code]
    return differences + [(f"plugin {name}", "its code", "other code") for name in changed]


def _setting(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _differing_specs(axis: str, first: Described, second: Described) -> Iterator[tuple[str, str, str]]:
    """Differing parameters of components that both runs have, and components that only one run has."""
    specs = [{cell[axis]: cell["short"][axis] for cell in run["cells"]} for run in (first, second)]
    known = (
        {spec: spec for spec in specs[0] if spec in specs[1]} if axis == "dataset" else counterparts(*map(list, specs))
    )
    changes = [
        (f"{axis} {specs[0][spec].partition(':')[0]}: {name}", before, after)
        for spec, other in known.items()
        for name, before, after in changed_parameters(spec, other)
    ]
    yield from dict.fromkeys(changes)
    yield from ((axis, short, ABSENT) for spec, short in specs[0].items() if spec not in known)
    yield from ((axis, ABSENT, short) for spec, short in specs[1].items() if spec not in known.values())


@dataclasses.dataclass(frozen=True)
class _Side:
    """The cells of a run, or those of one component: ``spec`` on the ``axis``."""

    manifest: Described
    records: Records
    axis: str = "defense"
    spec: str | None = None

    def finished(self) -> Iterator[tuple[Described, Mapping[str, Any]]]:
        """The manifest entry and the record of each finished cell; the entry has a surrogate, which may be empty."""
        for cell in self.manifest["cells"]:
            record = self.records.get(cell["key"])
            if record is not None and record["status"] == "ok" and self.spec in (None, cell[self.axis]):
                yield {**cell, "surrogate": surrogate_of(cell, self.manifest) or ""}, record

    def samples(self, cell: Described) -> Any:
        """The ids of a cell's samples."""
        return sample_ids(self.manifest, cell)


def _same_data(first: _Side, second: _Side, cell: Described) -> bool:
    """Whether the images of a cell's dataset are the same in both runs; manifests of earlier versions do not tell."""
    digests = [side.manifest.get("data_digests", {}).get(cell["dataset"]) for side in (first, second)]
    return None in digests or digests[0] == digests[1]


def _rows(first: _Side, second: _Side, coordinates: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each pair of cells with the same coordinates and samples, and one for each worst case over them."""
    others = {tuple(cell[key] for key in coordinates): (cell, record) for cell, record in second.finished()}
    adapted = {
        axis: counterparts([cell[axis] for cell, _ in first.finished()], [cell[axis] for cell, _ in second.finished()])
        for axis in _ADAPTABLE
    }
    surrogates = [cell for side in (first, second) for cell in side.manifest["cells"] if "surrogate" in cell["short"]]
    short = {cell["surrogate"]: cell["short"]["surrogate"] for cell in surrogates}
    rows: list[dict[str, Any]] = []
    groups: dict[tuple[Any, ...], list[tuple[dict[str, Any], Any, Any]]] = {}
    for cell, record in first.finished():
        wanted = {key: adapted[key].get(cell[key], "") if key in adapted else cell[key] for key in coordinates}
        found = others.get(tuple(wanted.values()))
        if found is None or first.samples(cell) != second.samples(found[0]) or not _same_data(first, second, cell):
            continue
        other = found[1]
        names = {key: cell[key] for key in coordinates}
        names["short"] = {key: cell["short"][key] for key in coordinates if key not in ("threat", "surrogate")}
        if "surrogate" in coordinates:
            names["short"]["surrogate"] = short.get(cell["surrogate"], "")
        changed = {axis: spec for axis, spec in wanted.items() if spec != cell[axis]}
        if changed:
            names["counterparts"] = changed
            names["short"] |= {axis: _arrow(cell, axis, spec) for axis, spec in changed.items()}
        rows.append({**names, **_numbers([record], [other])})
        group = (*(names.get(key, "") for key in ("dataset", "model", "defense")), cell["n"], set_kind(cell))
        groups.setdefault(group, []).append((names, record, other))
    threats = list(first.manifest["threats"])
    rows.sort(key=lambda row: (row["dataset"], row.get("model", ""), threats.index(row["threat"])))
    several = len({kind for *_, kind in groups}) > 1
    for (*_, kind), triples in groups.items():
        if len(triples) > 1 and kind != CORRUPTION:  # corruptions have no adversary who chooses the worst
            names = {**triples[0][0]}
            if changed := {axis: spec for axis, spec in names.pop("counterparts", {}).items() if axis != "attack"}:
                names["counterparts"] = changed
            title = f"{WORST} ({kind})" if several else WORST
            if "surrogate" in coordinates:
                names |= {"surrogate": "", "short": {**names["short"], "surrogate": ""}}
            if "attack" in coordinates:
                worst = {**names, "threat": "", "attack": title, "short": {**names["short"], "attack": title}}
            else:
                worst = {**names, "threat": title}
            numbers = _numbers([record for _, record, _ in triples], [other for _, _, other in triples])
            rows.append({**worst, **numbers})
    for row, corrected in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = corrected
    return rows


def _arrow(cell: Described, axis: str, other: str) -> str:
    """A component's short spec and the parameters that differ in its counterpart."""
    changes = ",".join(f"{name}={after}" for name, _, after in changed_parameters(cell[axis], other))
    return f"{cell['short'][axis]} → {changes}"


def _numbers(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    compared = compare_records(first, second)
    return {
        "n": compared.n,
        "first": compared.first,
        "second": compared.second,
        "difference": compared.second - compared.first,
        "only_first": compared.only_first,
        "only_second": compared.only_second,
        "p": compared.p,
    }
