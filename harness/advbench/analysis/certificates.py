"""Certificates of a defended model: certified accuracies, and attacks that contradict a certificate."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from advbench.analysis.intervals import binomial_tail, wilson
from advbench.analysis.sanity.finding import Finding
from advbench.analysis.surrogates import threat_name

__all__ = [
    "Breaks",
    "Certificates",
    "certified_accuracy",
    "count_breaks",
    "describe_certificates",
    "find_contradictions",
]

CRITERION = "attacked-within-certificate"

SIGNIFICANCE = 0.001
"""The probability that a vote contradicts its certificates by chance, over all samples of a cell."""

DEFAULT_RADII: Mapping[str, tuple[float, ...]] = {
    "l2": (0.25, 0.5, 0.75, 1.0),
    "linf": (1 / 255, 2 / 255, 4 / 255, 8 / 255),
}
"""The radii at which certified accuracies are shown if no attack has the norm and the user gives none."""

_CURVE_POINTS = 101


@dataclasses.dataclass(frozen=True)
class Breaks:
    """How a cell compares with the certificates of its defended model.

    Attributes:
        within: Number of samples with the right certified class whose image lies within the certified radius.
        broken: Number of these that are answered wrong; in votes, only if a share of at least 1/2 for the label is
            ruled out.
    """

    within: int
    broken: int


@dataclasses.dataclass(frozen=True)
class Certificates:
    """The stored certificates of a defended model.

    Attributes:
        described: Its entry in the manifest.
        labels: The labels of the samples, as far as they are stored.
        classes: Their certified classes; -1 where the certificate abstains.
        radii: Their certified radii.
        seconds: The time that they took.
        error: Why some of them failed; empty otherwise.
        breaks: The comparison with each of its cells, by the cell's key.
    """

    described: Mapping[str, Any]
    labels: np.ndarray[Any, Any]
    classes: np.ndarray[Any, Any]
    radii: np.ndarray[Any, Any]
    seconds: float = 0.0
    error: str = ""
    breaks: Mapping[str, Breaks] = dataclasses.field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all samples have certificates."""
        return not self.error and len(self.labels) == self.described["n"]

    @property
    def identity(self) -> tuple[str, str, str]:
        """Full specs of dataset, model and defense."""
        return self.described["dataset"], self.described["model"], self.described["defense"]

    def certified(self) -> np.ndarray[Any, Any]:
        """The radius within which each sample is certified to be right, ascending; only of samples with such a one."""
        return np.sort(self.radii[self.classes == self.labels])


def certified_accuracy(certificates: Certificates, radius: float) -> dict[str, Any]:
    """The share of all samples with the right certified class and at least this radius, with Wilson's interval."""
    right, n = certificates.certified(), len(certificates.labels)
    count = len(right) - int(np.searchsorted(right, radius, side="left"))
    return {"radius": radius, "accuracy": count / n, "ci95": list(wilson(count, n))}


def count_breaks(certificates: Certificates, record: Mapping[str, Any]) -> Breaks | None:
    """Compares a cell of the defended model with its certificates.

    Args:
        certificates: The certificates.
        record: The cell's record.

    Returns:
        The comparison; None if the distances of the cell's images in the certificates' norm are unknown.
    """
    distances = record.get(str(certificates.described["norm"]))
    if distances is None or record.get("status") != "ok":
        return None
    within = (certificates.classes == certificates.labels) & (np.asarray(distances) < certificates.radii)
    wrong = ~np.asarray(record["adversarial_correct"], dtype=bool)
    votes, count = record.get("votes"), int(np.count_nonzero(within))
    suspects = np.flatnonzero(within & wrong)
    if votes is None:
        return Breaks(count, len(suspects))
    for_label = np.asarray(record["label_votes"])
    limit = SIGNIFICANCE / len(within)
    broken = sum(binomial_tail(votes - int(for_label[place]), votes, 0.5) < limit for place in suspects.tolist())
    return Breaks(count, broken)


def describe_certificates(
    all_certificates: Sequence[Certificates], cells: Sequence[Mapping[str, Any]], radii: Sequence[float]
) -> list[dict[str, Any]]:
    """The entry ``certificates`` of results.json.

    Args:
        all_certificates: The certificates of the run.
        cells: The cells of the run's manifest, whose attacks set the radii: the eps of those in the same norm.
        radii: The radii that the user asks for, besides these.
    """
    return [_describe(one, cells, radii) for one in all_certificates]


def _describe(certificates: Certificates, cells: Sequence[Mapping[str, Any]], radii: Sequence[float]) -> dict[str, Any]:
    described = certificates.described
    norm = described["norm"]
    dataset, model, defense = certificates.identity
    entry = {
        "dataset": dataset,
        "model": model,
        "defense": defense,
        "short": described["short"],
        "norm": norm,
        "status": "ok" if certificates.complete else "error" if certificates.error else "skipped",
        "error": certificates.error or (None if certificates.complete else "not run"),
        "n": described["n"],
    }
    if not certificates.complete:
        return {**entry, **dict.fromkeys(("accuracy", "abstained", "median_radius", "curve", "seconds")), "at": []}
    attacked = {
        float(cell["budget"]["eps"])
        for cell in cells
        if cell["dataset"] == dataset and not cell["skipped"] and cell["budget"] and cell["budget"]["norm"] == norm
    }
    shown = sorted({*attacked, *radii}) or list(DEFAULT_RADII.get(norm, ()))
    right = certificates.certified()
    return {
        **entry,
        "accuracy": certified_accuracy(certificates, 0.0),
        "at": [certified_accuracy(certificates, radius) for radius in shown],
        "abstained": int(np.count_nonzero(certificates.classes < 0)),
        "median_radius": statistics.median(right.tolist()) if len(right) else None,
        "curve": _curve(norm, right, len(certificates.labels)),
        "seconds": certificates.seconds,
    }


def _curve(norm: str, right: np.ndarray[Any, Any], n: int) -> dict[str, Any]:
    """The share of all samples that are certified beyond a radius, a step function as the curves of minimal attacks."""
    steps = min(_CURVE_POINTS - 1, len(right))
    chosen = dict.fromkeys(float(right[(len(right) * step - 1) // steps]) for step in range(1, steps + 1))
    eps = [0.0, *(radius for radius in chosen if radius > 0)]
    counts = [len(right) - int(np.searchsorted(right, radius, side="right")) for radius in eps]
    return {"norm": norm, "eps": eps, "accuracy": [count / n for count in counts]}


def find_contradictions(all_certificates: Sequence[Certificates], cells: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """The cells with images that lie within the certified radius and are answered wrong."""
    findings = []
    for certificates in all_certificates:
        for index, cell in enumerate(cells):
            breaks = certificates.breaks.get(cell["key"])
            if breaks is None or not breaks.broken:
                continue
            short = cell["short"]
            votes = " by a majority that chance does not explain" if certificates.described["votes"] else ""
            findings.append(
                Finding(
                    CRITERION,
                    (index,),
                    f"{short['attack']} ({short['defense']}, {threat_name(cell)}) is answered wrong{votes} for "
                    f"{breaks.broken} of {breaks.within} samples that lie within their certified radius",
                    "the certificate does not hold for the defended model that is scored: check certify() and its norm",
                )
            )
    return findings
