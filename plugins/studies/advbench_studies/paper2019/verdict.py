"""Verdicts: a claim consists of checks, each of which holds, fails or lacks a measurement."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

__all__ = ["FAILS", "HOLDS", "NOT_RUN", "Check", "Reading", "at_least", "check", "decide", "per_cent", "points"]

HOLDS, FAILS, NOT_RUN = "holds", "fails", "not run"
_TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True)
class Reading:
    """A measured number, or what was not measured.

    Attributes:
        value: The number; None where it was not measured.
        missing: What was not run or failed, in words, if there is no number.
    """

    value: float | None
    missing: str = ""


@dataclasses.dataclass(frozen=True)
class Check:
    """One condition of a claim.

    Attributes:
        dataset: Title of the dataset, with the number of images if it is not the paper's.
        what: What it is about, within the dataset.
        measured: The numbers, in words; empty if one is missing.
        holds: Whether the condition holds; None if a number is missing.
        margin: By how much it holds, or fails if negative: a fraction of samples or cases, or in the unit of the
            measure; None if a number is missing.
        missing: What was not measured.
    """

    dataset: str
    what: str
    measured: str
    holds: bool | None
    margin: float | None = None
    missing: tuple[str, ...] = ()


def check(
    dataset: str,
    what: str,
    readings: Sequence[Reading],
    judge: Callable[..., tuple[float, str]],
    *,
    strictly: bool = False,
) -> Check:
    """Judges readings, if all are present.

    Args:
        dataset: See :class:`Check`.
        what: See :class:`Check`.
        readings: The numbers that the condition needs.
        judge: Given the numbers, returns the margin by which the condition holds and the numbers in words.
        strictly: Whether a margin of 0 is not enough.
    """
    missing = tuple(dict.fromkeys(reading.missing for reading in readings if reading.value is None))
    if missing:
        return Check(dataset, what, "", None, missing=missing)
    margin, measured = judge(*(reading.value for reading in readings))
    holds = margin > _TOLERANCE if strictly else margin >= -_TOLERANCE
    return Check(dataset, what, measured, holds, margin)


def at_least(needed: int, dataset: str, what: str, checks: Sequence[Check]) -> Check:
    """A check that holds if at least this many others do; missing ones count only if they can change the outcome."""
    held = sum(one.holds is True for one in checks)
    open_ones = [one for one in checks if one.holds is None]
    holds = True if held >= needed else False if held + len(open_ones) < needed else None
    measured = "; ".join(f"{one.what} {one.measured}" for one in checks if one.measured)
    missing = tuple(dict.fromkeys(missing for one in open_ones for missing in one.missing)) if holds is None else ()
    margin = None if holds is None else (held - needed) / len(checks)
    return Check(dataset, what, f"{held} of {len(checks)} ({measured})" if measured else "", holds, margin, missing)


def decide(checks: Sequence[Check]) -> str:
    """The verdict: a claim fails if one check fails, and holds if all hold."""
    if any(one.holds is False for one in checks):
        return FAILS
    return HOLDS if checks and all(one.holds for one in checks) else NOT_RUN


def per_cent(share: float) -> str:
    """A fraction in per cent: ``0.985`` is ``98.5 %``."""
    return f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """A difference of fractions in percentage points, with its sign."""
    return f"{100 * difference:+.1f} points"
