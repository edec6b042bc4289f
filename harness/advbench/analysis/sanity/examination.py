"""All checks, on a whole run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from advbench.analysis.sanity import baseline, hygiene, slopes, strength
from advbench.analysis.sanity.finding import Finding, Seen
from advbench.analysis.summary import Summary

__all__ = ["CRITERIA", "examine", "unexamined"]

CRITERIA: tuple[Callable[[Sequence[Seen]], Iterator[Finding]], ...] = (
    baseline.no_better_than_chance,
    baseline.labels_renumbered,
    baseline.one_class_answered,
    baseline.eps_beyond_images,
    strength.single_step_wins,
    strength.not_monotone,
    strength.unbounded,
    strength.impossible,
    strength.less_access_wins,
    strength.adaptive_weaker,
    hygiene.no_gradient,
    hygiene.zero_gradients,
    slopes.nan_gradient,
    slopes.flat_at_bounds,
    slopes.loss_without_slope,
    hygiene.lost_on_the_way,
    hygiene.lost_to_rounding,
    hygiene.unrepeatable,
    hygiene.undeclared_randomness,
    hygiene.fixed_randomness,
    hygiene.without_eot,
    hygiene.batch_dependent,
)
"""The checks that need no further run. Each yields its findings on a run's finished cells."""

_NEEDED = frozenset(("attack_access", "attack_passes", "parameters", "draws_a_gradient", "identity", "stochastic"))


def examine(
    described: Sequence[Mapping[str, Any]],
    stored: Mapping[str, Summary],
    doubled: Mapping[int, Summary] | None = None,
) -> list[Finding]:
    """Looks for what says that an evaluation is not to be believed.

    Args:
        described: The cells of a run's manifest. One of an earlier version that lacks what is needed is left out.
        stored: Cells by key.
        doubled: The same cells with twice the steps, by their position, where they were run.

    Returns:
        The findings, criterion by criterion.

    Source: Carlini et al. 2019, On Evaluating Adversarial Robustness, sections 4 and 5.
    """
    seen = []
    for place, told in enumerate(described):
        summary = stored.get(told["key"])
        if summary is not None and summary.ok and told.keys() >= _NEEDED:
            seen.append(Seen(place, told, summary))
    findings = [finding for criterion in CRITERIA for finding in criterion(seen)]
    if doubled:
        twice = {cell.place: Seen(cell.place, cell.told, doubled[cell.place]) for cell in seen if cell.place in doubled}
        findings += hygiene.not_converged(seen, twice)
    return findings


def unexamined(described: Sequence[Mapping[str, Any]], *, doubled: bool) -> list[dict[str, str]]:
    """What could not be looked for, since the run has no cells that would show it.

    Args:
        described: The cells of a run's manifest.
        doubled: Whether the same cells were run with twice the steps.

    Returns:
        Of each such criterion its name, ``criterion``, and what to run to have it looked for, ``advice``.
    """
    missing = []
    if not any(strength.is_unbounded(cell["budget"], cell.get("attack_access", "")) for cell in described):
        advice = "run an attack that may change everything, such as --attacks pgd:eps=1,steps=100"
        missing.append({"criterion": "unbounded-above-chance", "advice": advice})
    if not doubled:
        missing.append({"criterion": "not-converged", "advice": "repeat the command with --check-convergence"})
    return missing
