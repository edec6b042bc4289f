"""Checks of attacks against each other: what should be stronger must not do worse."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from advbench.analysis.intervals import wilson
from advbench.analysis.sanity.finding import Finding, Seen, grouped, tolerance

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

_MORE = "give it more steps or restarts, or use autoattack"


def single_step_wins(cells: Sequence[Seen]) -> Iterator[Finding]:
    """An iterative attack weaker than a single step within the same budget (Carlini et al. 2019, section 5.4)."""
    for group in grouped(_of_gradients(cells), lambda c: (*c.images[:3], c.images[4], c.budget)):
        single = [cell for cell in group if cell["attack_passes"] == 1]
        iterative = [cell for cell in group if (cell["attack_passes"] or 0) > 1]
        for weak in iterative:
            for strong in single[:1]:
                if weak.attacked > strong.attacked + tolerance(weak.n):
                    yield Finding(
                        "iterative-weaker-than-single-step",
                        (weak.place,),
                        f"{weak.attack} leaves {weak.attacked:.1%} ({weak.where}), the single step {strong.attack} "
                        f"{strong.attacked:.1%} within the same budget",
                        f"the gradients are masked or {weak.attack} ends too early: {_MORE}",
                    )


def not_monotone(cells: Sequence[Seen]) -> Iterator[Finding]:
    """Success that does not grow with eps (Carlini et al. 2019, section 5.4), of attacks that search."""
    budgeted = [cell for cell in _crafted(cells) if cell.budget and cell["attack_access"] != "nothing"]

    def but_eps(cell: Seen) -> tuple[object, ...]:
        others = tuple(sorted((k, str(v)) for k, v in cell["parameters"].items() if k != "eps"))
        return (*cell.pair, cell["threat"], cell["attack"].split(":")[0], others, cell.images[4])

    for group in grouped(budgeted, but_eps):
        ordered = sorted(group, key=_eps)
        for small, large in itertools.pairwise(ordered):
            if large.attacked > small.attacked + tolerance(large.n):
                yield Finding(
                    "not-monotone-in-eps",
                    (large.place,),
                    f"{large.attack} leaves {large.attacked:.1%} ({large.where}), with the smaller eps {_eps(small):g} "
                    f"{small.attacked:.1%}",
                    f"a larger budget holds the smaller one's images: {_MORE}",
                )


def unbounded(cells: Sequence[Seen]) -> Iterator[Finding]:
    """An attack with no real bound that leaves accuracy above chance (Carlini et al. 2019, section 5.3)."""
    for cell in _crafted(cells):
        if is_unbounded(cell["budget"], cell["attack_access"]):
            chance = _exceeded_chance(cell, cell.attacked)
            if chance is not None:
                yield Finding(
                    "unbounded-above-chance",
                    (cell.place,),
                    f"{cell.attack} may change every pixel to anything and still leaves {cell.attacked:.1%} "
                    f"({cell.where}); chance is {chance:.1%}",
                    "the attack fails: its gradients vanish or it ends too early; " + _MORE,
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
                tuple(cell.place for cell in group),
                f"{best.robust:.1%} against {best.attack} ({best.where}): within L∞ {IMPOSSIBLE:g} every image can "
                f"be made the same grey, so that nothing above chance, {chance:.1%}, is real",
                "do not report this number; " + _MORE,
            )


def less_access_wins(cells: Sequence[Seen]) -> Iterator[Finding]:
    """A black-box attack, noise or transfer that beats the best white-box attack (Carlini et al. 2019, 5.2)."""
    yield from _part_without_gradients_wins(cells)
    budgeted = [cell for cell in cells if cell.budget]
    for group in grouped(budgeted, lambda cell: (*cell.pair, cell["defense"], cell.budget)):
        if len(group) == 1:
            continue  # nothing to compare it with
        for threat in dict.fromkeys(cell["threat"] for cell in group):
            white = [c for c in group if c["threat"] == threat and c["attack_access"] == "gradients"]
            if threat == "transfer" or not white:
                continue
            best = min(white, key=_measure)
            others = [c for c in group if c["threat"] == threat and c["attack_access"] != "gradients"]
            if threat == "adaptive":
                others += [c for c in group if c["threat"] == "transfer"]
            for other in others:
                if _measure(other) < _measure(best) - tolerance(best.n):
                    kind = "transferred images" if other["threat"] == "transfer" else other["attack_access"]
                    yield Finding(
                        "less-access-does-better",
                        (best.place,),
                        f"{other.attack}, which uses {_needs(kind)}, leaves {_measure(other):.1%} ({other.where}), the "
                        f"best attack with gradients, {best.attack}, {_measure(best):.1%}",
                        f"the gradients are masked: {_MORE}, and give the defense a better approximation",
                    )


def _part_without_gradients_wins(cells: Sequence[Seen]) -> Iterator[Finding]:
    """A part of an attack that needs no gradients and fools what the parts with gradients do not (Croce and Hein 2020).

    Together they would count as one attack with gradients, and hide it.
    """
    for cell in _crafted(cells):
        accesses, fooled = cell.told.get("component_access") or (), cell.summary.broken_by
        if fooled is None or "gradients" not in accesses or (cell["stochastic"] and cell["threat"] == "adaptive"):
            continue  # of a stochastic defense a lucky draw is no success
        parts = [place for place, access in enumerate(accesses) if access != "gradients"]
        count = sum(fooled.get(place, 0) for place in parts)
        if count > tolerance(cell.n) * cell.n:
            names = " and ".join(cell["components"][place] for place in parts)
            yield Finding(
                "less-access-does-better",
                (cell.place,),
                f"{names}, a part of {cell.attack} without gradients, fools {count} of {cell.n} samples that the parts "
                f"with gradients do not ({cell.where})",
                "the gradients are masked or their attacks end too early: give them more steps, and give the defense a "
                "better approximation",
            )


def adaptive_weaker(cells: Sequence[Seen]) -> Iterator[Finding]:
    """An attacker who knows the defense and does worse than one who does not."""
    for group in grouped(cells, lambda cell: (*cell.pair, cell["defense"], cell["attack"])):
        by_threat = {cell["threat"]: cell for cell in group}
        adaptive, oblivious = by_threat.get("adaptive"), by_threat.get("oblivious")
        if adaptive is None or oblivious is None or adaptive["identity"]:
            continue
        if adaptive.budget is None:
            continue  # the smallest perturbation that fools the defended model may well be a larger one
        if adaptive.robust > oblivious.robust + tolerance(adaptive.n):
            yield Finding(
                "adaptive-weaker-than-oblivious",
                (adaptive.place,),
                f"{adaptive.attack} leaves {adaptive.robust:.1%} on {adaptive.defense} when it knows the defense, "
                f"{oblivious.robust:.1%} when it does not",
                f"the gradient through the defense misleads: give it a better approximation; {_MORE}",
            )


def _exceeded_chance(cell: Seen, share: float) -> float | None:
    """Chance, where an accuracy is clearly above it: that of always answering the most frequent class."""
    chance = cell.summary.chance
    return chance if wilson(share * cell.n, cell.n)[0] > chance else None


def _measure(cell: Seen) -> float:
    """What an attack is judged by: what it does to the classifier that it attacked or, transferred, to the defended."""
    return cell.robust if cell["threat"] in ("adaptive", "transfer") else cell.attacked


def _needs(access: str) -> str:
    words = {"scores": "no gradients", "labels": "labels alone", "nothing": "nothing of the model"}
    return words.get(access, access)


def _of_gradients(cells: Sequence[Seen]) -> list[Seen]:
    return [cell for cell in _crafted(cells) if cell.budget and cell["attack_access"] == "gradients"]


def _crafted(cells: Sequence[Seen]) -> list[Seen]:
    """One cell for each set of adversarial images."""
    return [group[0] for group in grouped(cells, operator.attrgetter("images"))]


def _eps(cell: Seen) -> float:
    return cell.budget[1] if cell.budget else 0.0
