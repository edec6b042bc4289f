"""What a defended model takes adversarial images for: confusion matrices and how spread their errors are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["confusion_matrix", "error_spread", "sum_matrices"]


def confusion_matrix(
    record: Mapping[str, Any], predictions: str = "adversarial_predictions", classes: int = 0
) -> list[list[int]]:
    """Counts of (label, prediction).

    Args:
        record: A cell of the store with status ``ok``.
        predictions: Which of its predictions: on the adversarial images, or ``clean_predictions``.
        classes: The least number of classes.

    Returns:
        A square matrix, a row a label and a column a prediction, as large as the largest class seen.
    """
    pairs = [(int(label), int(said)) for label, said in zip(record["labels"], record[predictions], strict=True)]
    size = max(classes, 1 + max(max(pair) for pair in pairs))
    matrix = [[0] * size for _ in range(size)]
    for label, prediction in pairs:
        matrix[label][prediction] += 1
    return matrix


def sum_matrices(matrices: Sequence[Sequence[Sequence[int]]]) -> list[list[int]]:
    """The sum of square matrices, of which smaller ones are taken to go on with zeros."""
    size = max(len(matrix) for matrix in matrices)
    total = [[0] * size for _ in range(size)]
    for matrix in matrices:
        for row, counts in enumerate(matrix):
            for column, count in enumerate(counts):
                total[row][column] += count
    return total


def error_spread(matrix: Sequence[Sequence[int]]) -> tuple[float, int]:
    """How evenly the errors are spread over the pairs of (label, wrong prediction).

    Args:
        matrix: A confusion matrix.

    Returns:
        The entropy of the matrix off its diagonal over the largest that so many errors can have over so many
        pairs, from 0 (all errors of one pair) to 1 (as even as can be), and the number of errors. It is 0 where
        there are fewer than two errors or two pairs.
    """
    counts = [count for row, line in enumerate(matrix) for column, count in enumerate(line) if row != column]
    errors = sum(counts)
    most = min(errors, len(counts))
    if most < 2:
        return 0.0, errors
    entropy = -sum(count / errors * math.log(count / errors) for count in counts if count)
    return max(0.0, entropy) / math.log(most), errors
