"""Checks of a defended model by itself: whether its logits depend on randomness or on the batch as they should."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from advbench.analysis.sanity.advice import more_draws
from advbench.analysis.sanity.finding import Finding, FinishedCell, by_attacked_classifier, group_by, indices

__all__ = ["batch_dependent", "fixed_randomness", "not_repeatable", "undeclared_randomness", "without_eot"]

DISTANCE = 1e-4
"""Normalised distance of logits above which two outputs count as different (as in the checks of AutoAttack)."""


def not_repeatable(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """Logits that change although the random numbers are the same."""
    for group, probes in _probed(cells):
        if probes["repeated"] > DISTANCE:
            yield Finding(
                "not-repeatable",
                indices(group),
                f"outputs for the same images with the same random numbers differ by {probes['repeated']:.2g} of their "
                f"size ({group[0].defense})",
                "draw all randomness from rng: otherwise neither images nor scores can be reproduced",
            )


def undeclared_randomness(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """A defense that is declared deterministic, and is not."""
    for group, probes in _probed(cells):
        if not group[0]["stochastic"] and probes["redrawn"] > DISTANCE >= probes["repeated"]:
            yield Finding(
                "undeclared-randomness",
                indices(group),
                f"{group[0].defense} is declared deterministic, but its outputs differ by {probes['redrawn']:.2g} of "
                "their size between draws",
                "declare it stochastic, so that attacks average over its draws",
            )


def fixed_randomness(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """A defense or model that is declared stochastic but draws no random numbers: its logits are those of a fixed seed.

    A defense that draws random numbers and always reaches the same result, such as k-means with few clusters, is not
    reported. Records of earlier versions do not say whether numbers were drawn.
    """
    for group, probes in _probed(cells):
        if probes["redrawn"] > 0 or probes["repeated"] > 0:
            continue
        undrawn = (group[0].defense, probes.get("undrawn")), (group[0].model, probes.get("model_undrawn"))
        for name in (name for name, count in undrawn if count):
            yield Finding(
                "fixed-randomness",
                indices(group),
                f"{name} is declared stochastic, but takes no random numbers from rng and always gives the same logits",
                "a fixed seed is not randomness, and an attacker knows it: draw from rng, or declare it deterministic",
            )


def without_eot(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """A stochastic classifier attacked along the gradient of a single draw (Carlini et al. 2019, section 4)."""
    for group in by_attacked_classifier([cell for cell in cells if cell.attack_draws]):
        cell = group[0]
        withstood = any(other.robust for other in group)  # if every sample is fooled, more draws change nothing
        if withstood and cell["draws_a_gradient"] == 1 and (cell.draws_model or not cell["identity"]):
            name = _attacked_model(cell) if cell.draws_model else cell.defense
            yield Finding(
                "randomised-without-eot",
                indices(group),
                f"{name} is stochastic and was attacked with one draw per gradient",
                f"the gradient of a single draw is misleading: {more_draws(cell)}",
            )


def _attacked_model(cell: FinishedCell) -> str:
    return "the surrogate" if cell["threat"] == "transfer" else cell.model


def batch_dependent(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """Logits that depend on the other images of the batch."""
    for group, probes in _probed(cells):
        if probes["alone"] > DISTANCE >= probes["repeated"]:
            yield Finding(
                "batch-dependent",
                indices(group),
                f"outputs for an image alone and in a batch differ by {probes['alone']:.2g} of their size "
                f"({group[0].defense})",
                "results depend on the batch size: use no statistics over the batch, and rng's stream of each sample",
            )


def _probed(cells: Sequence[FinishedCell]) -> Iterator[tuple[Sequence[FinishedCell], Mapping[str, float]]]:
    """The cells of each defended model, with the measured differences of its logits."""
    for group in group_by(cells, lambda cell: (*cell.pair, cell["defense"])):
        probes = group[0].summary.probes
        if probes:
            yield group, probes
