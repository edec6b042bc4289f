"""Attacks on classifiers behind defenses: which samples are queried, and how reliable the gradients are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

import torch

from advbench.api.defense import Answer
from advbench.errors import ContractError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "ClassifierWrapper",
    "QueriesSpent",
    "RowAware",
    "answer",
    "can_reject",
    "for_rows",
    "has_approximate_gradients",
    "has_limited_queries",
    "is_stochastic",
    "until_spent",
]


class QueriesSpent(BaseException):
    """Ends an attack whose samples have all asked for more queries than allowed; see :func:`until_spent`.

    It is no ``Exception``, so that an attack that catches those does not catch it.
    """


@runtime_checkable
class RowAware(Protocol):
    """A classifier with random streams per sample, whose output depends on which sample an image belongs to."""

    def for_rows(self, rows: torch.Tensor) -> torch.nn.Module:
        """This classifier for images of these rows of the batch; see :func:`for_rows`."""


def for_rows(model: torch.nn.Module, rows: torch.Tensor) -> torch.nn.Module:
    """The model, for images of selected samples of the attack's batch.

    An attack that removes solved samples from the batch, or evaluates several points of one sample at once, calls
    ``for_rows(model, rows)(images)`` instead of ``model(images)``. A classifier behind a randomised defense then
    draws from the streams of these samples, so that the result of a sample does not depend on its batch. Any other
    model is returned unchanged.

    Args:
        model: The classifier passed to the attack.
        rows: The sample of each image, as indices into the attack's batch, int64, shape (images,). Indices may
            repeat.
    """
    # Attacks call this at every step, and isinstance with a protocol is many times slower than hasattr.
    return cast(RowAware, model).for_rows(rows) if hasattr(model, "for_rows") else model


def answer(model: torch.nn.Module, images: torch.Tensor) -> Answer:
    """The full answer of the attacked classifier: its own logits, and the score of the detector in front of it.

    A call ``model(images)`` gives logits that combine the two, see :meth:`advbench.api.Defense.attack_logits`. An
    attack that is made for detectors asks for both instead; it counts as one forward, as a call does.

    Behind a stochastic defense, logits and score are means over the draws. An attack with the access ``gradients`` can
    follow autograd from both to the images; with ``scores`` they have no gradient; with ``labels`` the logits are
    one-hot, and the score is 1 for a rejected image and -1 for an accepted one.

    Args:
        model: The classifier passed to the attack, or what :func:`for_rows` returned for it.
        images: float32 in [0, 1], shape (batch, channels, height, width).

    Returns:
        Logits of shape (batch, classes), and a score of shape (batch,), above 0 where the image is rejected. The score
        is None if the classifier rejects nothing, as without a defense; the logits are then those of a call.
    """
    full = getattr(model, "full_answer", None)
    if full is None:
        return Answer(model(images))
    answered: Answer = full(images)
    return answered


def can_reject(model: torch.nn.Module) -> bool:
    """Whether the model is behind a :class:`~advbench.api.Detector`, so that :func:`answer` returns a score.

    False if the detector overrides :meth:`~advbench.api.Defense.attack_logits`: its author has chosen what attacks
    follow. A classifier declares it with an attribute ``can_reject``; a :class:`ClassifierWrapper` has its target's.
    """
    return bool(getattr(model, "can_reject", False))


def is_stochastic(model: torch.nn.Module) -> bool:
    """Whether the model is behind a stochastic defense, so that two calls on one image may give different outputs.

    The number of times that an attack queries such a model about a sample must not depend on the other samples of the
    batch. A classifier declares it with an attribute ``stochastic``; a :class:`ClassifierWrapper` has its target's.
    """
    return bool(getattr(model, "stochastic", False))


def has_approximate_gradients(model: torch.nn.Module) -> bool:
    """Whether the model's gradient is noisy or an approximation.

    This is so behind a stochastic or non-differentiable defense. An attack then makes more progress with longer steps.
    A classifier declares it with an attribute ``approximate_gradients``; a :class:`ClassifierWrapper` has its target's.
    """
    return bool(getattr(model, "approximate_gradients", False))


def has_limited_queries(model: torch.nn.Module) -> bool:
    """Whether queries to the model are limited, as with ``--max-queries``.

    The number of times that an attack queries such a model about a sample must not depend on the other samples of the
    batch, or else the result would. A classifier declares it with an attribute ``limited_queries``; a
    :class:`ClassifierWrapper` has its target's.
    """
    return bool(getattr(model, "limited_queries", False))


def until_spent(
    model: torch.nn.Module, run: Callable[[torch.nn.Module], torch.Tensor], images: torch.Tensor
) -> tuple[torch.Tensor, bool]:
    """Attacks a part of the batch, and ends once all samples of the part have spent their queries.

    A run ends an attack by itself when all samples of the batch are spent. An attack that goes through the batch sample
    by sample uses this function for each of them; otherwise, the search for a spent sample goes on with meaningless
    answers until it ends by itself.

    Args:
        model: The classifier for the samples of this part; see :func:`for_rows`.
        run: The attack on this part, called with the classifier to use.
        images: The clean images of this part.

    Returns:
        What ``run`` returns, and False; or ``images`` and True if the queries were spent before. A run replaces the
        images of spent samples: each gets its nearest success within the limit, or else its last point.
    """
    ending: Callable[[], torch.nn.Module] | None = getattr(model, "ending_when_spent", None)
    try:
        return run(model if ending is None else ending()), False
    except QueriesSpent:
        return images, True


class ClassifierWrapper(torch.nn.Module):
    """Base class of classifiers that call another classifier, such as one that counts queries or changes gradients.

    An attack treats a classifier according to what it declares: see :func:`for_rows`, :func:`is_stochastic`,
    :func:`has_approximate_gradients`, :func:`has_limited_queries` and :func:`can_reject`. A wrapper that does not
    forward a declaration changes the attack. This class forwards all of them. A subclass defines :meth:`forward`, which
    calls ``self.target``; what it does to images and logits, it does for :func:`answer`, too.

    The wrapper is in eval mode, as its target must be.

    Args:
        target: The classifier to call, from images in [0, 1] to logits of shape (batch, classes).

    Attributes:
        target: The classifier.
        stochastic: See :func:`is_stochastic`.
        approximate_gradients: See :func:`has_approximate_gradients`.
        limited_queries: See :func:`has_limited_queries`.
        can_reject: See :func:`can_reject`.
    """

    target: torch.nn.Module

    def __init__(self, target: torch.nn.Module) -> None:
        super().__init__()
        self.training = False
        self.target = target
        self.stochastic = is_stochastic(target)
        self.approximate_gradients = has_approximate_gradients(target)
        self.limited_queries = has_limited_queries(target)
        self.can_reject = can_reject(target)

    def for_rows(self, rows: torch.Tensor) -> Self:
        """A copy of this wrapper around the target for these rows; all other attributes are shared, not copied.

        Override it, and call it, if an attribute depends on the rows.

        Args:
            rows: As for :func:`for_rows`.
        """
        return self._around(for_rows(self.target, rows))

    def ending_when_spent(self) -> Self:
        """A copy of this wrapper for :func:`until_spent`; its target raises :class:`QueriesSpent`."""
        ending = getattr(self.target, "ending_when_spent", None)
        return self if ending is None else self._around(ending())

    def full_answer(self, images: torch.Tensor) -> Answer:
        """What :func:`answer` returns: the logits of :meth:`forward` with the target's own logits, and its score.

        Override it if :meth:`forward` calls the target several times about one image.

        Args:
            images: As for :func:`answer`.

        Raises:
            ContractError: :meth:`forward` did not call the target once about each image.
        """
        keeper = _ScoreKeeper(self.target)
        logits: torch.Tensor = self._around(keeper)(images)
        scores = [score for score in keeper.scores if score is not None]
        if not scores:
            return Answer(logits)
        score = scores[0] if len(scores) == 1 else torch.cat(scores)
        if len(score) != len(logits):
            raise ContractError(
                f"{type(self).__name__} asked its target about {len(score)} images for {len(logits)}; "
                "define full_answer()"
            )
        return Answer(logits, score)

    def _around(self, target: torch.nn.Module) -> Self:
        """A copy of this wrapper around another target."""
        part = type(self).__new__(type(self))
        part.__dict__ = {**self.__dict__, "_modules": dict(self._modules)}
        part.target = target
        return part


class _ScoreKeeper(ClassifierWrapper):
    """Answers with the target's own logits, and keeps its scores in the order of the calls."""

    def __init__(self, target: torch.nn.Module) -> None:
        super().__init__(target)
        self.scores = list[torch.Tensor | None]()  # shared with copies for rows

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        answered = answer(self.target, images)
        self.scores.append(answered.score)
        return answered.logits
