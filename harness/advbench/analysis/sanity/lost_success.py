"""Checks for success that an attack missed or lost: discarded images, rounding to 8 bits, too few steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from advbench.analysis.intervals import binomial_tail
from advbench.analysis.sanity.advice import more_draws
from advbench.analysis.sanity.comparison import Comparison, compare_outcomes, significant
from advbench.analysis.sanity.finding import Finding, FinishedCell, one_per_image_set, tolerance

__all__ = ["lost_adversarials", "lost_to_rounding", "not_converged"]

ROUNDING = 0.01
"""Share of all samples for which rounding to 8 bits may undo the success of an attack."""


def lost_adversarials(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """Images within the budget that fooled the classifier, but that the attack did not return."""
    for cell in one_per_image_set(cells):
        lost = cell.summary.lost_adversarials
        if lost is None or cell.attack_draws:
            continue
        if lost > tolerance(cell.n) * cell.n:
            yield Finding(
                "success-thrown-away",
                (cell.index,),
                f"{cell.attack} evaluated an image that fools the classifier for {lost} of {cell.n} samples and "
                f"returned one that does not ({cell.attacked_classifier})",
                "let the attack return the best image that it evaluated, or stop at the first success",
            )


def lost_to_rounding(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """Success of bounded attacks that disappears when the images are rounded to 8 bits, as in image files."""
    comparisons = []
    for cell in one_per_image_set(cells):
        lost, gained = cell.summary.lost_by_rounding, cell.summary.gained_by_rounding
        if cell.perturbation_set is None or lost is None or gained is None:
            continue
        # Rounding may change the prediction of a discontinuous classifier in both directions.
        excess = lost - gained > max(ROUNDING * cell.n, 1)
        chance = binomial_tail(lost, lost + gained, 0.5) if excess else 1.0
        comparisons.append(Comparison(chance, partial(_lost_to_rounding, cell, lost, gained)))
    return significant(comparisons)


def _lost_to_rounding(cell: FinishedCell, lost: int, gained: int) -> Finding:
    margin = " (confidence)" if "confidence" in cell["parameters"] else ""
    return Finding(
        "lost-to-rounding",
        (cell.index,),
        f"rounded to 8 bits, {lost} of {cell.n} images of {cell.attack} no longer fool the classifier, and "
        f"{gained} others do ({cell.attacked_classifier})",
        f"the attack stops at the decision boundary: let it continue, or attack with a margin{margin}",
    )


def not_converged(cells: Sequence[FinishedCell], doubled: Mapping[int, FinishedCell]) -> Iterator[Finding]:
    """Attacks that do better with twice the steps."""
    comparisons = []
    for cell in one_per_image_set(cells):
        twice = doubled.get(cell.index)
        if twice is not None:
            finding = partial(_not_converged, cell, twice)
            comparisons.append(compare_outcomes(cell.attacked_outcome, twice.attacked_outcome, cell.n, finding))
    return significant(comparisons)


def _not_converged(cell: FinishedCell, twice: FinishedCell) -> Finding:
    draws = more_draws(cell)
    return Finding(
        "not-converged",
        (cell.index,),
        f"{cell.attack} leaves {cell.attacked_outcome.accuracy:.1%}, and with twice the steps, which has no column on "
        f"the board, {twice.attacked_outcome.accuracy:.1%} ({cell.attacked_classifier})",
        "give it more steps, until more do not change the result" + (f", or {draws}" if draws else ""),
    )
