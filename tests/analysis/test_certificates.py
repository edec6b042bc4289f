"""Certified accuracies and contradictions, from records whose outcomes are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from advbench.analysis.certificates import (
    Breaks,
    Certificates,
    certified_accuracy,
    count_breaks,
    describe_certificates,
)
from advbench.analysis.intervals import binomial_tail, wilson

LABELS = [0, 1, 2, 0, 1]
CLASSES = [0, 1, 2, -1, 0]
RADII = [0.5, 0.25, 1.0, 0.0, 2.0]


def certificates(votes: int | None = None, **rest: Any) -> Certificates:
    described = {
        "dataset": "d", "model": "m", "defense": "f", "norm": "l2", "votes": votes, "n": 5,
        "short": {"dataset": "d", "model": "m", "defense": "f"}, "keys": [],
    }  # fmt: skip
    return Certificates(described, np.array(LABELS), np.array(CLASSES), np.array(RADII), **rest)


def record(distances: list[float], correct: list[int], **rest: Any) -> dict[str, Any]:
    return {"status": "ok", "l2": distances, "adversarial_correct": correct, **rest}


@pytest.mark.parametrize(("radius", "count"), [(0, 3), (0.25, 3), (0.26, 2), (0.5, 2), (1.0, 1), (1.01, 0)])
def test_certified_accuracy_counts_all_samples_and_those_with_exactly_the_radius(radius: float, count: int) -> None:
    assert certified_accuracy(certificates(), radius) == {
        "radius": radius, "accuracy": count / 5, "ci95": list(wilson(count, 5)),
    }  # fmt: skip


def test_only_right_certificates_whose_radius_exceeds_the_distance_are_contradicted() -> None:
    cell = record([0.4, 0.3, 1.0, 0.0, 0.1], [0, 0, 0, 0, 0])
    # The second image is beyond its radius, the third exactly on it, the others have no right certificate.
    assert count_breaks(certificates(), cell) == Breaks(within=1, broken=1)
    assert count_breaks(certificates(), {**cell, "adversarial_correct": [1] * 5}) == Breaks(within=1, broken=0)
    assert count_breaks(certificates(), {"status": "error"}) is None


def test_a_vote_is_contradicted_only_where_chance_does_not_explain_it() -> None:
    votes = 100
    lost = next(k for k in range(votes, 0, -1) if binomial_tail(votes - k, votes, 0.5) < 0.001 / 5)
    assert lost < 40
    for for_label, broken in ((49, 0), (lost + 1, 0), (lost, 1), (0, 1)):
        cell = record([0.4, 9, 9, 9, 9], [0] * 5, votes=votes, label_votes=[for_label, 0, 0, 0, 0])
        assert count_breaks(certificates(votes), cell) == Breaks(within=1, broken=broken)


def test_the_radii_shown_are_those_of_attacks_in_the_norm_and_of_the_user() -> None:
    def shown(*budgets: tuple[str, float], radii: tuple[float, ...] = ()) -> list[float]:
        cells = [{"dataset": "d", "skipped": "", "budget": {"norm": norm, "eps": eps}} for norm, eps in budgets]
        cells.append({"dataset": "other", "skipped": "", "budget": {"norm": "l2", "eps": 77.0}})
        (entry,) = describe_certificates([certificates()], cells, radii)
        return [at["radius"] for at in entry["at"]]

    assert shown(("l2", 0.5), ("linf", 0.1), ("l2", 0.25), ("l2", 0.5)) == [0.25, 0.5]
    assert shown(("l2", 0.5), radii=(2.0,)) == [0.5, 2.0]
    assert shown(("linf", 0.1), radii=(0.3,)) == [0.3]
    assert shown(("linf", 0.1)) == [0.25, 0.5, 0.75, 1.0]


def test_the_curve_falls_at_each_certified_radius() -> None:
    (entry,) = describe_certificates([certificates()], [], ())
    assert entry["curve"] == {"norm": "l2", "eps": [0.0, 0.25, 0.5, 1.0], "accuracy": [0.6, 0.4, 0.2, 0.0]}
    assert (entry["abstained"], entry["median_radius"], entry["status"]) == (1, 0.5, "ok")


def test_certificates_that_are_not_complete_show_no_number() -> None:
    (entry,) = describe_certificates([certificates(error="RuntimeError: no")], [], (0.5,))
    assert (entry["status"], entry["error"], entry["at"], entry["curve"]) == ("error", "RuntimeError: no", [], None)
