"""Checks of attacks against each other: what should be stronger must not do worse."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from advbench.analysis.intervals import at_least, wilson
from advbench.analysis.sanity.advice import stronger
from advbench.analysis.sanity.comparison import Comparison, compared, significant
from advbench.analysis.sanity.finding import Finding, Seen, Standing, crafted, grouped, places, tolerance

__all__ = [
    "adaptive_weaker",
    "impossible",
    "is_unbounded",
    "less_access_wins",
    "not_monotone",
    "single_step_wins",
    "unbounded",
]

IMPOSSIBLE = 0.5
"""An L∞ budget that lets every image be turned into plain grey."""


def single_step_wins(cells: Sequence[Seen]) -> Iterator[Finding]:
    """An iterative attack weaker than a single step within the same budget (Carlini et al. 2019, section 5.4)."""
    comparisons = []
    for group in grouped(_of_gradients(cells), lambda c: (*c.images[:3], c.images[4], c.budget)):
        single = [cell for cell in group if cell["attack_passes"] == 1]
        if not single:
            continue
        strong = min(single, key=_left)
        for weak in group:
            if (weak["attack_passes"] or 0) > 1:
                found = partial(_single_step_wins, weak, strong)
                comparisons.append(compared(weak.attacked, strong.attacked, weak.n, found))
    return significant(comparisons)


def _single_step_wins(weak: Seen, strong: Seen) -> Finding:
    return Finding(
        "iterative-weaker-than-single-step",
        (weak.place,),
        f"{weak.attack} leaves {weak.attacked.share:.1%} ({weak.victim}), the single step {strong.attack} "
        f"{strong.attacked.share:.1%} within the same budget",
        f"the gradients are masked or {weak.attack} ends too early: {stronger(weak)}",
    )


def not_monotone(cells: Sequence[Seen]) -> Iterator[Finding]:
    """Success that does not grow with eps (Carlini et al. 2019, section 5.4), of attacks that search."""
    budgeted = [cell for cell in crafted(cells) if cell.budget and cell["attack_access"] != "nothing"]

    def but_eps(cell: Seen) -> tuple[object, ...]:
        others = tuple(sorted((k, str(v)) for k, v in cell["parameters"].items() if k != "eps"))
        return (*cell.pair, cell["threat"], cell["attack"].split(":")[0], others, cell.images[4])

    comparisons = []
    for group in grouped(budgeted, but_eps):
        for small, large in itertools.pairwise(sorted(group, key=_eps)):
            found = partial(_not_monotone, small, large)
            comparisons.append(compared(large.attacked, small.attacked, large.n, found))
    return significant(comparisons)


def _not_monotone(small: Seen, large: Seen) -> Finding:
    return Finding(
        "not-monotone-in-eps",
        (large.place,),
        f"{large.attack} leaves {large.attacked.share:.1%} ({large.victim}), with the smaller eps {_eps(small):g} "
        f"{small.attacked.share:.1%}",
        f"a larger budget holds the smaller one's images: {stronger(large)}",
    )


def unbounded(cells: Sequence[Seen]) -> Iterator[Finding]:
    """An attack with no real bound that leaves accuracy above chance (Carlini et al. 2019, section 5.3)."""
    for cell in crafted(cells):
        if is_unbounded(cell["budget"], cell["attack_access"]):
            share = cell.attacked.share
            chance = _exceeded_chance(cell, share)
            if chance is not None:
                yield Finding(
                    "unbounded-above-chance",
                    (cell.place,),
                    f"{cell.attack} may change every pixel to anything and still leaves {share:.1%} "
                    f"({cell.victim}); chance is {chance:.1%}",
                    f"the attack fails, since its gradients vanish or it ends too early: {stronger(cell)}",
                )


def is_unbounded(budget: Mapping[str, Any] | None, access: str) -> bool:
    """Whether an attack with this budget follows gradients and may change every pixel to anything."""
    return access == "gradients" and budget is not None and budget["norm"] == "linf" and budget["eps"] >= 1


def impossible(cells: Sequence[Seen]) -> Iterator[Finding]:
    """Accuracy above chance at an L∞ budget within which all images can be made the same grey.

    What a defended model is said to withstand is what the best attack leaves that knows all of it; noise is no attack.
    """

    def claims(cell: Seen) -> bool:
        known = cell["threat"] == "adaptive" or (cell["threat"] == "oblivious" and cell["identity"])
        large = cell.budget is not None and cell.budget[0] == "linf" and cell.budget[1] >= IMPOSSIBLE
        return known and large and cell["attack_access"] != "nothing"

    for group in grouped(filter(claims, cells), lambda cell: (*cell.pair, cell["defense"])):
        best = min(group, key=lambda cell: cell.robust)
        chance = _exceeded_chance(best, best.robust)
        if chance is not None:
            yield Finding(
                "impossible-accuracy",
                places(group),
                f"{best.robust:.1%} against {best.attack} ({best.where}): within L∞ {IMPOSSIBLE:g} every image can "
                f"be made the same grey, so that nothing above chance, {chance:.1%}, is real",
                f"do not report this number; {stronger(best)}",
            )


def less_access_wins(cells: Sequence[Seen]) -> Iterator[Finding]:
    """A black-box attack, noise or transfer that beats the best white-box attack (Carlini et al. 2019, 5.2)."""
    return significant([*_parts_without_gradients(cells), *_less_access(cells)])


def _less_access(cells: Sequence[Seen]) -> Iterator[Comparison]:
    """The best attack with gradients against each that knows less, on the same classifier within the same budget.

    Transferred images are judged by what they do to the defended model, as the board shows it.
    """
    budgeted = [cell for cell in cells if cell.budget]
    transferred: dict[tuple[Any, ...], list[Seen]] = {}
    for cell in budgeted:
        if cell["threat"] == "transfer":
            transferred.setdefault((*cell.pair, cell["defense"], cell.budget), []).append(cell)
    known = [cell for cell in crafted(budgeted) if cell["threat"] != "transfer"]
    for group in grouped(known, lambda cell: (*cell.images[:3], cell.images[4], cell.budget)):
        white = [cell for cell in group if cell["attack_access"] == "gradients"]
        if not white:
            continue
        best = min(white, key=_left)
        others = [(cell, cell.attacked) for cell in group if cell["attack_access"] != "gradients"]
        if best.on_board:
            same = transferred.get((*best.pair, best["defense"], best.budget), ())
            others += [(cell, cell.shown) for cell in same]
        for other, standing in others:
            yield compared(best.attacked, standing, best.n, partial(_less_access_wins, best, other, standing))


def _less_access_wins(best: Seen, other: Seen, standing: Standing) -> Finding:
    transferred = other["threat"] == "transfer"
    kind = "transferred images" if transferred else _needs(other["attack_access"])
    better = "" if best["identity"] or not best.on_board else "; give the defense a better approximation"
    return Finding(
        "less-access-does-better",
        (best.place,),
        f"{other.attack}, which uses {kind}, leaves {standing.share:.1%} "
        f"({other.where if transferred else other.victim}), the best attack with gradients, {best.attack}, "
        f"{best.attacked.share:.1%}",
        f"the gradients are masked: {stronger(best)}{better}",
    )


def _parts_without_gradients(cells: Sequence[Seen]) -> Iterator[Comparison]:
    """Parts of an attack that need no gradients and fool what the parts with gradients do not (Croce and Hein 2020).

    Together they would count as one attack with gradients, and hide it.
    """
    for cell in crafted(cells):
        accesses, fooled = cell.told.get("component_access") or (), cell.summary.broken_by
        if fooled is None or "gradients" not in accesses or (cell["stochastic"] and cell["threat"] == "adaptive"):
            continue  # of a stochastic defense a lucky draw is no success
        parts = [place for place, access in enumerate(accesses) if access != "gradients"]
        count = sum(fooled.get(place, 0) for place in parts)
        chance = at_least(count, count, 0.5) if count > tolerance(cell.n) * cell.n else 1.0
        yield Comparison(chance, partial(_part_wins, cell, parts, count))


def _part_wins(cell: Seen, parts: Sequence[int], count: int) -> Finding:
    names = " and ".join(cell["components"][place] for place in parts)
    better = "" if cell["identity"] or not cell.on_board else "; give the defense a better approximation"
    return Finding(
        "less-access-does-better",
        (cell.place,),
        f"{names}, a part of {cell.attack} without gradients, fools {count} of {cell.n} samples that the parts "
        f"with gradients do not ({cell.victim})",
        f"the gradients are masked or their attacks end too early: {stronger(cell)}{better}",
    )


def adaptive_weaker(cells: Sequence[Seen]) -> Iterator[Finding]:
    """An attacker who knows the defense and does worse than one who does not."""
    comparisons = []
    for group in grouped(cells, lambda cell: (*cell.pair, cell["defense"], cell["attack"])):
        by_threat = {cell["threat"]: cell for cell in group}
        adaptive, oblivious = by_threat.get("adaptive"), by_threat.get("oblivious")
        if adaptive is None or oblivious is None or adaptive["identity"]:
            continue
        if adaptive.budget is None:
            continue  # the smallest perturbation that fools the defended model may well be a larger one
        found = partial(_adaptive_weaker, adaptive, oblivious)
        comparisons.append(compared(adaptive.shown, oblivious.shown, adaptive.n, found))
    return significant(comparisons)


def _adaptive_weaker(adaptive: Seen, oblivious: Seen) -> Finding:
    return Finding(
        "adaptive-weaker-than-oblivious",
        (adaptive.place,),
        f"{adaptive.attack} leaves {adaptive.robust:.1%} on {adaptive.defense} when it knows the defense, "
        f"{oblivious.robust:.1%} when it does not",
        f"the gradient through the defense misleads: give it a better approximation; {stronger(adaptive)}",
    )


def _exceeded_chance(cell: Seen, share: float) -> float | None:
    """Chance, where an accuracy is clearly above it: that of always answering the most frequent class."""
    chance = cell.summary.chance
    return chance if wilson(share * cell.n, cell.n)[0] > chance else None


def _needs(access: str) -> str:
    words = {"scores": "no gradients", "labels": "labels alone", "nothing": "nothing of the model"}
    return words.get(access, access)


def _of_gradients(cells: Sequence[Seen]) -> list[Seen]:
    return [cell for cell in crafted(cells) if cell.budget and cell["attack_access"] == "gradients"]


def _left(cell: Seen) -> float:
    """What an attack leaves of the classifier that it attacked."""
    return cell.attacked.share


def _eps(cell: Seen) -> float:
    return cell.budget[1] if cell.budget else 0.0
