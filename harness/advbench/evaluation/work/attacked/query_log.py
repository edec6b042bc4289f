"""Records an attack's queries to the classifier, and the classifier's gradients at clean images."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from advbench.api import Access, Answer, Goal, LpBall, PerturbationSet, for_rows
from advbench.api.rows import QueriesSpent
from advbench.contracts.images import TOLERANCE
from advbench.errors import describe
from advbench.evaluation.plan.cells import NEEDS_NOTES
from advbench.evaluation.work.attacked.access import RestrictedClassifier
from advbench.evaluation.work.attacked.adaptive import count_draws, seen_logits
from advbench.evaluation.work.attacked.gradients_at_bounds import flat_at_bounds
from advbench.evaluation.work.attacked.missing_gradient import MissingGradientError
from advbench.evaluation.work.attacked.query_limit import NotLimitable, QueryLimit
from advbench.evaluation.work.attacked.query_meter import QueryMeter
from advbench.process.memory import is_out_of_memory

__all__ = ["CleanBaseline", "Gradients", "QueryLog", "RecordingClassifier", "clean_gradients"]


class Gradients(NamedTuple):
    """Properties of a classifier's gradients at clean images; tensors are bool, shape (batch,).

    Attributes:
        vanished: Whether the gradient is exactly 0 everywhere.
        non_finite: Whether the gradient contains NaN or infinity.
        flat_at_bounds: Whether the gradient is exactly 0 at the pixels near 0 or 1 and at no other; see
            :func:`~advbench.evaluation.work.attacked.gradients_at_bounds.flat_at_bounds`.
        error: The error of computing the gradient, or "".
    """

    vanished: torch.Tensor
    non_finite: torch.Tensor
    flat_at_bounds: torch.Tensor
    error: str


class CleanBaseline(NamedTuple):
    """A classifier on clean images, before any attack.

    Attributes:
        predictions: The predicted classes, int64, shape (batch,).
        gradients: Properties of its gradients.
    """

    predictions: torch.Tensor
    gradients: Gradients


class QueryLog:
    """The queries of an attack on one batch.

    Args:
        images: The clean images.
        goal: What the attack should make of them; a target class of -1 is never reached.
        perturbation: The attack's perturbation set.
        most: The largest number of forwards and of backwards of a sample; None for any.

    Attributes:
        queried_images: How many images the classifier got in all.
        knows_successes: Whether it is known which points are in the set.
        meter: The number of queries of each sample.
        limit: What holds them to ``most``, or None.
        followed: 1 if the attack has computed a gradient for the sample, else 0; int8, shape (batch,).
        sloped: 1 if one of these losses had a gradient in the logits, else 0; int8, shape (batch,).
    """

    def __init__(
        self, images: torch.Tensor, goal: Goal, perturbation: PerturbationSet, *, most: int | None = None
    ) -> None:
        self.images = images
        self.goal = goal
        self.perturbation = perturbation
        self.queried_images = 0
        self.knows_successes = perturbation.holds(images[:1], images[:1]) is not None
        if most is not None and not self.knows_successes:
            raise NotLimitable(NEEDS_NOTES)
        self._minimal = isinstance(perturbation, LpBall) and perturbation.eps is None
        self.meter = QueryMeter(goal.labels, sizes=self._minimal)
        self.limit = None if most is None else QueryLimit(most, images, goal, keep_last=not self._minimal)
        self.followed = torch.zeros_like(goal.labels, dtype=torch.int8)
        self.sloped = torch.zeros_like(self.followed)

    @property
    def seen(self) -> torch.Tensor:
        """Whether a queried point in the set reached the goal; bool, shape (batch,)."""
        return self.meter.seen

    @property
    def loss_without_slope(self) -> torch.Tensor:
        """Whether every loss that the attack followed was flat in the logits, as a saturated cross-entropy is.

        bool, shape (batch,).
        """
        return (self.followed > 0) & (self.sloped == 0)

    def record_gradients(self, rows: torch.Tensor | None, logits: object, draws: int = 1) -> None:
        """Records the gradients that are computed through a call's logits, and whether the loss has one in the logits.

        Args:
            rows: The samples of the logits; None for the whole batch.
            logits: The logits.
            draws: How many draws of the defense the call had.
        """
        if not isinstance(logits, torch.Tensor) or not logits.requires_grad or logits.ndim != 2:
            return

        def record(gradient: torch.Tensor) -> torch.Tensor | None:  # without a limit, it does not wait for the device
            sloped = (gradient != 0).any(dim=1).to(torch.int8)
            if rows is None:
                torch.maximum(self.sloped, sloped, out=self.sloped)
                self.followed.fill_(1)
            else:
                self.sloped.scatter_reduce_(0, rows, sloped, "amax")
                self.followed.index_fill_(0, rows, 1)
            if self.limit is None:
                self.meter.count_backwards(rows, len(gradient), draws)
                return None
            # A sample is charged for its own gradients alone: an attack may compute those of a part of the batch.
            asked = sloped.nonzero().flatten()
            numbers = asked if rows is None else rows[asked]
            within = self.limit.allowed(numbers, self.meter.backwards, draws)
            self.meter.count_backwards(numbers, len(asked), draws, within)
            allowed = torch.ones(len(gradient), dtype=torch.bool, device=gradient.device)
            allowed[asked] = within
            return gradient.masked_fill(~allowed[:, None], 0.0)

        if len(logits) == (len(self.goal) if rows is None else len(rows)):
            logits.register_hook(record)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def record_query(self, rows: torch.Tensor | None, points: torch.Tensor, logits: object, draws: int = 1) -> None:
        """Records one query.

        Args:
            rows: The samples of the points, which may repeat; None for the whole batch.
            points: Shape (points, channels, height, width).
            logits: The classifier's answer.
            draws: How many draws of the defense it is the mean of.
        """
        self.queried_images += len(points)
        self.meter.count_forwards(rows, len(points), draws)
        well_formed = isinstance(logits, torch.Tensor) and logits.ndim == 2 and len(logits) == len(points)
        if not well_formed or not self.knows_successes:
            return
        assert isinstance(logits, torch.Tensor)
        reached = (self.goal if rows is None else self.goal[rows]).reached(logits)
        if self.limit is not None:
            numbers = torch.arange(len(points), device=points.device) if rows is None else rows
            points = points.detach()
            sizes = self._sizes(numbers, points)
            self.limit.record(numbers, points, self._inside(numbers, points), reached, sizes)
        if not self._minimal:
            reached = reached & ~(self.seen if rows is None else self.seen[rows])
        if points.device.type == "cpu" and not reached.any():  # on other devices, this would wait
            return
        forwards = self.meter.spent_at(rows, draws)
        numbers = torch.arange(len(points), device=points.device) if rows is None else rows
        points = points.detach()
        if points.device.type == "cpu":
            numbers, points, forwards, reached = numbers[reached], points[reached], forwards[reached], reached[reached]
        inside = self._inside(numbers, points)
        best = self._sizes(numbers, points) if self._minimal else None
        self.meter.record_successes(numbers, forwards, reached & inside, best)

    def record_unknown(self, points: torch.Tensor, draws: int = 1) -> None:
        """Records a query for which it is unknown to which samples the points belong."""
        self.queried_images += len(points)
        self.meter.count_unknown(len(points), draws)

    def _inside(self, rows: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Whether points are in [0, 1] and in the set; bool, shape (points,)."""
        inside = ((points >= -TOLERANCE) & (points <= 1 + TOLERANCE)).flatten(1).all(dim=1)
        holds = self.perturbation.holds(self.images[rows], points)
        return inside if holds is None else inside & holds

    def _sizes(self, rows: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """The main sizes of points; float64, shape (points,)."""
        return next(iter(self.perturbation.sizes(self.images[rows], points, {}).values()))


class RecordingClassifier(RestrictedClassifier):
    """A classifier that records the queries it gets, and answers with no more than the attack's access.

    Args:
        target: The classifier.
        log: Where queries are recorded.
        label: What messages call the model.
        rows: The samples of the batch to which the images belong; None for all.
        attack: What messages call the attack.
        access: What the attack may get: ``gradients`` is everything, ``scores`` logits without a gradient, ``labels``
            the one-hot predicted class in float32, ``nothing`` no answer.
    """

    def __init__(
        self,
        target: torch.nn.Module,
        log: QueryLog,
        label: str,
        rows: torch.Tensor | None = None,
        *,
        attack: str = "the attack",
        access: Access = "gradients",
    ) -> None:
        super().__init__(target, label, attack=attack, access=access)
        self.log = log
        self.limited_queries = log.limit is not None
        self._rows = rows
        self._ending_rows: torch.Tensor | None = None  # the attack on these samples ends once they are spent
        self._draws = count_draws(target)
        self._forms = dict[bool, Answer]()  # the first call's and full answer's first row; copies for rows share it

    def for_rows(self, rows: torch.Tensor) -> RecordingClassifier:
        """The classifier for some of the samples; see :func:`advbench.api.for_rows`."""
        part = super().for_rows(rows)
        part._rows = rows if self._rows is None else self._rows[rows]
        return part

    def ending_when_spent(self) -> RecordingClassifier:
        """The classifier that ends the attack once its samples are spent; see :func:`advbench.api.until_spent`."""
        part = self._around(self.target)
        part._ending_rows = self._rows
        return part

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The classifier's logits, restricted to the access.

        Raises:
            ContractError: The classifier changed the images; or the attack has access to nothing.
            NotLimitable: There is a limit, and it is unknown to which samples the images belong.
            QueriesSpent: All samples of the attack have reached the limit, or all of the part that it attacks by
                itself.
        """
        return self._restricted(self._recorded(images, full=False).logits)

    def full_answer(self, images: torch.Tensor) -> Answer:
        """The classifier's full answer, restricted to the access; recorded as a call is.

        Raises:
            ContractError: As for :meth:`forward`, as are the others.
        """
        return self._restricted_answer(self._recorded(images, full=True))

    def _recorded(self, images: torch.Tensor, *, full: bool) -> Answer:
        self._check_access()
        if self.log.limit is not None:
            return self._answer_within(self.log.limit, images, full=full)
        answered = self._answer(self.target, images, full=full)
        if len(images) != (len(self.log.goal) if self._rows is None else len(self._rows)):
            self.log.record_unknown(images, self._draws)
            return answered
        return self._record(self._rows, images, answered)

    def _answer_within(self, limit: QueryLimit, images: torch.Tensor, *, full: bool) -> Answer:
        """The answer under a limit: images beyond it are not sent through the classifier."""
        rows = torch.arange(len(self.log.goal), device=images.device) if self._rows is None else self._rows
        if len(rows) != len(images):
            raise NotLimitable("it does not say to which samples the images of a query belong; use for_rows()")
        allowed = limit.allowed(rows, self.log.meter.forwards, self._draws)
        if allowed.all():
            return self._record(rows, images, self._answer(self.target, images, full=full))
        sent = allowed.nonzero().flatten()
        answered = None
        if len(sent):
            answered = self._answer(for_rows(self.target, sent), images[sent], full=full)
            answered = self._record(rows[sent], images[sent], answered)
        if limit.all_spent() or (self._ending_rows is not None and limit.all_spent(self._ending_rows)):
            raise QueriesSpent
        if full not in self._forms:
            with torch.no_grad():  # the number of classes alone, which no limit covers
                self._answer(for_rows(self.target, rows[:1] * 0), images[:1], full=full)
        form = self._forms[full]
        refused = limit.refusal(rows, images, form.logits.shape[1])
        logits = refused if answered is None else refused.index_copy(0, sent, answered.logits.to(refused.dtype))
        if form.score is None:
            return Answer(logits)
        accepted = refused[:, 0] * 0 - 1
        if answered is None or answered.score is None:
            return Answer(logits, accepted)
        return Answer(logits, accepted.index_copy(0, sent, answered.score.to(accepted.dtype)))

    def _answer(self, target: torch.nn.Module, images: torch.Tensor, *, full: bool = False) -> Answer:
        """The logits, or the full answer, of the classifier or of the part of it for some samples."""
        answered = super()._answer(target, images, full=full)
        logits, score = answered
        if full not in self._forms and isinstance(logits, torch.Tensor) and logits.ndim == 2:
            self._forms[full] = Answer(logits[:1].detach(), None if score is None else score[:1].detach())
        return answered

    def _record(self, rows: torch.Tensor | None, images: torch.Tensor, answered: Answer) -> Answer:
        """Records a query and its gradients; returns the answer whose gradients are recorded."""
        logits, score = answered
        if score is None:
            self.log.record_query(rows, images, logits, self._draws)
            self.log.record_gradients(rows, logits, self._draws)
            return answered
        labels = self.log.goal.labels if rows is None else self.log.goal.labels[rows]
        self.log.record_query(rows, images, seen_logits(answered, labels), self._draws)
        both = torch.cat((logits, score[:, None]), dim=1)  # one gradient, whichever of the two it passes through
        self.log.record_gradients(rows, both, self._draws)
        return Answer(both[:, :-1], both[:, -1])


def clean_gradients(target: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Gradients:
    """Computes the gradients at clean images of a loss that does not saturate.

    The loss is the largest logit of another class minus the logit of the true class.

    Args:
        target: The attacked classifier.
        images: Shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
    """

    def gradient(at: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            points = at.detach().clone().requires_grad_()
            logits = target(points)
            true = logits.gather(1, labels[:, None])[:, 0]
            others = logits.scatter(1, labels[:, None], -math.inf).amax(dim=1)
            return torch.autograd.grad((others - true).sum(), points)[0]

    try:
        gradients = gradient(images)
        flat = flat_at_bounds(gradients, images, gradient)
    except (RuntimeError, MissingGradientError) as error:
        if is_out_of_memory(error):
            raise
        none = torch.zeros_like(labels, dtype=torch.bool)
        return Gradients(~none, none, none, describe(error))
    non_finite = ~gradients.isfinite().flatten(1).all(dim=1)
    vanished = (gradients == 0).flatten(1).all(dim=1)
    return Gradients(vanished, non_finite, flat & ~non_finite, "")
