"""What a classifier answers on clean images: a few numbers that tell whether labels and pixels are what it expects."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Answers", "Renamed", "clean_answers"]

FEWEST = 5
"""How many samples of a class there must be before one speaks of what it is taken for."""

ONE_LABEL = 0.8
"""Beyond which share of one label a shift is no shift, but one class taken for another."""


class Renamed(NamedTuple):
    """A class whose samples are mostly taken for one other class, which is hardly given to any other.

    Attributes:
        label: The class, by its label.
        answer: What most of its samples are taken for.
        n: How many samples it has.
        followed: How many of them are taken for that.
        right: How many of them are taken for what they are.
    """

    label: int
    answer: int
    n: int
    followed: int
    right: int


class Answers(NamedTuple):
    """What a classifier takes clean images for.

    Attributes:
        n: How many samples.
        right: How many it has right.
        size: The largest class among labels and answers, plus one.
        frequent: The class that it answers most often.
        answered: How many samples it answers with that class.
        mistaken: How many of those have another label.
        shift: The most frequent difference between a wrong answer and the label, modulo the number of classes that
            occur; 0 where nearly all of these answers are for one label.
        shifted: How many samples are answered by their label plus that.
        renamed: Classes that it seems to know by another number.
    """

    n: int
    right: int
    size: int
    frequent: int
    answered: int
    mistaken: int
    shift: int
    shifted: int
    renamed: tuple[Renamed, ...]


def clean_answers(labels: np.ndarray[Any, Any], predictions: np.ndarray[Any, Any]) -> Answers:
    """Sums up a classifier's predictions of clean images.

    Args:
        labels: The classes, integers, shape (n,), with n at least 1.
        predictions: What it answers, integers, shape (n,).
    """
    answered = np.bincount(predictions)
    frequent = int(answered.argmax())
    return _same(
        Answers(
            len(labels),
            int(np.count_nonzero(labels == predictions)),
            1 + int(max(labels.max(), predictions.max())),
            frequent,
            int(answered[frequent]),
            int(np.count_nonzero((predictions == frequent) & (labels != frequent))),
            *_shift(labels, predictions),
            _renamed(labels, predictions),
        )
    )


def _shift(labels: np.ndarray[Any, Any], predictions: np.ndarray[Any, Any]) -> tuple[int, int]:
    size = 1 + int(max(labels.max(), predictions.max()))
    differences = (predictions - labels) % size
    counts = np.bincount(differences)
    counts[0] = 0  # right answers
    shift = int(counts.argmax())
    shifted = int(counts[shift])
    one_label = not shifted or np.bincount(labels[differences == shift]).max() > ONE_LABEL * shifted
    return (0, 0) if one_label else (shift, shifted)


def _renamed(labels: np.ndarray[Any, Any], predictions: np.ndarray[Any, Any]) -> tuple[Renamed, ...]:
    """Classes of which most samples get one wrong answer, by which mostly samples of that class are meant.

    The second half leaves out classifiers that give many classes the same few answers: they are weak, and their labels
    may well be right.
    """
    sizes, answers = np.bincount(labels), np.bincount(predictions)
    width = len(answers)
    codes, counts = np.unique(labels.astype(np.int64) * width + predictions, return_counts=True)
    pairs = [(*divmod(code, width), count) for code, count in zip(codes.tolist(), counts.tolist(), strict=True)]
    right = {label: count for label, answer, count in pairs if label == answer}
    return tuple(
        Renamed(label, answer, int(sizes[label]), count, right.get(label, 0))
        for label, answer, count in pairs
        if label != answer and sizes[label] >= FEWEST and 2 * count > max(sizes[label], answers[answer])
    )


@functools.lru_cache(maxsize=4096)
def _same(answers: Answers) -> Answers:
    """The same object for equal ones, since thousands of cells may have them."""
    return answers
