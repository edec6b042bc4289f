"""Checks of one cell by itself: gradients, randomness, batches, rounding, success that was thrown away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from advbench.analysis.intervals import at_least
from advbench.analysis.sanity.advice import more_draws
from advbench.analysis.sanity.comparison import Comparison, compared, significant
from advbench.analysis.sanity.finding import Finding, Seen, crafted, grouped, places, tolerance

__all__ = [
    "batch_dependent",
    "fixed_randomness",
    "lost_on_the_way",
    "lost_to_rounding",
    "no_gradient",
    "not_converged",
    "undeclared_randomness",
    "unrepeatable",
    "without_eot",
    "zero_gradients",
]

DISTANCE = 1e-4
"""Normalised distance of logits beyond which two predictions are not the same (AutoAttack's own check)."""

ROUNDING = 0.01
"""Share of all samples whose success rounding to 8 bits may undo."""


def zero_gradients(cells: Sequence[Seen]) -> Iterator[Finding]:
    """Samples whose gradient is zero at the clean image, of a loss that does not saturate.

    It is a matter of the classifier, whatever any attack on it achieves.
    """
    for group in _by_classifier(cells):
        cell = max(group, key=lambda one: one.summary.vanished)  # of a stochastic defense each attack sees other draws
        count = cell.summary.vanished
        if count and not cell.summary.gradient_error:
            yield Finding(
                "zero-gradients",
                places(group),
                f"the gradient is zero for {count} of {cell.summary.right} samples ({cell.victim})",
                "attacks that follow gradients cannot move there: take logits and not rounded or saturated "
                "outputs, or give the defense an approximation",
            )


def no_gradient(cells: Sequence[Seen]) -> Iterator[Finding]:
    """A classifier that raises when it is asked for a gradient."""
    for group in _by_classifier(cells):
        raising = next((cell for cell in group if cell.summary.gradient_error), None)
        if raising is not None:
            yield Finding(
                "no-gradient",
                places(group),
                f"asking for a gradient raises ({raising.victim}): {raising.summary.gradient_error}",
                "attacks that follow gradients are worth nothing here: compute the logits with torch throughout",
            )


def lost_on_the_way(cells: Sequence[Seen]) -> Iterator[Finding]:
    """Points within the budget that fooled the classifier, and are not what the attack returned."""
    for cell in crafted(cells):
        lost = cell.summary.lost_adversarials
        if lost is None or (cell["stochastic"] and cell["threat"] == "adaptive"):
            continue  # of a stochastic defense a lucky draw is no success
        if lost > tolerance(cell.n) * cell.n:
            yield Finding(
                "success-thrown-away",
                (cell.place,),
                f"{cell.attack} met an image that fools the classifier for {lost} of {cell.n} samples and returned one "
                f"that does not ({cell.victim})",
                "let the attack return the best image that it met, or stop at the first success",
            )


def lost_to_rounding(cells: Sequence[Seen]) -> Iterator[Finding]:
    """Success that is gone once the images are rounded to 8 bits, as files are; of budget attacks."""
    comparisons = []
    for cell in crafted(cells):
        lost, won = cell.summary.rounded_off, cell.summary.rounded_on
        if cell.budget is None or lost is None or won is None:
            continue
        # A classifier that is not continuous changes its mind both ways.
        chance = at_least(lost, lost + won, 0.5) if lost - won > max(ROUNDING * cell.n, 1) else 1.0
        comparisons.append(Comparison(chance, partial(_lost_to_rounding, cell, lost, won)))
    return significant(comparisons)


def _lost_to_rounding(cell: Seen, lost: int, won: int) -> Finding:
    margin = " (confidence)" if "confidence" in cell["parameters"] else ""
    return Finding(
        "lost-to-rounding",
        (cell.place,),
        f"rounded to 8 bits, {lost} of {cell.n} images of {cell.attack} no longer fool the classifier, and "
        f"{won} others do ({cell.victim})",
        f"the attack ends on the boundary: let it go on, or attack with a margin{margin}",
    )


def unrepeatable(cells: Sequence[Seen]) -> Iterator[Finding]:
    """Predictions that change although the random numbers are the same."""
    for group, probes in _probed(cells):
        if probes["repeated"] > DISTANCE:
            yield Finding(
                "not-repeatable",
                places(group),
                f"logits of the same images with the same random numbers differ by {probes['repeated']:.2g} of their "
                f"size ({group[0].defense})",
                "draw all randomness from rng: as it is, neither images nor scores can be made again",
            )


def undeclared_randomness(cells: Sequence[Seen]) -> Iterator[Finding]:
    """A defense that says it is deterministic, and is not."""
    for group, probes in _probed(cells):
        if not group[0]["stochastic"] and probes["redrawn"] > DISTANCE >= probes["repeated"]:
            yield Finding(
                "undeclared-randomness",
                places(group),
                f"{group[0].defense} says that it is deterministic, and logits differ by {probes['redrawn']:.2g} of "
                "their size from draw to draw",
                "declare it stochastic, so that attacks average over its draws",
            )


def fixed_randomness(cells: Sequence[Seen]) -> Iterator[Finding]:
    """A defense that says it is stochastic, and never draws: its answers are those of a seed of its own.

    One that draws and answers the same is an algorithm whose answer seldom depends on where it begins, such as k-means
    with few clusters. Records of earlier versions do not say which it is.
    """
    for group, probes in _probed(cells):
        if probes.get("undrawn") and probes["redrawn"] == 0 and probes["repeated"] == 0:
            yield Finding(
                "fixed-randomness",
                places(group),
                f"{group[0].defense} says that it is stochastic, takes no random numbers from rng, and answers always "
                "with the same logits",
                "a fixed seed is no randomness, and an attacker knows it: draw from rng, or declare it deterministic",
            )


def without_eot(cells: Sequence[Seen]) -> Iterator[Finding]:
    """A randomised defense attacked along the gradient of a single draw (Carlini et al. 2019, section 4)."""
    for group in _by_classifier([cell for cell in cells if cell["threat"] == "adaptive"]):
        cell = group[0]
        withstood = any(one.robust for one in group)  # to a defense that has fallen, more draws change nothing
        if withstood and cell["stochastic"] and cell["draws_a_gradient"] == 1 and not cell["identity"]:
            yield Finding(
                "randomised-without-eot",
                places(group),
                f"{cell.defense} is stochastic and was attacked with one draw for a gradient",
                f"a single draw misleads: {more_draws(cell)}",
            )


def batch_dependent(cells: Sequence[Seen]) -> Iterator[Finding]:
    """Predictions that depend on the other images of the batch."""
    for group, probes in _probed(cells):
        if probes["alone"] > DISTANCE >= probes["repeated"]:
            yield Finding(
                "batch-dependent",
                places(group),
                f"logits of an image alone and in a batch differ by {probes['alone']:.2g} of their size "
                f"({group[0].defense})",
                "results depend on --batch-size: use no statistics over the batch, and rng's stream of each sample",
            )


def not_converged(cells: Sequence[Seen], doubled: Mapping[int, Seen]) -> Iterator[Finding]:
    """Attacks that do better with twice the steps."""
    comparisons = []
    for cell in crafted(cells):
        twice = doubled.get(cell.place)
        if twice is not None:
            found = partial(_not_converged, cell, twice)
            comparisons.append(compared(cell.attacked, twice.attacked, cell.n, found))
    return significant(comparisons)


def _not_converged(cell: Seen, twice: Seen) -> Finding:
    draws = more_draws(cell)
    return Finding(
        "not-converged",
        (cell.place,),
        f"{cell.attack} leaves {cell.attacked.share:.1%}, and with twice the steps, which has no column on the board, "
        f"{twice.attacked.share:.1%} ({cell.victim})",
        "give it more steps, until more change nothing" + (f", or {draws}" if draws else ""),
    )


def _by_classifier(cells: Sequence[Seen]) -> list[Sequence[Seen]]:
    """The cells whose attacks follow gradients, those of the same attacked classifier together."""
    following = [cell for cell in cells if cell["attack_access"] == "gradients"]
    return grouped(following, lambda cell: (*cell.images[:3], cell.images[4]))


def _probed(cells: Sequence[Seen]) -> Iterator[tuple[Sequence[Seen], Mapping[str, float]]]:
    """The cells of each defended model, with what it answered when it was probed."""
    for group in grouped(cells, lambda cell: (*cell.pair, cell["defense"])):
        probes = group[0].summary.probes
        if probes:
            yield group, probes
