"""Comparing the distances of minimal attacks on the same samples of the same defended model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from advbench.analysis.intervals import binomial_tail
from advbench.analysis.sanity.advice import stronger
from advbench.analysis.sanity.comparison import Comparison
from advbench.analysis.sanity.finding import Finding, FinishedCell, group_by, tolerance

__all__ = ["adaptive_needs_more"]

MARGIN = 0.05
"""Relative difference of distances that is ignored."""


def adaptive_needs_more(cells: Sequence[FinishedCell]) -> Iterator[Comparison]:
    """Compares minimal attacks that know the defense with the same attacks that do not.

    Only images that fool the defended model count, so a defense that undoes the images of an oblivious attack makes no
    difference; its distance is infinite there. An image that fools the defended model without knowing it shows that one
    so near exists, which an adaptive attack should find.
    """
    minimal = [cell for cell in cells if cell.summary.distances is not None]
    for group in group_by(minimal, lambda cell: (*cell.pair, cell["defense"], cell["attack"])):
        by_threat = {cell["threat"]: cell for cell in group}
        adaptive, oblivious = by_threat.get("adaptive"), by_threat.get("oblivious")
        if adaptive is not None and oblivious is not None and not adaptive["identity"]:
            yield _compare(adaptive, oblivious)


def _compare(adaptive: FinishedCell, oblivious: FinishedCell) -> Comparison:
    """A sign test over the samples, if the median distance of the adaptive attack is larger."""
    knowing, unknowing = (np.asarray(cell.summary.distances) for cell in (adaptive, oblivious))
    counted = (knowing >= 0) & (unknowing >= 0)
    knowing, unknowing = knowing[counted], unknowing[counted]
    larger = int(np.count_nonzero(knowing > (1 + MARGIN) * unknowing))
    smaller = int(np.count_nonzero(unknowing > (1 + MARGIN) * knowing))
    medians = [_lower_median(distances) for distances in (knowing, unknowing)]
    finding = partial(_finding, adaptive, medians, larger, len(knowing))
    if not medians[0] > (1 + MARGIN) * medians[1] or larger - smaller <= tolerance(adaptive.n) * adaptive.n:
        return Comparison(1.0, finding)
    return Comparison(binomial_tail(larger, larger + smaller, 0.5), finding)


def _lower_median(distances: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
    """The median; of an even number, the lower of the two in the middle, which may be infinite."""
    return float(np.sort(distances)[(len(distances) - 1) // 2]) if len(distances) else np.inf


def _finding(adaptive: FinishedCell, medians: Sequence[float], larger: int, samples: int) -> Finding:
    knowing = f"a median distance of {medians[0]:.3g}" if np.isfinite(medians[0]) else "no success on most samples"
    return Finding(
        "adaptive-weaker-than-oblivious",
        (adaptive.index,),
        f"{adaptive.attack} has {knowing} on {adaptive.defense} when it knows the defense, and a median of "
        f"{medians[1]:.3g} when it does not; it does worse on {larger} of {samples} samples",
        f"the gradient through the defense is misleading: give it a better approximation; {stronger(adaptive)}"
        if adaptive["attack_access"] == "gradients"
        else f"the attack is too weak for answers that are random or cost more: {stronger(adaptive)}",
    )
