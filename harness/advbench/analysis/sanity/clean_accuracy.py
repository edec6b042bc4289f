"""Checks that need no attack: clean accuracy, labels, scale of pixels, and size of the budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from advbench.analysis.clean_predictions import CleanPredictions
from advbench.analysis.intervals import binomial_tail, wilson
from advbench.analysis.sanity.finding import Finding, FinishedCell, group_by, indices

__all__ = ["eps_beyond_images", "labels_renumbered", "no_better_than_chance", "one_class_answered"]

SIGNIFICANCE = 0.001
"""Significance level of findings about labels and predictions."""

FOLLOWED_SHARE = 0.7
"""Share of the samples of renumbered classes that must follow the other numbering."""

FEWEST = 10
"""Fewest samples for comparing with chance, which is estimated from their most frequent class."""

LEARNT_SHARE = 1 / 4
"""A classifier that has learnt something is assumed to be at least this far from chance to no errors."""

CHANCE_SIGNIFICANCE = 0.01
"""Significance level for rejecting that a classifier with an accuracy at chance has learnt something."""

ERROR_SHARE = 1 / 3
"""Share of all samples that a sound classifier does not predict as one wrong class."""

_SHOWN = 3
"""Number of renumbered classes that a message names."""


def no_better_than_chance(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """A model, with or without a defense, whose clean accuracy is not above that of predicting the most frequent class.

    It must also be unlikely for a classifier that is a quarter of the way from chance to no errors, so that few samples
    do not cause a finding.
    """
    for group in group_by(cells, lambda cell: (*cell.pair, cell["defense"])):
        cell = group[0]
        clean, chance, n = cell.summary.measured["clean_accuracy"], cell.summary.chance, cell.n
        wrong = n - round(clean * n)
        error = (1 - chance) * (1 - LEARNT_SHARE)
        if (
            n < FEWEST
            or chance >= 1
            or wilson(clean * n, n)[0] > chance
            or binomial_tail(wrong, n, error) >= CHANCE_SIGNIFICANCE
        ):
            continue
        below = wilson(clean * n, n)[1] < chance
        order = "the labels have the order of the training, " if below else ""
        if cell["identity"]:
            advice = (
                f"robust accuracies of such a model mean nothing: check that {order}the pixels have the scale of the "
                "training (the input is in [0, 1]), the weights were loaded, and the model is for this dataset"
            )
        else:
            advice = (
                "robust accuracies of such a defense mean nothing: compare with the defense 'none', and weaken the "
                "defense or train the model with it"
            )
        yield Finding(
            "clean-accuracy-at-chance",
            indices(group),
            f"the clean accuracy of {cell.defense} is {clean:.1%} of {n} samples, and always predicting their most "
            f"frequent class would give {chance:.1%}",
            advice,
        )


def labels_renumbered(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """Labels that differ from the model's numbering by a shift, or by other numbers for some classes."""
    for group, subject, predictions in _clean_predictions(cells):
        described = _shifted(predictions) or _renumbered(predictions, group[0])
        if described:
            yield Finding(
                "labels-renumbered",
                indices(group),
                f"{subject} predicts {described}; {predictions.correct} of {predictions.n} clean samples are predicted "
                "as their label",
                "number the labels like the model's outputs: from 0, in the order of its training (folders are "
                "numbered in the order of their names)",
            )


def _shifted(predictions: CleanPredictions) -> str:
    """Describes a shift if most predictions are the label plus or minus the same number; otherwise empty."""
    followed, n = predictions.shifted, predictions.n
    if followed < FOLLOWED_SHARE * n or binomial_tail(followed, n, 0.5) >= SIGNIFICANCE:
        return ""
    forth, back = predictions.shift, predictions.size - predictions.shift
    by = f"plus {forth}" if forth <= back else f"minus {back}"
    return f"the label {by} for {followed} of {n} samples"


def _renumbered(predictions: CleanPredictions, cell: FinishedCell) -> str:
    """Describes the classes of a cell's dataset that have other numbers; empty if there are none."""
    renumbered = predictions.renumbered
    total, followed, correct = (
        sum(getattr(item, name) for item in renumbered) for name in ("n", "followed", "correct")
    )
    if (
        len(renumbered) < 2
        or followed < FOLLOWED_SHARE * total
        or binomial_tail(followed, followed + correct, 0.5) >= SIGNIFICANCE
    ):
        return ""
    several = ", ".join(
        f"{cell.class_label(item.label)} as {cell.class_label(item.prediction)}" for item in renumbered[:_SHOWN]
    )
    more = ", …" if len(renumbered) > _SHOWN else ""
    return f"{followed} of {total} samples of {len(renumbered)} classes as other numbers (label {several}{more})"


def one_class_answered(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """An undefended model that predicts one wrong class for over a third of all samples, or one class for all."""
    for group, subject, predictions in _clean_predictions(cells):
        if group[0]["threat"] == "adaptive" and not group[0]["identity"]:
            continue  # a strong defense may make all images look alike
        many = binomial_tail(predictions.frequent_errors, predictions.n, ERROR_SHARE) < SIGNIFICANCE
        # A classifier that has learnt something predicts a quarter of the samples of rarer classes correctly.
        unlikely = (1 - LEARNT_SHARE) ** predictions.frequent_errors < CHANCE_SIGNIFICANCE
        if many or (predictions.frequent_count == predictions.n and unlikely):
            yield Finding(
                "one-class-answered",
                indices(group),
                f"{subject} predicts class {group[0].class_label(predictions.frequent)} for "
                f"{predictions.frequent_count} of {predictions.n} clean samples, {predictions.frequent_errors} of them "
                "with another label",
                "the pixels may be scaled differently than in training, or the weights not loaded: the input is in "
                "[0, 1], so normalisation (mean and deviation, or times 255) belongs inside the network",
            )


def eps_beyond_images(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """A budget larger than the largest distance between two images, such as eps=8 instead of eps=8/255."""
    budgeted = [cell for cell in cells if cell.budget]
    for group in group_by(budgeted, lambda cell: (cell["dataset"], cell["attack"])):
        norm, eps = group[0].budget or ("", 0.0)
        largest = _largest_distance(norm, group[0].described.get("image_shape"))
        if largest is None or eps <= largest * (1 + 1e-6):
            continue
        unit = "each value" if norm == "linf" else f"images by {norm}"
        meant = f"; {eps:g} of 255 steps is eps={eps:g}/255" if norm == "linf" else ""
        yield Finding(
            "eps-beyond-images",
            indices(group),
            f"{group[0].attack} may change {unit} by {eps:g}, but no two images in [0, 1] are farther apart than "
            f"{largest:.4g}",
            f"give eps in the scale of the images, from 0 to 1{meant}",
        )


def _largest_distance(norm: str, shape: Sequence[int] | None) -> float | None:
    """The largest distance between two images in [0, 1]; None if it is unknown."""
    if norm == "linf":
        return 1.0
    if shape is None:
        return None
    values = math.prod(shape)
    pixels = float(math.prod(shape[1:]))
    return {"l2": math.sqrt(values), "l1": float(values), "l0": float(values), "l0-pixels": pixels}.get(norm)


def _clean_predictions(cells: Sequence[FinishedCell]) -> Iterator[tuple[Sequence[FinishedCell], str, CleanPredictions]]:
    """For each dataset and model: the cells that depend on its clean predictions, its name, and these predictions.

    They are those of the undefended model if it was attacked, otherwise those with the first defense.
    """
    for group in group_by(cells, lambda cell: cell.pair):
        known = [cell for cell in group if cell["threat"] != "transfer" and cell.summary.clean_predictions is not None]
        undefended = [cell for cell in known if cell["threat"] == "oblivious" or cell["identity"]]
        if not known:
            continue
        first = (undefended or known)[0]
        same = undefended or [cell for cell in known if cell["defense"] == first["defense"]]
        subject = "the undefended model" if undefended else first.defense
        if first.summary.clean_predictions is not None:
            yield same, subject, first.summary.clean_predictions
