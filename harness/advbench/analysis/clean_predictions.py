"""Statistics of a classifier's predictions on clean images, which show whether labels and pixels are as it expects."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

__all__ = ["CleanPredictions", "RenumberedClass", "summarise_predictions"]

FEWEST = 5
"""Classes with fewer samples are not checked for another number."""

ONE_LABEL = 0.8
"""If more than this share of the shifted predictions have one label, it is not a shift but one class."""


class RenumberedClass(NamedTuple):
    """A class whose samples are mostly predicted as one other class, which few samples of other classes are.

    Attributes:
        label: The label of the class.
        prediction: The class that most of its samples are predicted as.
        n: Number of samples of the class.
        followed: Number of these samples with that prediction.
        correct: Number of these samples that are predicted correctly.
    """

    label: int
    prediction: int
    n: int
    followed: int
    correct: int


class CleanPredictions(NamedTuple):
    """A classifier's predictions on clean images, in numbers.

    Attributes:
        n: Number of samples.
        correct: Number of correct predictions.
        size: The largest class among labels and predictions, plus one.
        frequent: The class that is predicted most often.
        frequent_count: How often it is predicted.
        frequent_errors: How often it is predicted for samples of other classes.
        shift: The most frequent difference between a wrong prediction and the label, modulo ``size``; 0 if nearly all
            of these predictions are for one label.
        shifted: Number of samples that are predicted as their label plus this shift.
        renumbered: Classes that the classifier seems to know by another number.
    """

    n: int
    correct: int
    size: int
    frequent: int
    frequent_count: int
    frequent_errors: int
    shift: int
    shifted: int
    renumbered: tuple[RenumberedClass, ...]


def summarise_predictions(labels: np.ndarray[Any, Any], predictions: np.ndarray[Any, Any]) -> CleanPredictions:
    """Summarises a classifier's predictions on clean images.

    Args:
        labels: The true classes, integers, shape (n,), with n at least 1.
        predictions: The predicted classes, integers, shape (n,).
    """
    counts = np.bincount(predictions)
    frequent = int(counts.argmax())
    return _shared(
        CleanPredictions(
            len(labels),
            int(np.count_nonzero(labels == predictions)),
            1 + int(max(labels.max(), predictions.max())),
            frequent,
            int(counts[frequent]),
            int(np.count_nonzero((predictions == frequent) & (labels != frequent))),
            *_shift(labels, predictions),
            _renumbered(labels, predictions),
        )
    )


def _shift(labels: np.ndarray[Any, Any], predictions: np.ndarray[Any, Any]) -> tuple[int, int]:
    size = 1 + int(max(labels.max(), predictions.max()))
    differences = (predictions - labels) % size
    counts = np.bincount(differences)
    counts[0] = 0  # correct predictions
    shift = int(counts.argmax())
    shifted = int(counts[shift])
    one_label = not shifted or np.bincount(labels[differences == shift]).max() > ONE_LABEL * shifted
    return (0, 0) if one_label else (shift, shifted)


def _renumbered(labels: np.ndarray[Any, Any], predictions: np.ndarray[Any, Any]) -> tuple[RenumberedClass, ...]:
    """Classes of which most samples get one wrong prediction that few samples of other classes get.

    The second condition excludes classifiers that predict a few classes for many labels: they are weak, and their
    labels may well be right.
    """
    sizes, predicted = np.bincount(labels), np.bincount(predictions)
    width = len(predicted)
    codes, counts = np.unique(labels.astype(np.int64) * width + predictions, return_counts=True)
    pairs = [(*divmod(code, width), count) for code, count in zip(codes.tolist(), counts.tolist(), strict=True)]
    correct = {label: count for label, prediction, count in pairs if label == prediction}
    return tuple(
        RenumberedClass(label, prediction, int(sizes[label]), count, correct.get(label, 0))
        for label, prediction, count in pairs
        if label != prediction and sizes[label] >= FEWEST and 2 * count > max(sizes[label], predicted[prediction])
    )


@functools.lru_cache(maxsize=4096)
def _shared(predictions: CleanPredictions) -> CleanPredictions:
    """One object for equal values, since thousands of cells may have the same."""
    return predictions
