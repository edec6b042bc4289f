"""A reproduction: plain data with everything that its report shows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from advbench_studies.paper2019.claims import CLAIMS, Claim
from advbench_studies.paper2019.evidence import Evidence, SuiteResults, View
from advbench_studies.paper2019.setting import (
    ADAPTIVE,
    ATTACKS,
    DATASETS,
    DEFENSES,
    PROTOCOLS,
    AttackSetting,
    DatasetSetting,
    DefenseSetting,
    Protocol,
)
from advbench_studies.paper2019.verdict import FAILS, HOLDS, NOT_RUN, UNDECIDED, Check, decide

__all__ = ["REPRODUCTION_SCHEMA", "build_reproduction"]

REPRODUCTION_SCHEMA = 2
"""Version of the form of a reproduction's JSON."""

_ALL_SHOWN = 4
"""The most checks of a dataset that are all shown; of more, only the closest is."""
_VERBS = {HOLDS: "holds", FAILS: "fails", UNDECIDED: "is undecided"}
_NAMED = 3
"""How many missing measurements are named."""


def build_reproduction(
    suites: Sequence[SuiteResults],
    command: str,
    left_out: Mapping[str, str] | None = None,
    datasets: Sequence[str] | None = None,
    missing_weights: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Computes tables and verdicts from what was run.

    Args:
        suites: The runs of the paper's suites.
        command: The command that made them.
        left_out: Suites that were not run, with the reason.
        datasets: The datasets that the user asked for; claims about each dataset are judged on these. None for all.
        missing_weights: Weights that some claims lack, each with ``file``, ``folder``, ``claims`` and ``command``.

    Returns:
        Plain data: ``schema``, ``command``, ``datasets`` (on which claims are judged), ``protocols`` (``key``,
        ``title``, ``short``, ``threat``, ``meaning``, ``reduced``, ``defenses``, ``rows`` for each dataset and attack
        with ``cells`` by defense, the distortion and what differs from the paper), ``claims`` (``number``, ``text``,
        ``criterion``, ``difference`` between the protocols, and by protocol ``verdict``, ``measured``, ``missing``,
        ``reason``, ``checks``), ``left_out``, ``missing_weights`` and ``suites`` (each as in results.json).
    """
    evidence = Evidence(suites)
    return {
        "schema": REPRODUCTION_SCHEMA,
        "command": command,
        "left_out": dict(left_out or {}),
        "missing_weights": list(missing_weights),
        "datasets": [dataset.key for dataset in DATASETS if not datasets or dataset.key in datasets],
        "protocols": [_protocol(evidence.view(protocol)) for protocol in PROTOCOLS],
        "claims": [_claim(claim, evidence, PROTOCOLS, datasets) for claim in CLAIMS],
        "suites": {suite.name: suite.results for suite in suites},
    }


def _protocol(view: View) -> dict[str, Any]:
    """The paper's table under one protocol."""
    present = [dataset for dataset in DATASETS if any(view.all(dataset, attack) for attack in ATTACKS)]
    return {
        "key": view.protocol.key,
        "title": view.protocol.title,
        "short": view.protocol.short or view.protocol.title,
        "threat": view.protocol.threat,
        "meaning": view.protocol.meaning,
        "reduced": view.reductions(),
        "defenses": [{"key": one.key, "title": one.title, "short": one.short} for one in DEFENSES],
        "rows": [
            *(_clean_row(view, dataset) for dataset in present),
            *(_row(view, dataset, attack) for attack in ATTACKS for dataset in present),
        ],
    }


def _row(view: View, dataset: DatasetSetting, attack: AttackSetting) -> dict[str, Any]:
    """The robust accuracies of all defenses against one attack on one dataset, and the attack's distortion."""
    cells = {defense.key: _cell_of(view, dataset, attack, defense) for defense in DEFENSES}
    attacked = ["none"] if view.protocol.threat == ADAPTIVE else list(cells)  # else all have the same images
    some = next((cell for key in attacked if (cell := cells[key]) is not None and cell["status"] == "ok"), None)
    known = next((cell for cell in cells.values() if cell is not None), None)
    return {
        "attack": attack.key,
        "attack_name": view.attack_name(attack),
        "attack_title": view.attack_title(dataset, attack),
        "attack_spec": None if known is None else known["attack"],
        "attack_kind": None if known is None else known["attack_kind"],
        "budget": None if known is None else known["budget"],
        "dataset": dataset.key,
        "dataset_name": dataset.title,
        "dataset_title": view.title(dataset),
        "n": None if known is None else known["n"],
        "cells": {key: _entry(cell, "robust_accuracy") for key, cell in cells.items()},
        "median_linf": None if some is None else some["median_linf"],
        "median_l2": None if some is None else some["median_l2"],
    }


def _clean_row(view: View, dataset: DatasetSetting) -> dict[str, Any]:
    """The accuracies of all defenses on clean images, which the cells of every attack have."""
    cells = {}
    for defense in DEFENSES:
        by_attack = [_cell_of(view, dataset, attack, defense) for attack in ATTACKS]
        present = [cell for cell in by_attack if cell is not None]
        best = next((cell for cell in present if cell["status"] == "ok"), next(iter(present), None))
        cells[defense.key] = _entry(best, "clean_accuracy")
    return {
        "attack": None,
        "attack_name": "no attack",
        "attack_title": "no attack",
        "attack_spec": None,
        "attack_kind": None,
        "budget": None,
        "dataset": dataset.key,
        "dataset_name": dataset.title,
        "dataset_title": view.title(dataset),
        "n": next((cell["n"] for attack in ATTACKS for cell in view.all(dataset, attack)), None),
        "cells": cells,
        "median_linf": None,
        "median_l2": None,
    }


def _cell_of(
    view: View, dataset: DatasetSetting, attack: AttackSetting, defense: DefenseSetting
) -> Mapping[str, Any] | None:
    return view.cell(dataset, attack, defense.component, defense.parameters(dataset))


def _entry(cell: Mapping[str, Any] | None, measure: str) -> dict[str, Any]:
    """One entry of the table: a number with its interval, or the reason why there is none."""
    if cell is None:
        return {"status": "skipped", "error": "not run", "accuracy": None, "ci95": None, "median_l2": None}
    attacked = measure == "robust_accuracy"
    return {
        "status": cell["status"],
        "error": cell["error"],
        "accuracy": cell[measure],
        "ci95": cell["robust_accuracy_ci95"] if attacked else None,
        "median_l2": cell["median_l2"] if attacked else None,
    }


def _claim(
    claim: Claim, evidence: Evidence, protocols: Iterable[Protocol], datasets: Sequence[str] | None
) -> dict[str, Any]:
    others = {dataset.title for dataset in DATASETS if datasets and dataset.key not in datasets}
    if claim.compares_datasets:
        others = set()
    checks = []
    for protocol in protocols:
        if claim.not_adaptive and protocol.threat == ADAPTIVE:
            continue
        all_checks = claim.judge(evidence.view(protocol))
        # A claim about another dataset alone keeps its checks, which say what is missing.
        checks.append((protocol, [one for one in all_checks if one.dataset not in others] or all_checks))
    judged = {protocol.key: _judged(of_protocol) for protocol, of_protocol in checks}
    difference = _difference(checks)
    for protocol in protocols:
        judged.setdefault(protocol.key, _judged([], claim.not_adaptive))
    return {
        "number": claim.number,
        "text": claim.text,
        "criterion": claim.criterion,
        "difference": difference,
        **judged,
    }


def _difference(checks: Sequence[tuple[Protocol, Sequence[Check]]]) -> str:
    """Why the verdicts differ between two protocols, by the check that differs most; empty if they do not."""
    order = (HOLDS, UNDECIDED, FAILS)
    judged = sorted(
        (order.index(verdict), index, protocol, of_protocol)
        for index, (protocol, of_protocol) in enumerate(checks)
        if (verdict := decide(of_protocol)) in order
    )
    if not judged or judged[0][0] == judged[-1][0]:
        return ""
    worst_rank = judged[-1][0]
    best, worst = judged[0], next(one for one in judged if one[0] == worst_rank)
    pairs = _pairs(worst[3], best[3])
    pairs = [pair for pair in pairs if pair[0].verdict != HOLDS and None not in (pair[0].margin, pair[1].margin)]
    if not pairs:
        return ""
    low, high = max(pairs, key=lambda pair: _margin(pair[1]) - _margin(pair[0]))
    return (
        f"It {_VERBS[order[best[0]]]} with {best[2].title} and {_VERBS[order[worst_rank]]} with {worst[2].title}: "
        f"{low.dataset}, {low.what} {high.measured} and {low.measured}."
    )


def _pairs(checks: Sequence[Check], others: Sequence[Check]) -> list[tuple[Check, Check]]:
    """The checks of two protocols on the same claim, each with its counterpart."""
    if len(checks) == len(others):  # titles of datasets and attacks may differ
        return list(zip(checks, others, strict=True))
    named = {(one.dataset, one.what): one for one in others}
    return [(one, named[one.dataset, one.what]) for one in checks if (one.dataset, one.what) in named]


def _judged(checks: Sequence[Check], reason: str = "") -> dict[str, Any]:
    """The verdict on a claim under one protocol; a reason says why the protocol has no checks."""
    verdict = decide(checks)
    missing = list(dict.fromkeys(lack for one in checks for lack in one.missing))
    return {
        "verdict": verdict,
        "measured": [
            _summary(dataset, [one for one in group if one.holds is not None])
            for dataset, group in _by_dataset(checks)
            if any(one.holds is not None for one in group)
        ],
        "missing": missing,
        "lacks": _lacks(missing) if verdict == NOT_RUN else "",
        "reason": reason or (_too_few(checks) if verdict == UNDECIDED else ""),
        "checks": [
            {
                "dataset": one.dataset,
                "what": one.what,
                "measured": one.measured or None,
                "holds": one.holds,
                "decided": one.decided,
                "too_few": list(one.too_few),
                "margin": one.margin,
                "missing": list(one.missing),
            }
            for one in checks
        ],
    }


def _too_few(checks: Sequence[Check]) -> str:
    """Why a verdict is undecided, if there were too few images, in a sentence; else nothing."""
    listed = list(dict.fromkeys(few for one in checks for few in one.too_few))
    return f"Too few to decide: {_lacks(listed)}." if listed else ""


def _by_dataset(checks: Sequence[Check]) -> list[tuple[str, list[Check]]]:
    ordered = sorted(checks, key=lambda one: [each.dataset for each in checks].index(one.dataset))
    return [(dataset, list(group)) for dataset, group in itertools.groupby(ordered, key=lambda one: one.dataset)]


def _summary(dataset: str, checks: Sequence[Check]) -> str:
    """The numbers of one dataset: all if they are few, else how many hold, with the closest or the worst."""
    if len(checks) <= _ALL_SHOWN:
        return f"{dataset}: {'; '.join(f'{one.what} {one.measured}' for one in checks)}"
    holding, undecided = (sum(one.verdict == verdict for one in checks) for verdict in (HOLDS, UNDECIDED))
    closest = min(checks, key=_margin)
    shown = f"{'closest' if holding == len(checks) else 'worst'} {_said(closest)}"
    return f"{dataset}: {holding} of {len(checks)} hold{f', {undecided} undecided' if undecided else ''}; {shown}"


def _margin(one: Check) -> float:
    return 0.0 if one.margin is None else one.margin


def _said(one: Check) -> str:
    return f"{one.what} {one.measured}"


def _lacks(missing: Sequence[str]) -> str:
    """What was not run; only the first few are named."""
    more = len(missing) - _NAMED
    return "; ".join(missing[:_NAMED]) + (f"; and {more} more" if more > 0 else "")
