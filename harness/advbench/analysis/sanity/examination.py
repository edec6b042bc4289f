"""Running all checks on a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from advbench.analysis.sanity import clean_accuracy as baseline
from advbench.analysis.sanity import gradients, lost_success, randomness
from advbench.analysis.sanity import masked_gradients as strength
from advbench.analysis.sanity.finding import Finding, FinishedCell, group_by
from advbench.analysis.summary import Summary
from advbench.option_names import option

__all__ = ["CRITERIA", "examine", "unexamined"]

CRITERIA: tuple[Callable[[Sequence[FinishedCell]], Iterator[Finding]], ...] = (
    baseline.no_better_than_chance,
    baseline.labels_renumbered,
    baseline.one_class_answered,
    baseline.eps_beyond_images,
    strength.single_step_wins,
    strength.not_monotone,
    strength.unbounded_above_chance,
    strength.impossible_accuracy,
    strength.less_access_wins,
    strength.adaptive_weaker,
    gradients.no_gradient,
    gradients.zero_gradients,
    gradients.nan_gradient,
    gradients.flat_at_bounds,
    gradients.loss_without_slope,
    lost_success.lost_adversarials,
    lost_success.lost_to_rounding,
    randomness.not_repeatable,
    randomness.undeclared_randomness,
    randomness.fixed_randomness,
    randomness.without_eot,
    randomness.batch_dependent,
)
"""The checks that need no additional run. Each takes the finished cells of a run and yields findings."""

_NEEDED = frozenset(("attack_access", "attack_passes", "parameters", "draws_a_gradient", "identity", "stochastic"))


def examine(
    described: Sequence[Mapping[str, Any]],
    stored: Mapping[str, Summary],
    doubled: Mapping[int, Summary] | None = None,
    class_names: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[Finding]:
    """Checks a run for signs that the evaluation is not sound.

    Args:
        described: The cells of the run's manifest. Cells of earlier versions that lack needed entries are skipped.
        stored: Summaries of cells by key.
        doubled: Summaries of the same cells with twice the steps, by index, if they were run.
        class_names: The names of the classes by dataset, if they have some.

    Returns:
        The findings, ordered by criterion.

    Source: Carlini et al. 2019, On Evaluating Adversarial Robustness, sections 4 and 5.
    """
    finished = []
    for index, entry in enumerate(described):
        summary = stored.get(entry["key"])
        if summary is not None and summary.ok and entry.keys() >= _NEEDED:
            finished.append(FinishedCell(index, entry, summary, class_names.get(entry["dataset"], ())))
    # Outcomes are compared sample by sample, so only cells with the same samples are examined together.
    groups = group_by(finished, lambda cell: cell.n)
    findings = [finding for criterion in CRITERIA for group in groups for finding in criterion(group)]
    if doubled:
        twice = {
            cell.index: dataclasses.replace(cell, summary=doubled[cell.index])
            for cell in finished
            if cell.index in doubled
        }
        findings += [finding for group in groups for finding in lost_success.not_converged(group, twice)]
    return findings


def unexamined(described: Sequence[Mapping[str, Any]], *, doubled: bool) -> list[dict[str, str]]:
    """Lists the criteria that could not be checked because the run lacks the necessary cells.

    Args:
        described: The cells of a run's manifest.
        doubled: Whether the same cells were run with twice the steps.

    Returns:
        For each of them its name, ``criterion``, and what to run in order to check it, ``advice``.
    """
    missing = []
    if not any(strength.is_unbounded(cell["budget"], cell.get("attack_access", "")) for cell in described):
        advice = "run an attack that may change everything, such as pgd:eps=1,steps=100"
        missing.append({"criterion": "unbounded-above-chance", "advice": advice})
    if not doubled:
        missing.append({"criterion": "not-converged", "advice": f"repeat the run with {option('check_convergence')}"})
    return missing
