"""Checks of what comes before any attack: clean accuracy, labels, pixels, and the size of the budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from advbench.analysis.answers import Answers
from advbench.analysis.intervals import at_least, wilson
from advbench.analysis.sanity.finding import Finding, Seen, grouped, places

__all__ = ["eps_beyond_images", "labels_renumbered", "no_better_than_chance", "one_class_answered"]

UNLIKELY = 0.001
"""How unlikely what was seen must be of a classifier in order to be a finding."""

FOLLOWED = 0.7
"""Which share of the samples of renumbered classes must follow the other numbering."""

FEWEST = 10
"""Below how many samples nothing is said of chance, which is their own most frequent class."""

ABOVE_CHANCE = 1 / 4
"""How far from chance to no error a classifier that is worth attacking stands at least."""

FEW = 0.01
"""How unlikely of such a classifier an accuracy at chance must be in order to be a finding."""

MISTAKEN = 1 / 3
"""Which share of all samples a classifier in order does not give one wrong class."""

_SHOWN = 3
"""How many renumbered classes a message names."""


def no_better_than_chance(cells: Sequence[Seen]) -> Iterator[Finding]:
    """A model, defended or not, whose clean accuracy is that of always answering the most frequent class, or less.

    Few samples do not show it: it must also be unlikely of a classifier a quarter of the way from chance to no error.
    """
    for group in grouped(cells, lambda cell: (*cell.pair, cell["defense"])):
        cell = group[0]
        clean, chance, n = cell.summary.measured["clean_accuracy"], cell.summary.chance, cell.n
        wrong = n - round(clean * n)
        error = (1 - chance) * (1 - ABOVE_CHANCE)
        if n < FEWEST or chance >= 1 or wilson(clean * n, n)[0] > chance or at_least(wrong, n, error) >= FEW:
            continue
        below = wilson(clean * n, n)[1] < chance
        why = "labels in another order or " if below else ""
        if cell["identity"]:
            advice = (
                f"robust accuracies of such a model mean nothing: look for {why}pixels in another scale than in "
                "training (networks are given [0, 1]), weights that were not loaded, or another dataset's model"
            )
        else:
            advice = (
                "robust accuracies behind such a defense mean nothing: compare with the defense none, and weaken the "
                "defense or train the model behind it"
            )
        yield Finding(
            "clean-accuracy-at-chance",
            places(group),
            f"the clean accuracy of {cell.defense} is {clean:.1%} of {n} samples, and always answering their most "
            f"frequent class would give {chance:.1%}",
            advice,
        )


def labels_renumbered(cells: Sequence[Seen]) -> Iterator[Finding]:
    """Labels that the model knows by other numbers: shifted by one, or each class's samples by one other answer."""
    for group, subject, answers in _unattacked(cells):
        told = _shifted(answers) or _renamed(answers)
        if told:
            yield Finding(
                "labels-renumbered",
                places(group),
                f"{subject} answers {told}; {answers.right} of {answers.n} clean samples are answered by their label",
                "number the labels as the model numbers its outputs: from 0, in the order of its training (folders are "
                "numbered in the order of their names)",
            )


def _shifted(answers: Answers) -> str:
    """That most answers are the label plus or minus a number, in words; or nothing."""
    followed, n = answers.shifted, answers.n
    if followed < FOLLOWED * n or at_least(followed, n, 0.5) >= UNLIKELY:
        return ""
    forth, back = answers.shift, answers.size - answers.shift
    by = f"plus {forth}" if forth <= back else f"minus {back}"
    return f"the label {by} for {followed} of {n} samples"


def _renamed(answers: Answers) -> str:
    """That some classes get other numbers, in words; or nothing."""
    renamed = answers.renamed
    total, followed, right = (sum(one[column] for one in renamed) for column in (2, 3, 4))
    if len(renamed) < 2 or followed < FOLLOWED * total or at_least(followed, followed + right, 0.5) >= UNLIKELY:
        return ""
    several = ", ".join(f"{one.label} by {one.answer}" for one in renamed[:_SHOWN])
    more = ", …" if len(renamed) > _SHOWN else ""
    return f"{followed} of {total} samples of {len(renamed)} classes by other numbers (label {several}{more})"


def one_class_answered(cells: Sequence[Seen]) -> Iterator[Finding]:
    """An undefended model that gives more than a third of all samples one wrong class, or all of them one class."""
    for group, subject, answers in _unattacked(cells):
        if group[0]["threat"] == "adaptive" and not group[0]["identity"]:
            continue  # a defense may well blur everything into one class
        many = at_least(answers.mistaken, answers.n, MISTAKEN) < UNLIKELY
        # One that has learnt anything has a quarter of the rarer classes' samples right.
        if many or (answers.answered == answers.n and (1 - ABOVE_CHANCE) ** answers.mistaken < FEW):
            yield Finding(
                "one-class-answered",
                places(group),
                f"{subject} answers class {answers.frequent} for {answers.answered} of {answers.n} clean samples, "
                f"{answers.mistaken} of them with another label",
                "the pixels may be scaled otherwise than in training, or the weights not loaded: networks are given "
                "[0, 1], so that their own normalisation (mean and deviation, or times 255) belongs into the network",
            )


def eps_beyond_images(cells: Sequence[Seen]) -> Iterator[Finding]:
    """A budget that is larger than any two images are apart, such as eps=8 where 8/255 is meant."""
    budgeted = [cell for cell in cells if cell.budget]
    for group in grouped(budgeted, lambda cell: (cell["dataset"], cell["attack"])):
        norm, eps = group[0].budget or ("", 0.0)
        widest = _diameter(norm, group[0].told.get("image_shape"))
        if widest is None or eps <= widest * (1 + 1e-6):
            continue
        unit = "each value" if norm == "linf" else f"images by {norm}"
        meant = f"; {eps:g} of 255 steps is eps={eps:g}/255" if norm == "linf" else ""
        yield Finding(
            "eps-beyond-images",
            places(group),
            f"{group[0].attack} may change {unit} by {eps:g}, and no two images in [0, 1] are further apart than "
            f"{widest:.4g}",
            f"give eps in the scale of the images, from 0 to 1{meant}",
        )


def _diameter(norm: str, shape: Sequence[int] | None) -> float | None:
    """How far two images in [0, 1] can be apart; None where that is unknown."""
    if norm == "linf":
        return 1.0
    if shape is None:
        return None
    values = math.prod(shape)
    return {"l2": math.sqrt(values), "l1": float(values), "l0": float(values)}.get(norm)


def _unattacked(cells: Sequence[Seen]) -> Iterator[tuple[Sequence[Seen], str, Answers]]:
    """Per dataset and model the cells whose numbers rest on what it answers on clean images, and these answers.

    The undefended model's where it was attacked, else those of the first defended one.
    """
    for group in grouped(cells, lambda cell: cell.pair):
        known = [cell for cell in group if cell["threat"] != "transfer" and cell.summary.answers is not None]
        undefended = [cell for cell in known if cell["threat"] == "oblivious" or cell["identity"]]
        if not known:
            continue
        first = (undefended or known)[0]
        same = undefended or [cell for cell in known if cell["defense"] == first["defense"]]
        subject = "the undefended model" if undefended else first.defense
        if first.summary.answers is not None:
            yield same, subject, first.summary.answers
