"""The measures of a cell: accuracies, attack success and distortion, as pure functions of its record."""

from __future__ import annotations

import bisect
import functools
import math
import operator
import statistics
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from advbench.analysis.intervals import wilson
from advbench.analysis.rejection import measure_rejection

__all__ = [
    "accuracy_at",
    "attack_bits",
    "attack_succeeded",
    "bits_to_int",
    "broken_samples",
    "combine_measures",
    "distances_of_successes",
    "goal_missed",
    "measure_cell",
    "measure_images",
    "robust_bits",
    "withstood",
    "worst_case",
    "worst_case_from_bits",
]

_Bits: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"

_MOST_DRAWS = 1000
"""At most so many combinations of draws are counted for a worst case."""


def robust_bits(record: Mapping[str, Any]) -> list[bool]:
    """For each sample, whether the defended model predicts the clean and the adversarial image correctly."""
    return [bool(bit) for bit in _robust(record)]


def withstood(record: Mapping[str, Any]) -> tuple[int, ...]:
    """For each draw of a stochastic defense, the samples that withstand the attack, as bits of an integer.

    A defense that was scored once has one draw.
    """
    draws = record.get("robust_draws")
    if not draws:
        return (bits_to_int(_robust(record)),)
    return tuple(bits_to_int(np.asarray(bits, dtype=bool)) for bits in draws)


def measure_cell(record: Mapping[str, Any]) -> dict[str, Any]:
    """Computes the measures of a finished cell.

    Args:
        record: A cell of the store with status ``ok``.

    Returns:
        ``clean_accuracy``, ``robust_accuracy`` and ``robust_accuracy_ci95`` (Wilson), each the mean over the draws of
        a stochastic defense; ``robust_accuracy_draws`` (number, minimum, maximum and standard deviation; None for one
        draw); ``protocols`` (for several draws, the accuracies of the first draw, of the mean, and of the samples that
        are right in all draws, so that an attacker needs any one of them); ``attack_success_rate`` (among the samples
        that the defended model predicts correctly clean; None if there are none); ``target_success_rate`` (among the
        attacked ones of these samples, those that the defended model predicts as their target class; None for an
        untargeted attack); ``rejection`` (the result of :func:`~advbench.analysis.rejection.measure_rejection`);
        ``median_linf``, ``median_l2`` and ``median_size`` (the main size of the perturbation set, if it is another one)
        of the images that reached the goal on the attacked classifier (None if there are none); ``attack_failures``
        (samples on which they did not, of those that it predicts correctly clean).
    """
    return combine_measures(record, withstood(record), measure_images(record, *attack_bits(record)))


def measure_images(distances: Mapping[str, Any], correct: _Bits, fooled: _Bits) -> dict[str, Any]:
    """The measures of :func:`measure_cell` that depend only on the adversarial images and the attacked classifier.

    Args:
        distances: The distances ``linf`` and ``l2`` of each sample, the ``size`` of its perturbation if that is another
            one, and the ``targets`` of a targeted attack.
        correct: For each sample, whether the attacked classifier predicts the clean image correctly.
        fooled: For each sample, whether the attack then reached its goal.
    """
    attacked = correct if "targets" not in distances else correct & (np.asarray(distances["targets"]) >= 0)
    return {
        "median_linf": _median(distances["linf"], fooled),
        "median_l2": _median(distances["l2"], fooled),
        "median_size": _median(distances["size"], fooled) if "size" in distances else None,
        "attack_failures": int(np.count_nonzero(attacked) - np.count_nonzero(fooled)),
    }


def combine_measures(record: Mapping[str, Any], bits: Sequence[int], images: Mapping[str, Any]) -> dict[str, Any]:
    """Computes the result of :func:`measure_cell` from parts that have been computed already.

    Args:
        record: A cell of the store with status ``ok``.
        bits: The result of :func:`withstood`.
        images: The result of :func:`measure_images`.
    """
    n = record["n"]
    draws = [withstood_bits.bit_count() for withstood_bits in bits]
    robust = sum(draws) / len(draws)
    clean_draws = record.get("clean_correct_draws", [record["clean_correct"]])
    clean = sum(map(_count, clean_draws)) / len(clean_draws)
    return {
        "clean_accuracy": clean / n,
        "robust_accuracy": robust / n,
        "robust_accuracy_ci95": list(wilson(robust, n)),
        "robust_accuracy_draws": _spread([count / n for count in draws]),
        "protocols": _protocols(clean_draws, bits, n),
        "attack_success_rate": (clean - robust) / clean if clean else None,
        "target_success_rate": _target_success_rate(record),
        "rejection": measure_rejection(record),
        **images,
    }


def _protocols(clean: Sequence[Any], robust: Sequence[int], n: int) -> dict[str, dict[str, Any]] | None:
    """Accuracies of several draws of a stochastic defense under each protocol; None for one draw.

    Args:
        clean: For each draw, one bit for each sample: whether it is predicted correctly clean.
        robust: For each draw, the samples that withstand the attack, as bits of an integer.
        n: The number of samples.
    """
    if len(robust) == 1:
        return None
    counts = {
        "one": (_count(clean[0]), robust[0].bit_count()),
        "mean": (sum(map(_count, clean)) / len(clean), sum(bits.bit_count() for bits in robust) / len(robust)),
        "any": (
            int(np.count_nonzero(np.all(np.asarray(clean, dtype=bool), axis=0))),
            functools.reduce(operator.and_, robust).bit_count(),
        ),
    }
    return {
        name: {"clean_accuracy": right / n, "robust_accuracy": kept / n, "robust_accuracy_ci95": list(wilson(kept, n))}
        for name, (right, kept) in counts.items()
    }


def _target_success_rate(record: Mapping[str, Any]) -> float | None:
    """The mean over the draws; None for an untargeted attack, or if no sample counts."""
    reached = record.get("target_reached")
    if reached is None:
        return None
    attacked = np.asarray(record["targets"]) >= 0
    rates = []
    for correct, bits in zip(record.get("clean_correct_draws", [record["clean_correct"]]), reached, strict=True):
        counted = np.asarray(correct, dtype=bool) & attacked
        if counted.any():
            rates.append(float(np.asarray(bits, dtype=bool)[counted].mean()))
    return statistics.fmean(rates) if rates else None


def goal_missed(record: Mapping[str, Any]) -> tuple[int, ...] | None:
    """As :func:`withstood`, with the samples that do not become their target class; None for an untargeted attack."""
    reached = record.get("target_reached")
    if reached is None:
        return None
    clean = record.get("clean_correct_draws", [record["clean_correct"]])
    return tuple(
        bits_to_int(np.asarray(correct, dtype=bool) & ~np.asarray(bits, dtype=bool))
        for correct, bits in zip(clean, reached, strict=True)
    )


def distances_of_successes(record: Mapping[str, Any], norm: str) -> array[float] | None:
    """The distance of each sample at which a minimal attack reached its goal on the defended model, in its first draw.

    Args:
        record: A finished cell of a minimal attack.
        norm: The norm that it minimises.

    Returns:
        Infinite for samples on which it did not; -1 for those that are predicted wrong clean, or not attacked. None if
        the distances in this norm are not stored.
    """
    distances = record.get(norm if norm in ("linf", "l2") else "size")
    if distances is None:
        return None
    counted, broken = broken_samples(record)
    values = np.where(broken, np.asarray(distances, dtype=np.float32), np.float32(np.inf))
    return array("f", np.where(counted, values, np.float32(-1)).astype(np.float32).tobytes())


def broken_samples(record: Mapping[str, Any]) -> tuple[_Bits, _Bits]:
    """Which attacked samples are correct clean, and which of them the attack breaks in the first draw of the score."""
    correct = np.asarray(record["clean_correct"], dtype=bool)
    if "targets" not in record:
        return correct, correct & ~np.asarray(record["adversarial_correct"], dtype=bool)
    correct = correct & (np.asarray(record["targets"]) >= 0)
    return correct, correct & np.asarray(record["target_reached"][0], dtype=bool)


def accuracy_at(record: Mapping[str, Any], norm: str) -> dict[str, Any]:
    """Robust accuracy as a function of eps, from the distances of a minimal attack.

    Args:
        record: A finished cell of a minimal attack.
        norm: ``linf`` or ``l2``.

    Returns:
        ``norm``; ``eps`` (ascending, from 0, at most 101 values); and ``accuracy``, the share of all samples that the
        attacked classifier predicts correctly and on which the attack did not reach its goal, or only at a distance
        above eps.
    """
    correct, fooled = attack_bits(record)
    distances = np.sort(np.asarray(record[norm])[fooled]).tolist()
    steps = min(100, len(distances))
    eps = [0.0, *dict.fromkeys(distances[(len(distances) * step - 1) // steps] for step in range(1, steps + 1))]
    total = int(correct.sum())
    counts = [total - bisect.bisect_right(distances, value) for value in eps]
    return {"norm": norm, "eps": eps, "accuracy": [count / record["n"] for count in counts]}


def worst_case(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Robust accuracy against the best attack for each sample: the minimum over attacks, sample by sample.

    If a stochastic defense was drawn several times, this is the mean of the worst cases of the draws. If cells have
    different numbers of draws, those with fewer are repeated.

    Args:
        records: Finished cells of one (dataset, model, defense) on the same samples.
    """
    return worst_case_from_bits([withstood(record) for record in records], records[0]["n"])


def worst_case_from_bits(cells: Sequence[Sequence[int]], n: int) -> dict[str, Any]:
    """Computes the result of :func:`worst_case` from that of :func:`withstood` for each cell, on ``n`` samples."""
    count = min(math.lcm(*map(len, cells)), _MOST_DRAWS)  # each draw of a cell counts as often as its others
    draws = [
        functools.reduce(operator.and_, (cell[draw % len(cell)] for cell in cells)).bit_count() for draw in range(count)
    ]
    survived = sum(draws) / len(draws)
    return {"accuracy": survived / n, "ci95": list(wilson(survived, n))}


def attack_succeeded(record: Mapping[str, Any]) -> _Bits:
    """For each sample, whether the attack reached its goal on an image that the attacked classifier predicts correctly.

    The goal is a wrong prediction, or the target class.
    """
    return attack_bits(record)[1]


def _count(bits: Any) -> int:
    """Number of set bits. For a short list, NumPy is ten times slower than ``sum``."""
    return sum(bits) if type(bits) is list else int(np.count_nonzero(bits))


def bits_to_int(bits: _Bits) -> int:
    """Packs bits into an integer; the first is the most significant."""
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _robust(record: Mapping[str, Any]) -> _Bits:
    clean, adversarial = (np.asarray(record[name], dtype=bool) for name in ("clean_correct", "adversarial_correct"))
    both: _Bits = clean & adversarial
    return both


def attack_bits(record: Mapping[str, Any], predictions: str = "attacked_predictions") -> tuple[_Bits, _Bits]:
    """For each sample, whether the attacked classifier predicts it correctly, and whether the attack reached its goal.

    Args:
        record: A finished cell, or arrays with the same names.
        predictions: The predictions that decide whether the goal is reached.
    """
    labels, attacked = np.asarray(record["labels"]), np.asarray(record[predictions])
    correct = np.asarray(record["attacked_clean_predictions"]) == labels
    targets = record.get("targets")
    return correct, correct & (attacked != labels if targets is None else attacked == np.asarray(targets))


def _median(distances: Any, chosen: _Bits) -> float | None:
    """The median over the chosen samples; None if there are none."""
    values = np.sort(np.asarray(distances)[chosen])  # np.median takes three times as long
    middle = len(values) // 2
    return float((values[middle] + values[~middle]) / 2) if len(values) else None


def _spread(accuracies: Sequence[float]) -> dict[str, Any] | None:
    """Number, minimum, maximum and standard deviation over the draws; None for one draw."""
    if len(accuracies) == 1:
        return None
    return {
        "n": len(accuracies),
        "min": min(accuracies),
        "max": max(accuracies),
        "std": statistics.stdev(accuracies),
    }
