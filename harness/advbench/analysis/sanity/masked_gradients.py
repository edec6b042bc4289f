"""Signs of masked gradients: an attack that should be stronger does worse than another."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from advbench.analysis.intervals import binomial_tail, wilson
from advbench.analysis.sanity.advice import stronger
from advbench.analysis.sanity.comparison import Comparison, compare_outcomes, significant
from advbench.analysis.sanity.finding import (
    AttackOutcome,
    Finding,
    FinishedCell,
    group_by,
    indices,
    one_per_image_set,
    tolerance,
)
from advbench.analysis.sanity.minimal_distances import adaptive_needs_more
from advbench.api.goal import UNTARGETED

__all__ = [
    "adaptive_weaker",
    "impossible_accuracy",
    "is_unbounded",
    "less_access_wins",
    "not_monotone",
    "single_step_wins",
    "unbounded_above_chance",
]

IMPOSSIBLE = 0.5
"""An L∞ budget with which every image can be turned into plain grey."""


def single_step_wins(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """An iterative attack weaker than a single step within the same budget (Carlini et al. 2019, section 5.4)."""
    comparisons = []
    following = _bounded_attacks_with_gradients(cells)
    for group in group_by(following, _same_problem):
        single = [cell for cell in group if cell["attack_passes"] == 1]
        if not single:
            continue
        strong = min(single, key=_attacked_accuracy)
        for weak in group:
            if (weak["attack_passes"] or 0) > 1:
                finding = partial(_single_step_wins, weak, strong)
                comparisons.append(compare_outcomes(weak.attacked_outcome, strong.attacked_outcome, weak.n, finding))
    return significant(comparisons)


def _single_step_wins(weak: FinishedCell, strong: FinishedCell) -> Finding:
    return Finding(
        "iterative-weaker-than-single-step",
        (weak.index,),
        f"{weak.attack} leaves {weak.attacked_outcome.accuracy:.1%} ({weak.attacked_classifier}); the single "
        f"step {strong.attack} leaves {strong.attacked_outcome.accuracy:.1%} within the same budget",
        f"the gradients are masked or {weak.attack} stops too early: {stronger(weak)}",
    )


def not_monotone(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """Success that does not grow with eps (Carlini et al. 2019, section 5.4); noise is not considered."""
    budgeted = [cell for cell in one_per_image_set(cells) if cell.budget and cell["attack_access"] != "nothing"]

    def all_but_eps(cell: FinishedCell) -> tuple[object, ...]:
        others = tuple(sorted((k, str(v)) for k, v in cell["parameters"].items() if k != "eps"))
        return (*cell.image_set[:3], cell["attack"].split(":")[0], others, cell.image_set[4])

    comparisons = []
    for group in group_by(budgeted, all_but_eps):
        for small, large in itertools.pairwise(sorted(group, key=_eps)):
            finding = partial(_not_monotone, small, large)
            comparisons.append(compare_outcomes(large.attacked_outcome, small.attacked_outcome, large.n, finding))
    return significant(comparisons)


def _not_monotone(small: FinishedCell, large: FinishedCell) -> Finding:
    return Finding(
        "not-monotone-in-eps",
        (large.index,),
        f"{large.attack} leaves {large.attacked_outcome.accuracy:.1%} ({large.attacked_classifier}); with the "
        f"smaller eps {_eps(small):g}, it leaves {small.attacked_outcome.accuracy:.1%}",
        f"a larger budget includes all images of the smaller one: {stronger(large)}",
    )


def unbounded_above_chance(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """An unbounded attack that leaves accuracy above chance (Carlini et al. 2019, section 5.3)."""
    for cell in one_per_image_set(cells):
        if cell.goal == UNTARGETED and is_unbounded(cell["budget"], cell["attack_access"]):
            accuracy = cell.attacked_outcome.accuracy
            chance = _exceeded_chance(cell, accuracy)
            if chance is not None:
                yield Finding(
                    "unbounded-above-chance",
                    (cell.index,),
                    f"{cell.attack} may change every pixel by any amount, but leaves {accuracy:.1%} "
                    f"({cell.attacked_classifier}); chance is {chance:.1%}",
                    f"the attack fails because its gradients vanish or it stops too early: {stronger(cell)}",
                )


def is_unbounded(budget: Mapping[str, Any] | None, access: str) -> bool:
    """Whether an attack with this budget follows gradients and may change every pixel to any value."""
    return access == "gradients" and budget is not None and budget["norm"] == "linf" and budget["eps"] >= 1


def impossible_accuracy(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """Accuracy above chance at an L∞ budget with which all images can be turned into the same grey image.

    The accuracy under the best attack that knows the model and the defense is used; noise does not count as an attack.
    """

    def claims(cell: FinishedCell) -> bool:
        known = cell["threat"] == "adaptive" or (cell["threat"] == "oblivious" and cell["identity"])
        large = cell.budget is not None and cell.budget[0] == "linf" and cell.budget[1] >= IMPOSSIBLE
        return known and large and cell["attack_access"] != "nothing" and cell.goal == UNTARGETED

    for group in group_by(filter(claims, cells), lambda cell: (*cell.pair, cell["defense"])):
        best = min(group, key=lambda cell: cell.robust)
        chance = _exceeded_chance(best, best.robust)
        if chance is not None:
            yield Finding(
                "impossible-accuracy",
                indices(group),
                f"{best.robust:.1%} against {best.attack} ({best.where}): within L∞ {IMPOSSIBLE:g}, every image can "
                f"be turned into the same grey image, so the true accuracy is at most chance, {chance:.1%}",
                f"do not report this number; {stronger(best)}",
            )


def less_access_wins(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """Black-box attacks, noise or transferred images that beat the best white-box attack.

    Source: Carlini et al. 2019, section 5.2.
    """
    return significant([*_parts_without_gradients(cells), *_less_access(cells)])


def _less_access(cells: Sequence[FinishedCell]) -> Iterator[Comparison]:
    """Compares the best attack with gradients to each with less access, on the same classifier and perturbation set.

    For transferred images, the robust accuracy of the defended model is used, as the leaderboard shows it.
    """
    bounded = [cell for cell in cells if cell.perturbation_set]
    transferred: dict[tuple[Any, ...], list[FinishedCell]] = {}
    for cell in bounded:
        if cell["threat"] == "transfer":
            key = (*cell.pair, cell["defense"], cell.perturbation_set, cell.goal)
            transferred.setdefault(key, []).append(cell)
    known = [cell for cell in one_per_image_set(bounded) if cell["threat"] != "transfer"]
    for group in group_by(known, _same_problem):
        white = [cell for cell in group if cell["attack_access"] == "gradients"]
        if not white:
            continue
        best = min(white, key=_attacked_accuracy)
        others = [(cell, cell.attacked_outcome) for cell in group if cell["attack_access"] != "gradients"]
        if best.on_board:
            same = transferred.get((*best.pair, best["defense"], best.perturbation_set, best.goal), ())
            others += [(cell, cell.board_outcome) for cell in same]
        for other, outcome in others:
            finding = partial(_less_access_wins, best, other, outcome)
            yield compare_outcomes(best.attacked_outcome, outcome, best.n, finding)


def _less_access_wins(best: FinishedCell, other: FinishedCell, outcome: AttackOutcome) -> Finding:
    transferred = other["threat"] == "transfer"
    kind = "transferred images" if transferred else _access_in_words(other["attack_access"])
    better = "" if best["identity"] or not best.on_board else "; give the defense a better approximation"
    return Finding(
        "less-access-does-better",
        (best.index,),
        f"{other.attack}, which uses {kind}, leaves {outcome.accuracy:.1%} "
        f"({other.where if transferred else other.attacked_classifier}); the best attack with gradients, "
        f"{best.attack}, leaves {best.attacked_outcome.accuracy:.1%}",
        f"the gradients are masked: {stronger(best)}{better}",
    )


def _parts_without_gradients(cells: Sequence[FinishedCell]) -> Iterator[Comparison]:
    """Parts of an ensemble without gradients that fool samples which the parts with gradients do not.

    The ensemble as a whole counts as an attack with gradients, so the comparison of attacks does not show this (Croce
    and Hein 2020).
    """
    for cell in one_per_image_set(cells):
        accesses, fooled = cell.described.get("component_access") or (), cell.summary.broken_by
        if fooled is None or "gradients" not in accesses or cell.attack_draws:
            continue
        parts = [index for index, access in enumerate(accesses) if access != "gradients"]
        count = sum(fooled.get(index, 0) for index in parts)
        chance = binomial_tail(count, count, 0.5) if count > tolerance(cell.n) * cell.n else 1.0
        yield Comparison(chance, partial(_part_without_gradients_wins, cell, parts, count))


def _part_without_gradients_wins(cell: FinishedCell, parts: Sequence[int], count: int) -> Finding:
    names = " and ".join(cell["components"][index] for index in parts)
    better = "" if cell["identity"] or not cell.on_board else "; give the defense a better approximation"
    return Finding(
        "less-access-does-better",
        (cell.index,),
        f"{names}, a part of {cell.attack} without gradients, fools {count} of {cell.n} samples that the parts "
        f"with gradients do not ({cell.attacked_classifier})",
        f"the gradients are masked or the attacks that use them stop too early: {stronger(cell)}{better}",
    )


def adaptive_weaker(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """An adaptive attack that does worse than the oblivious one."""
    comparisons = []
    for group in group_by(cells, lambda cell: (*cell.pair, cell["defense"], cell["attack"])):
        by_threat = {cell["threat"]: cell for cell in group}
        adaptive, oblivious = by_threat.get("adaptive"), by_threat.get("oblivious")
        if adaptive is None or oblivious is None or adaptive["identity"]:
            continue
        if adaptive.perturbation_set is None:
            continue  # minimal attacks are compared by their distances
        finding = partial(_adaptive_weaker, adaptive, oblivious)
        comparisons.append(compare_outcomes(adaptive.board_outcome, oblivious.board_outcome, adaptive.n, finding))
    return significant([*comparisons, *adaptive_needs_more(cells)])


def _adaptive_weaker(adaptive: FinishedCell, oblivious: FinishedCell) -> Finding:
    return Finding(
        "adaptive-weaker-than-oblivious",
        (adaptive.index,),
        f"{adaptive.attack} leaves {adaptive.robust:.1%} on {adaptive.defense} when it knows the defense, and "
        f"only {oblivious.robust:.1%} when it does not",
        f"the gradient through the defense is misleading: give it a better approximation; {stronger(adaptive)}"
        if adaptive["attack_access"] == "gradients"
        else f"the attack is too weak for answers that are random or cost more: {stronger(adaptive)}",
    )


def _exceeded_chance(cell: FinishedCell, accuracy: float) -> float | None:
    """The accuracy of always predicting the most frequent class, if an accuracy is significantly above it."""
    chance = cell.summary.chance
    return chance if wilson(accuracy * cell.n, cell.n)[0] > chance else None


def _access_in_words(access: str) -> str:
    words = {"scores": "no gradients", "labels": "only labels", "nothing": "nothing of the model"}
    return words.get(access, access)


def _bounded_attacks_with_gradients(cells: Sequence[FinishedCell]) -> list[FinishedCell]:
    return [cell for cell in one_per_image_set(cells) if cell.perturbation_set and cell["attack_access"] == "gradients"]


def _same_problem(cell: FinishedCell) -> tuple[object, ...]:
    """What cells have in common whose attacks may be compared: classifier, samples, set and goal."""
    return (*cell.image_set[:3], cell.image_set[4], cell.perturbation_set, cell.goal)


def _attacked_accuracy(cell: FinishedCell) -> float:
    """Accuracy of the attacked classifier under the attack."""
    return cell.attacked_outcome.accuracy


def _eps(cell: FinishedCell) -> float:
    return cell.budget[1] if cell.budget else 0.0
