"""What every report of a reproduction shows, as text."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

from advbench.results import FAILED, NOT_RUN, attack_settings, failures, format_value, percent, provenance
from advbench_studies.paper2019.setting import ADAPTIVE, DATASETS
from advbench_studies.paper2019.verdict import FAILS, HOLDS, UNDECIDED
from advbench_studies.paper2019.verdict import NOT_RUN as NOT_JUDGED

__all__ = [
    "DISTANCES",
    "READING",
    "Entry",
    "Line",
    "accuracies",
    "defense_titles",
    "distances",
    "distortions",
    "facts",
    "missing_weights",
    "oblivious",
    "problems",
    "tally",
]

_NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"}

READING = (
    "Robust accuracy in % of all samples: correct both on the clean and on the attacked image. Files also have its "
    "Wilson 95 % interval. The attackers know the model; only adaptive attacks know the defense, too. The criterion "
    "next to a claim decides its verdict. A condition is undecided if there are fewer than 20 images, if it is met or "
    "missed by at most 5 images, or if fewer than 97.5 % of 1,000 resamples of the images give the same outcome. A "
    "claim without a measurement that it needs is 'not run', unless the other measurements refute it."
)

DISTANCES = "Median L2 distance of the adaptive images that fool the defended model"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry of the accuracy table.

    Attributes:
        text: The accuracy in per cent, or a mark.
        interval: Its 95 % interval, or nothing.
        best: Whether it is the highest of its row.
        failed: Whether the cell failed.
    """

    text: str
    interval: str = ""
    best: bool = False
    failed: bool = False


@dataclasses.dataclass(frozen=True)
class Line:
    """A row of the accuracy table.

    Attributes:
        attack: The attack with its budget and what differs from the paper.
        dataset: The dataset, with the number of images if it is not the paper's.
        short: Attack and dataset by name, with an asterisk after what differs from the paper.
        entries: One for each defense.
    """

    attack: str
    dataset: str
    short: tuple[str, str]
    entries: tuple[Entry, ...]


def defense_titles(protocol: Mapping[str, Any], form: str = "title") -> list[str]:
    """The headings of the columns; ``short`` ones may have two lines."""
    return [defense[form] for defense in protocol["defenses"]]


def accuracies(protocol: Mapping[str, Any]) -> list[Line]:
    """The paper's table under one protocol, MNIST above CIFAR-10."""
    return [_line(protocol, row) for row in protocol["rows"]]


def oblivious(reproduction: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The protocols in which all defenses face the same images."""
    return [protocol for protocol in reproduction["protocols"] if protocol["threat"] != ADAPTIVE]


def distances(protocol: Mapping[str, Any]) -> list[tuple[Line, list[str]]]:
    """A row for each attack and dataset, with the median L2 distance of the images that fool each defended model."""
    return [
        (
            Line(_attack(row), row["dataset_title"], _short(row), ()),
            [_distance(row["cells"][defense["key"]]["median_l2"], 2) for defense in protocol["defenses"]],
        )
        for row in protocol["rows"]
        if row["attack"] is not None and protocol["threat"] == ADAPTIVE
    ]


def distortions(reproduction: Mapping[str, Any]) -> list[tuple[Line, list[str]]]:
    """A row for each attack and dataset, with the median L2 and L∞ distances under each protocol without adaptivity."""
    rows: dict[tuple[str, str], tuple[Line, list[str]]] = {}
    protocols = oblivious(reproduction)
    width = 2 * len(protocols)
    for number, protocol in enumerate(protocols):
        for row in protocol["rows"]:
            if row["attack"] is None:
                continue
            line = Line(row["attack_title"], row["dataset_title"], _short(row), ())
            _, texts = rows.setdefault((row["attack"], row["dataset"]), (line, [NOT_RUN] * width))
            texts[2 * number : 2 * number + 2] = [_distance(row["median_l2"]), _distance(row["median_linf"])]
    return list(rows.values())


def tally(reproduction: Mapping[str, Any]) -> list[str]:
    """The number of claims that hold, one sentence for each protocol."""
    claims = reproduction["claims"]
    sentences = []
    if len(reproduction["datasets"]) < len(DATASETS):
        titles = [dataset.title for dataset in DATASETS if dataset.key in reproduction["datasets"]]
        sentences.append(f"Claims about each dataset are judged on {' and '.join(titles)} alone, as --datasets asks.")
    for protocol in reproduction["protocols"]:
        counts = Counter(claim[protocol["key"]]["verdict"] for claim in claims)
        listed = ", ".join(f"{counts[verdict]} × {verdict}" for verdict in (HOLDS, FAILS, UNDECIDED, NOT_JUDGED))
        sentences.append(f"{_capitalised(protocol['title'])}, verdicts on {len(claims)} claims: {listed}.")
    checks = [
        check for claim in claims for protocol in reproduction["protocols"] for check in _undecided(claim, protocol)
    ]
    few = list(dict.fromkeys(few for check in checks for few in check["too_few"]))
    return [*sentences, f"Too few to decide: {'; '.join(few)}."] if few else sentences


def _undecided(claim: Mapping[str, Any], protocol: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The conditions of a claim whose verdict under a protocol is undecided."""
    judged = claim[protocol["key"]]
    return list(judged["checks"]) if judged["verdict"] == UNDECIDED else []


def _capitalised(title: str) -> str:
    return title[:1].upper() + title[1:]


def problems(reproduction: Mapping[str, Any]) -> list[str]:
    """Failures, suites that were left out and warnings, one line for each, without duplicates."""
    lines = [f"{suite} was not run: {reason}" for suite, reason in reproduction["left_out"].items()]
    lines += [line for results in reproduction["suites"].values() for line in failures(results)]
    return list(dict.fromkeys(lines))


def missing_weights(reproduction: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Which claims lack weights, in a sentence, and the commands that train them; empty if none does."""
    missing = reproduction["missing_weights"]
    if not missing:
        return "", []
    claims = [str(claim) for claim in sorted({claim for one in missing for claim in one["claims"]})]
    named = f"Claims {', '.join(claims[:-1])} and {claims[-1]} need" if len(claims) > 1 else f"Claim {claims[0]} needs"
    folder = missing[0]["folder"]
    sentence = (
        f"{named} weights that do not come with advbench. These commands train them into the folder {folder}, which "
        f"has to exist; --weights {folder} then uses them:"
    )
    return sentence, [one["command"] for one in missing]


def facts(reproduction: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and text of each fact about the runs behind the numbers."""
    suites = reproduction["suites"]
    lines = [("command", reproduction["command"])]
    for name, results in suites.items():
        source = dict(provenance(results))
        lines.append((name, f"{source['run']}; {source['command']}"))
    for results in suites.values():
        lines.append(("versions", dict(provenance(results))["versions"]))
        lines += [("weights", f"{spec} {digest[:16]}") for spec, digest in results["run"].get("weights", {}).items()]
        lines += [("attack", spec) for spec in attack_settings(results)]
    order = {"command": 0, **dict.fromkeys(suites, 1), "attack": 2, "weights": 3, "versions": 4}
    return sorted(dict.fromkeys(lines), key=lambda fact: order[fact[0]])


def _line(protocol: Mapping[str, Any], row: Mapping[str, Any]) -> Line:
    cells = [row["cells"][defense["key"]] for defense in protocol["defenses"]]
    numbers = {cell["accuracy"] for cell in cells if cell["accuracy"] is not None}
    best = max(numbers) if len(numbers) > 1 else None
    return Line(_attack(row), row["dataset_title"], _short(row), tuple(_entry(cell, best) for cell in cells))


def _short(row: Mapping[str, Any]) -> tuple[str, str]:
    attack, dataset = (
        row[f"{what}_name"] + ("" if row[f"{what}_title"] == row[f"{what}_name"] else "*")
        for what in ("attack", "dataset")
    )
    return attack, dataset


def _attack(row: Mapping[str, Any]) -> str:
    """The attack with its budget, or marked as minimal."""
    title: str = row["attack_title"]
    if row["budget"] is not None:
        return f"{title}, {_NORMS[row['budget']['norm']]} ≤ {format_value(row['budget']['eps'])}"
    return f"{title}, minimal" if row["attack_kind"] == "minimal" else title


def _entry(cell: Mapping[str, Any], best: float | None) -> Entry:
    if cell["accuracy"] is None:
        return Entry(FAILED, failed=True) if cell["status"] == "error" else Entry(NOT_RUN)
    interval = "–".join(percent(end) for end in cell["ci95"]) if cell["ci95"] else ""
    return Entry(percent(cell["accuracy"]), interval, best is not None and cell["accuracy"] == best)


def _distance(value: float | None, digits: int = 3) -> str:
    return NOT_RUN if value is None else f"{value:.{digits}f}"
