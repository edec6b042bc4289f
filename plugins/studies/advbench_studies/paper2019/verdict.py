"""Verdicts: a claim consists of checks, each of which holds, fails, is undecided or lacks a measurement."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

__all__ = [
    "ENOUGH",
    "FAILS",
    "FEW",
    "HOLDS",
    "NOT_RUN",
    "UNDECIDED",
    "Check",
    "Reading",
    "at_least",
    "check",
    "decide",
    "per_cent",
    "points",
    "too_few",
]

HOLDS, FAILS, UNDECIDED, NOT_RUN = "holds", "fails", "undecided", "not run"

FEW = 5
"""So many images decide nothing: an exact paired test of 5 against 0 has p = .06."""

ENOUGH = 20
"""Fewer images decide nothing, whatever they show: the 95 % interval of 0 of 20 images ends at 16 %."""

_CONFIDENCE = 0.975
"""A check is decided if it has the same outcome on this share of the resamples: one side of a 95 % interval."""

_FIRST = 200
"""How many resamples are enough if they all have the same outcome."""

_TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True)
class Reading:
    """A measured number, or what was not measured.

    Attributes:
        value: The number; None where it was not measured.
        missing: What was not run or failed, in words, if there is no number.
        resamples: The number on resampled images; None if it is taken as exact.
        images: The number of images of which it is a share; None if it is another measure.
        too_few: Why it decides nothing, such as ``3 images of MNIST``; empty if it has enough images.
    """

    value: float | None
    missing: str = ""
    resamples: Sequence[float] | None = None
    images: int | None = None
    too_few: str = ""


@dataclasses.dataclass(frozen=True)
class Check:
    """One condition of a claim.

    Attributes:
        dataset: Title of the dataset, with the number of images if it is not the paper's.
        what: What it is about, within the dataset.
        measured: The numbers, in words; empty if one is missing.
        holds: Whether the condition holds for the measured numbers; None if a number is missing.
        margin: By how much it holds, or fails if negative: a fraction of samples or cases, or in the unit of the
            measure; None if a number is missing.
        missing: What was not measured.
        decided: Whether it would have the same outcome on other images, as far as these images show.
        too_few: The same of each of its readings that has too few images.
    """

    dataset: str
    what: str
    measured: str
    holds: bool | None
    margin: float | None = None
    missing: tuple[str, ...] = ()
    decided: bool = True
    too_few: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """One of the four verdicts."""
        if self.holds is None:
            return NOT_RUN
        if not self.decided:
            return UNDECIDED
        return HOLDS if self.holds else FAILS


def check(
    dataset: str,
    what: str,
    readings: Sequence[Reading],
    judge: Callable[..., tuple[float, str]],
    *,
    strictly: bool = False,
    few: int = FEW,
) -> Check:
    """Judges readings, if all are present.

    Args:
        dataset: See :class:`Check`.
        what: See :class:`Check`.
        readings: The numbers that the condition needs.
        judge: Given the numbers, returns the margin by which the condition holds and the numbers in words.
        strictly: Whether a margin of 0 is not enough.
        few: A margin of so many images, or a tie, is undecided.
    """
    missing = tuple(dict.fromkeys(reading.missing for reading in readings if reading.value is None))
    if missing:
        return Check(dataset, what, "", None, missing=missing)
    margin, measured = judge(*(reading.value for reading in readings))

    def holds(margin: float) -> bool:
        return margin > _TOLERANCE if strictly else margin >= -_TOLERANCE

    known = [reading for reading in readings if reading.resamples is not None]
    decided = True
    if known:
        images = min((reading.images for reading in known if reading.images is not None), default=None)
        close = abs(margin) * images <= few + _TOLERANCE if images and few else strictly and abs(margin) <= _TOLERANCE
        count = min(len(reading.resamples or ()) for reading in known)
        columns = [list(reading.resamples or [reading.value or 0.0] * count) for reading in readings]

        def share(number: int) -> float:
            """The share of the first resamples that have the same outcome."""
            values = zip(*(column[:number] for column in columns), strict=True)
            return sum(holds(judge(*one)[0]) == holds(margin) for one in values) / number

        # If the first resamples agree without exception, so do nearly all others.
        decided = not close and (share(min(_FIRST, count)) == 1 or share(count) >= _CONFIDENCE)
    too_few = tuple(dict.fromkeys(reading.too_few for reading in readings if reading.too_few))
    return Check(dataset, what, measured, holds(margin), margin, decided=decided and not too_few, too_few=too_few)


def too_few(images: int, what: str) -> str:
    """A number of images in words, if they are too few to decide anything; else nothing."""
    return "" if images >= ENOUGH else f"{images} image{'' if images == 1 else 's'} {what}"


def at_least(needed: int, dataset: str, what: str, checks: Sequence[Check]) -> Check:
    """A check that holds if at least this many others do; others than these count only if they can change that."""
    count = sum(one.holds is True for one in checks)
    open_ones = [one for one in checks if one.holds is None]
    holds = True if count >= needed else False if count + len(open_ones) < needed else None
    sure, failed = (sum(one.verdict == verdict for one in checks) for verdict in (HOLDS, FAILS))
    decided = holds is None or sure >= needed or len(checks) - failed < needed
    measured = "; ".join(f"{one.what} {one.measured}" for one in checks if one.measured)
    missing = tuple(dict.fromkeys(missing for one in open_ones for missing in one.missing)) if holds is None else ()
    margin = None if holds is None else (count - needed) / len(checks)
    listed = f"{count} of {len(checks)} ({measured})" if measured else ""
    too_few = () if decided else tuple(dict.fromkeys(few for one in checks for few in one.too_few))
    return Check(dataset, what, listed, holds, margin, missing, decided, too_few)


def decide(checks: Sequence[Check]) -> str:
    """The verdict on a claim: it fails if one check fails, and holds if all hold."""
    verdicts = {one.verdict for one in checks}
    if FAILS in verdicts:
        return FAILS
    if NOT_RUN in verdicts or not verdicts:
        return NOT_RUN
    return UNDECIDED if UNDECIDED in verdicts else HOLDS


def per_cent(share: float) -> str:
    """A fraction in per cent: ``0.985`` is ``98.5 %``."""
    return f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """A difference of fractions in percentage points, with its sign."""
    return f"{100 * difference:+.1f} points"
