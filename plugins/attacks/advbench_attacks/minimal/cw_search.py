"""The search of Carlini and Wagner for the constant c, with an optimisation by Adam at each."""

from __future__ import annotations

import math

import torch

from advbench.api import for_rows, is_stochastic
from advbench_attacks.answers import ask
from advbench_attacks.input_gradients import doubt, each
from advbench_attacks.logit_differences import margin
from advbench_attacks.minimal.ddn_search import shrink_norms
from advbench_attacks.minimal.first_boundary import to_first_boundary
from advbench_attacks.minimal_steps import NearestPoints, confirmed, size

__all__ = ["ConstantSearch"]

_EDGE = 0.999999
"""How far from the ends of (-1, 1) the clean image is kept, so that its atanh is finite."""

_BEYOND = 0.05
"""How far the first point is beyond the boundary linearised at the clean image, as a share of the way."""

_STRAIGHT = 0.75
"""Slopes are not believed that lead across a boundary before this share of the way that they tell of."""

_APPROACH = 100
_SHARE = 10
"""Steps of DDN at most, and as a share of all, where the slopes at the clean image lead across none, or mislead."""

_HOPELESS = 0.25
"""A constant is passed over that is smaller than this share of what the slopes at the first point ask for."""

_LOOKS = 20
"""How often within the steps at one constant it is asked which samples still make progress."""

_PROGRESS = 1e-3
"""By what share of itself the lowest loss must have fallen since the last look."""

_NEAR = 0.5
"""The largest step, in w and if all values take it, as a share of the distance of the nearest point found."""

_MOMENTS = (0.9, 0.999)
_DIVISION = 1e-8
"""Adam's decay rates and the number added to its divisor (Kingma and Ba 2015, algorithm 1)."""


class ConstantSearch:
    """Minimises ‖x' − x‖₂² + c · max(0, z_y − max_{j≠y} z_j + confidence) over w, with x' = (tanh w + 1)/2.

    Each sample has a constant c of its own: multiplied by 10 until one succeeds, then half-way between the largest
    that failed and the smallest that succeeded (Carlini and Wagner 2017, sections V-B to VI-A). A sample's steps at
    a constant end early where its lowest loss has fallen by less than a thousandth of itself in a twentieth of them;
    it then leaves the batch. After a success the next constant goes on from the point of lowest loss.

    The search begins beside the nearest of the boundaries linearised at the clean image, and after a failure there
    again, or at the nearest point found. From the clean image it would end at the boundary with the likeliest other
    class, also where another is nearer; and black or white pixels, whose w lies far out, would hardly leave their
    place. Where the slopes at the clean image lead across no boundary or tell of one far behind the first that is
    crossed, as those of a network trained on attacked images do, it begins at what DDN finds. At a distance d whose
    margin is f, a constant below 2 d²/f draws back to the clean image if the slopes stay what they are; where it is
    much below, it counts as a failure without any steps, unless it is the last.

    Adam's first steps are as long as the learning rate says, whatever the constant. A boundary that is nearer is
    crossed by them alone, and a constant counts for more than that: it succeeds by points of later steps. Nor could
    steps as long as the distance settle near such a boundary; they become no longer than half of it.

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
        search_steps: How many constants are tried.
        steps: Largest number of steps of Adam a constant.
        learning_rate: Adam's step size.
        initial_const: The first constant.
        confidence: By how much another logit must exceed the true class's.

    Attributes:
        points: Per sample the nearest point found that fools the model, or the clean image.
        distances: Per sample its L2 distance, or infinity.
        starts: Per sample the w that the next constant begins at.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        *,
        search_steps: int,
        steps: int,
        learning_rate: float,
        initial_const: float,
        confidence: float,
    ) -> None:
        self.model = model
        self.images = images
        self.labels = labels
        self.search_steps = search_steps
        self.steps = steps
        self.learning_rate = learning_rate
        self.initial_const = initial_const
        self.confidence = confidence
        self.points = images.clone()
        self.distances = torch.full(labels.shape, math.inf, device=images.device)
        self._begins = self.starts = images.new_zeros(images.shape)

    def run(self) -> torch.Tensor:
        """Searches.

        Returns:
            Images of the clean images' shape; the clean image for a sample that is misclassified already, or
            that no constant fooled.
        """
        rows, least = self._begin()
        constants = torch.full((len(rows),), self.initial_const, device=rows.device)
        failed, succeeded = torch.zeros_like(constants), torch.full_like(constants, math.inf)
        for left in reversed(range(self.search_steps if len(rows) else 0)):
            tried = (constants >= _HOPELESS * least) | succeeded.isfinite() | (left == 0)
            success = torch.zeros_like(tried)
            if tried.any():
                success[tried] = self._descend(rows[tried], constants[tried])
            succeeded = torch.where(success, constants, succeeded)
            failed = torch.where(success, failed, constants)
            constants = torch.where(succeeded.isfinite(), (failed + succeeded) / 2, constants * 10)
        return confirmed(self.model, self.points, self.images, self.labels, found=self.distances.isfinite())

    def rates(self, distances: torch.Tensor) -> torch.Tensor:
        """Adam's step size for samples that have a point at these distances, or none yet: shape (samples,)."""
        largest: float = _NEAR / self.images[0].numel() ** 0.5
        return (largest * distances).clamp(max=self.learning_rate)

    def _begin(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Takes the points where the search begins.

        Returns:
            Which samples are classified right, and of each of them the smallest constant that would lead across the
            boundary if it were as the slopes at the clean image tell; 0 where these tell of none.
        """
        first = to_first_boundary(self.model, self.images, self.labels, "l2", steps=self.search_steps * self.steps)
        rows = (first.logits.argmax(dim=1) == self.labels).nonzero().flatten()
        begins = (self.images + (1 + _BEYOND) * first.changes).clamp(0, 1)
        if self.confidence == 0 and len(rows) and not is_stochastic(self.model):
            nearest = NearestPoints(self.images, self.labels, "l2")
            hit = nearest.look_at(self.model, rows, begins[rows])
            nearest.look_on_the_way(self.model, rows[hit])
            believed = hit & (nearest.distances > _STRAIGHT * size(begins - self.images, "l2"))[rows]
            misled, steps = rows[~believed], min(_APPROACH, self.search_steps * self.steps // _SHARE)
            if len(misled) and steps:
                among = for_rows(self.model, misled), self.images[misled], self.labels[misled]
                nearest.take(misled, shrink_norms(*among, steps=steps))
            begins = torch.where(each(nearest.distances.isfinite()), nearest.points, begins)
            self.points, self.distances = nearest.points, nearest.distances
        self._begins = _to_w(begins)
        self.starts = self._begins.clone()
        least = -2 * size(begins - self.images, "l2").square() / margin(first.logits, self.labels)
        return rows, least[rows].nan_to_num(0.0)

    def _descend(self, rows: torch.Tensor, constants: torch.Tensor) -> torch.Tensor:
        """Takes the steps of these samples at one constant each; returns which of them fooled the model."""
        state = _State(self, rows, constants)
        success = torch.zeros_like(rows, dtype=torch.bool)
        look = max(1, self.steps // _LOOKS)
        for step in range(1, self.steps + 1):
            state.step(step)
            if step == self.steps:
                stopped = torch.ones_like(state.success)
            elif step % look == 0:
                stopped = state.without_progress()
            else:
                continue
            success[state.order[stopped]] = state.success[stopped]
            ended = state.rows[stopped]
            self.points[ended] = state.points[stopped]
            self.distances[ended] = state.distances[stopped]
            found = state.distances[stopped].isfinite()
            again = torch.where(each(found), _to_w(state.points[stopped]), self._begins[ended])
            self.starts[ended] = torch.where(each(state.success[stopped]), state.lowest_at[stopped], again)
            state.keep(~stopped)
            if not len(state.rows):
                break
        return success


def _to_w(points: torch.Tensor) -> torch.Tensor:
    """The w of points in [0, 1]."""
    return torch.atanh((2 * points - 1) * _EDGE)


class _State:
    """The samples that still take steps at their constant; every tensor has one row a sample.

    Attributes:
        rows: Which samples they are.
        order: Where they stood when the descent began.
        success: Whether one of their points has fooled the model at this constant.
        points: The nearest that ever did.
        distances: Its L2 distance.
        lowest_at: The w of the lowest loss.
    """

    def __init__(self, search: ConstantSearch, rows: torch.Tensor, constants: torch.Tensor) -> None:
        self._search = search
        self.rows = rows
        self.order = torch.arange(len(rows), device=rows.device)
        self.success = torch.zeros_like(rows, dtype=torch.bool)
        self.points = search.points[rows]
        self.distances = search.distances[rows]
        self.lowest_at = search.starts[rows]
        self._constants = constants
        self._images = search.images[rows]
        self._labels = search.labels[rows]
        self._w = self.lowest_at
        self._first, self._second = torch.zeros_like(self._w), torch.zeros_like(self._w)
        self._lowest = torch.full_like(constants, math.inf)
        self._before = self._lowest
        self._looked = False

    def step(self, count: int) -> None:
        """Looks at the points as they are, and takes Adam's step number ``count``."""
        tanh = self._w.tanh()
        with torch.enable_grad():
            points = ((tanh + 1) / 2).requires_grad_()
            logits = ask(for_rows(self._search.model, self.rows), points)
            hinge, lead = self._margins(logits)
            (slope,) = torch.autograd.grad((self._constants * hinge).sum(), points)
        points = points.detach()
        change = points - self._images
        square = change.flatten(1).square().sum(dim=1)
        self._note(points, square, lead, square + self._constants * hinge.detach())
        slope = (slope + 2 * change) * (1 - tanh * tanh) / 2
        self._first = torch.lerp(self._first, slope, 1 - _MOMENTS[0])
        self._second = torch.lerp(self._second, slope * slope, 1 - _MOMENTS[1])
        rate = self._search.rates(self.distances) / (1 - _MOMENTS[0] ** count)
        divisor = (self._second / (1 - _MOMENTS[1] ** count)).sqrt() + _DIVISION
        self._w = self._w - each(rate) * self._first / divisor

    def without_progress(self) -> torch.Tensor:
        """Which samples' lowest loss has hardly fallen since this was last asked: bool, shape (samples,)."""
        if not self._looked:  # the first steps are as long for any constant, and may lead across by that alone
            self.success.zero_()
            self._looked = True
        still = ~(self._lowest < (1 - _PROGRESS) * self._before)
        self._before = self._lowest
        return still

    def keep(self, which: torch.Tensor) -> None:
        """Goes on with these samples only."""
        for name, value in vars(self).items():
            if isinstance(value, torch.Tensor):
                setattr(self, name, value[which])

    def _margins(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The hinge of the loss, and whether another class leads by the confidence, and clearly."""
        labels = self._labels[:, None]
        true = logits.gather(1, labels)[:, 0]
        lack = true - logits.scatter(1, labels, float("-inf")).amax(dim=1) + self._search.confidence
        return lack.clamp(min=0), -lack.detach() > doubt(logits.detach())

    def _note(self, points: torch.Tensor, square: torch.Tensor, lead: torch.Tensor, loss: torch.Tensor) -> None:
        """Keeps the nearest points that fool the model, and where the loss is lowest."""
        distances = square.sqrt()
        nearer = lead & (distances < self.distances)
        self.success |= lead
        self.distances = torch.where(nearer, distances, self.distances)
        self.points = torch.where(each(nearer), points, self.points)
        lower = loss < self._lowest
        self._lowest = torch.where(lower, loss, self._lowest)
        self.lowest_at = torch.where(each(lower), self._w, self.lowest_at)
