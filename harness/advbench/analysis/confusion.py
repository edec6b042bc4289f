"""Confusion matrices of defended models, and how evenly their errors are spread."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["confused_pairs", "confusion_matrix", "error_spread", "sum_matrices"]


def confusion_matrix(
    record: Mapping[str, Any], predictions: str = "adversarial_predictions", classes: int = 0
) -> list[list[int]]:
    """Counts the pairs of label and prediction.

    Args:
        record: A cell of the store with status ``ok``.
        predictions: The predictions to count: ``adversarial_predictions`` or ``clean_predictions``.
        classes: The smallest number of classes.

    Returns:
        A square matrix with one row per label and one column per prediction, up to the largest class that occurs.
    """
    pairs = [
        (int(label), int(prediction)) for label, prediction in zip(record["labels"], record[predictions], strict=True)
    ]
    size = max(classes, 1 + max(max(pair) for pair in pairs))
    matrix = [[0] * size for _ in range(size)]
    for label, prediction in pairs:
        matrix[label][prediction] += 1
    return matrix


def confused_pairs(record: Mapping[str, Any], predictions: str, most: int) -> list[list[int]]:
    """Lists the most frequent errors, for data with too many classes for a matrix.

    Args:
        record: A cell of the store with status ``ok``.
        predictions: The predictions to count: ``adversarial_predictions`` or ``clean_predictions``.
        most: The largest number of pairs.

    Returns:
        Label, wrong prediction and their number, the most frequent first; of equally many, the smaller label first.
    """
    counts = Counter(
        (int(label), int(prediction))
        for label, prediction in zip(record["labels"], record[predictions], strict=True)
        if label != prediction
    )
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [[*pair, count] for pair, count in ordered[:most]]


def sum_matrices(matrices: Sequence[Sequence[Sequence[int]]]) -> list[list[int]]:
    """The sum of square matrices; smaller ones are padded with zeros."""
    size = max(len(matrix) for matrix in matrices)
    total = [[0] * size for _ in range(size)]
    for matrix in matrices:
        for row, counts in enumerate(matrix):
            for column, count in enumerate(counts):
                total[row][column] += count
    return total


def error_spread(matrix: Sequence[Sequence[int]]) -> tuple[float, int]:
    """Measures how evenly the errors are spread over the pairs of (label, wrong prediction).

    Args:
        matrix: A confusion matrix.

    Returns:
        The entropy of the off-diagonal entries, divided by the largest entropy possible for this number of errors and
        pairs: from 0 (all errors in one pair) to 1 (as even as possible). It is 0 if there are fewer than two errors or
        two pairs. And the number of errors.
    """
    counts = [count for row, line in enumerate(matrix) for column, count in enumerate(line) if row != column]
    errors = sum(counts)
    most = min(errors, len(counts))
    if most < 2:
        return 0.0, errors
    entropy = -sum(count / errors * math.log(count / errors) for count in counts if count)
    return max(0.0, entropy) / math.log(most), errors
