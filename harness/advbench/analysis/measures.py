"""What is measured of a cell: accuracies, success, distortion; pure functions of per-sample records."""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from advbench.analysis.intervals import wilson

__all__ = ["accuracy_at", "measure_cell", "robust_bits", "robust_draws", "worst_case"]


def robust_bits(record: Mapping[str, Any]) -> list[bool]:
    """Per sample, whether the defended model is right both on the clean and on the adversarial image."""
    pairs = zip(record["clean_correct"], record["adversarial_correct"], strict=True)
    return [bool(clean and adversarial) for clean, adversarial in pairs]


def robust_draws(record: Mapping[str, Any]) -> list[Sequence[int]]:
    """The robust bits of each draw of a stochastic defense; of one draw where it was scored once."""
    return list(record.get("robust_draws") or [robust_bits(record)])


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
    n = record["n"]
    draws = robust_draws(record)
    robust = sum(map(sum, draws)) / len(draws)
    clean_draws = record.get("clean_correct_draws", [record["clean_correct"]])
    clean = sum(map(sum, clean_draws)) / len(clean_draws)
    rows = zip(
        record["labels"],
        record["attacked_clean_predictions"],
        record["attacked_predictions"],
        record["linf"],
        record["l2"],
        strict=True,
    )
    right = [(fooled != label, linf, l2) for label, before, fooled, linf, l2 in rows if before == label]
    turned = [(linf, l2) for fooled, linf, l2 in right if fooled]
    return {
        "clean_accuracy": clean / n,
        "robust_accuracy": robust / n,
        "robust_accuracy_ci95": list(wilson(robust, n)),
        "robust_accuracy_draws": _spread([sum(bits) / n for bits in draws]),
        "attack_success_rate": (clean - robust) / clean if clean else None,
        "median_linf": statistics.median(linf for linf, _ in turned) if turned else None,
        "median_l2": statistics.median(l2 for _, l2 in turned) if turned else None,
        "attack_failures": len(right) - len(turned),
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
    distances = []
    for label, before, after, distance in zip(
        record["labels"],
        record["attacked_clean_predictions"],
        record["attacked_predictions"],
        record[norm],
        strict=True,
    ):
        if before == label:
            distances.append(distance if after != label else math.inf)
    distances.sort()
    found = [distance for distance in distances if distance < math.inf]
    steps = min(100, len(found))
    eps = [0.0, *dict.fromkeys(found[(len(found) * step - 1) // steps] for step in range(1, steps + 1))]
    left = [len(distances) - bisect.bisect_right(distances, one) for one in eps]
    return {"norm": norm, "eps": eps, "accuracy": [count / record["n"] for count in left]}


def worst_case(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Robust accuracy against the best attack for each sample: the per-sample minimum over attacks.

    Args:
        records: Finished cells of one (dataset, model, defense) on the same samples.

    Where a stochastic defense was drawn several times, the worst case of each draw is taken, and then their mean.
    """
    draws = [sum(map(all, zip(*together, strict=True))) for together in zip(*map(robust_draws, records), strict=False)]
    n, survived = records[0]["n"], sum(draws) / len(draws)
    return {"accuracy": survived / n, "ci95": list(wilson(survived, n))}


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
