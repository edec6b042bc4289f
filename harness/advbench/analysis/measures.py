"""What is measured of a cell: accuracies, success, distortion; pure functions of per-sample records."""

from __future__ import annotations

import bisect
import functools
import operator
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from advbench.analysis.intervals import wilson

__all__ = [
    "accuracy_at",
    "as_number",
    "measure_cell",
    "measure_images",
    "measured_of",
    "moved",
    "robust_bits",
    "withstood",
    "worst_case",
    "worst_case_of",
]

_Bits: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"


def robust_bits(record: Mapping[str, Any]) -> list[bool]:
    """Per sample, whether the defended model is right both on the clean and on the adversarial image."""
    return [bool(bit) for bit in _robust(record)]


def withstood(record: Mapping[str, Any]) -> tuple[int, ...]:
    """Per draw of a stochastic defense, the samples that it withstands: one bit each, as a whole number.

    It is one draw where the defense was scored once.
    """
    draws = record.get("robust_draws")
    if not draws:
        return (as_number(_robust(record)),)
    return tuple(as_number(np.asarray(bits, dtype=bool)) for bits in draws)


def measure_cell(record: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a finished cell.

    Args:
        record: A cell of the store with status ``ok``.

    Returns:
        ``clean_accuracy``, ``robust_accuracy`` and ``robust_accuracy_ci95`` (Wilson), each the mean over the draws of
        a stochastic defense; ``robust_accuracy_draws`` (how many, the smallest, the largest and the standard
        deviation; None for one draw); ``attack_success_rate`` (over the samples that the defended model has right
        clean; None where there are none); ``median_linf`` and ``median_l2`` over the images that turned the attacked
        classifier from right to wrong (None where none did); ``attack_failures`` (samples that the attacked
        classifier still has right).
    """
    return measured_of(record, withstood(record), measure_images(record, *_attacked(record)))


def measure_images(distances: Mapping[str, Any], right: _Bits, turned: _Bits) -> dict[str, Any]:
    """What :func:`measure_cell` tells of the adversarial images and the attacked classifier.

    Args:
        distances: Per sample, its ``linf`` and ``l2``.
        right: Per sample, whether the attacked classifier has it right clean.
        turned: Per sample, whether the attack then turned it wrong.
    """
    return {
        "median_linf": _median(distances["linf"], turned),
        "median_l2": _median(distances["l2"], turned),
        "attack_failures": int(np.count_nonzero(right) - np.count_nonzero(turned)),
    }


def measured_of(record: Mapping[str, Any], bits: Sequence[int], images: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`measure_cell` gives, from what is known of the record already.

    Args:
        record: A cell of the store with status ``ok``.
        bits: What :func:`withstood` gives of it.
        images: What :func:`measure_images` gives of it.
    """
    n = record["n"]
    draws = [each.bit_count() for each in bits]
    robust = sum(draws) / len(draws)
    clean_draws = record.get("clean_correct_draws", [record["clean_correct"]])
    clean = sum(map(_count, clean_draws)) / len(clean_draws)
    return {
        "clean_accuracy": clean / n,
        "robust_accuracy": robust / n,
        "robust_accuracy_ci95": list(wilson(robust, n)),
        "robust_accuracy_draws": _spread([count / n for count in draws]),
        "attack_success_rate": (clean - robust) / clean if clean else None,
        **images,
    }


def accuracy_at(record: Mapping[str, Any], norm: str) -> dict[str, Any]:
    """Robust accuracy as a function of eps, from a minimal attack's distances.

    Args:
        record: A finished cell of a minimal attack.
        norm: ``linf`` or ``l2``.

    Returns:
        ``norm``, ``eps`` (ascending, from 0, at most 101) and ``accuracy``: of the attacked classifier, the share of
        all samples that it has right and that the attack moved by more than eps, or could not turn wrong.
    """
    right, turned = _attacked(record)
    found = np.sort(np.asarray(record[norm])[turned]).tolist()
    steps = min(100, len(found))
    eps = [0.0, *dict.fromkeys(found[(len(found) * step - 1) // steps] for step in range(1, steps + 1))]
    total = int(right.sum())
    left = [total - bisect.bisect_right(found, one) for one in eps]
    return {"norm": norm, "eps": eps, "accuracy": [count / record["n"] for count in left]}


def worst_case(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Robust accuracy against the best attack for each sample: the per-sample minimum over attacks.

    Args:
        records: Finished cells of one (dataset, model, defense) on the same samples.

    Where a stochastic defense was drawn several times, the worst case of each draw is taken, and then their mean.
    """
    return worst_case_of([withstood(record) for record in records], records[0]["n"])


def worst_case_of(cells: Sequence[Sequence[int]], n: int) -> dict[str, Any]:
    """What :func:`worst_case` gives, from what :func:`withstood` gives of each cell, on ``n`` samples."""
    draws = [functools.reduce(operator.and_, together).bit_count() for together in zip(*cells, strict=False)]
    survived = sum(draws) / len(draws)
    return {"accuracy": survived / n, "ci95": list(wilson(survived, n))}


def moved(record: Mapping[str, Any]) -> _Bits:
    """Per sample, whether the attack turned the attacked classifier from right to wrong."""
    return _attacked(record)[1]


def _count(bits: Any) -> int:
    """How many of these bits are set; NumPy takes ten times as long to look at a short list."""
    return sum(bits) if type(bits) is list else int(np.count_nonzero(bits))


def as_number(bits: _Bits) -> int:
    """Bits as a whole number, the first of them the most significant."""
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _robust(record: Mapping[str, Any]) -> _Bits:
    clean, adversarial = (np.asarray(record[name], dtype=bool) for name in ("clean_correct", "adversarial_correct"))
    both: _Bits = clean & adversarial
    return both


def _attacked(record: Mapping[str, Any]) -> tuple[_Bits, _Bits]:
    """Per sample, whether the attacked classifier has it right clean, and whether the attack then turned it wrong."""
    labels = np.asarray(record["labels"])
    right = np.asarray(record["attacked_clean_predictions"]) == labels
    return right, right & (np.asarray(record["attacked_predictions"]) != labels)


def _median(distances: Any, chosen: _Bits) -> float | None:
    """The median over the chosen samples; None where there are none."""
    values = np.sort(np.asarray(distances)[chosen])  # np.median takes three times as long
    middle = len(values) // 2
    return float((values[middle] + values[~middle]) / 2) if len(values) else None


def _spread(accuracies: Sequence[float]) -> dict[str, Any] | None:
    """How far apart the draws are; None where there is one."""
    if len(accuracies) == 1:
        return None
    return {
        "n": len(accuracies),
        "min": min(accuracies),
        "max": max(accuracies),
        "std": statistics.stdev(accuracies),
    }
