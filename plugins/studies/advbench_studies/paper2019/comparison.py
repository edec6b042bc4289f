"""Compares VQ-VAEs with each other over the four attacks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from advbench_studies.paper2019.claim import MOST
from advbench_studies.paper2019.evidence import View
from advbench_studies.paper2019.setting import ATTACKS, DatasetSetting, Wanted
from advbench_studies.paper2019.verdict import Check, at_least, check, per_cent

__all__ = ["GAIN", "helps", "negated"]

GAIN = 0.01
"""What a VQ-VAE must gain on another to help."""


def helps(view: View, dataset: DatasetSetting, base: Sequence[Wanted], better: Sequence[Wanted], what: str) -> Check:
    """Whether the best of some VQ-VAEs beats the best of others against most attacks.

    Args:
        view: The cells.
        dataset: The dataset.
        base: Parameters of the others.
        better: Parameters of those that should be better.
        what: What these have, in words.
    """

    def compare(*values: float) -> tuple[float, str]:
        before, after = max(values[: len(base)]), max(values[len(base) :])
        return after - before - GAIN, f"{per_cent(after)} from {per_cent(before)}"

    single = [
        check(
            view.title(dataset),
            attack.title,
            [view.reading(dataset, attack, "vqvae", wanted) for wanted in (*base, *better)],
            compare,
        )
        for attack in ATTACKS
    ]
    return at_least(MOST, view.title(dataset), f"attacks against which {what} helps:", single)


def negated(one: Check) -> Check:
    """The check that holds if another, on a number of attacks, fails."""
    holds = None if one.holds is None else not one.holds
    # If the count is exactly as high as needed, the other holds by 0 and this one fails by one case.
    margin = None if one.margin is None else -one.margin - 1 / len(ATTACKS)
    return dataclasses.replace(one, holds=holds, margin=margin)
