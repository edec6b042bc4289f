"""Contract rules of attacks."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from advbench.api import Artefact, Attack, ContractError, Goal, SampleRandom, artefact_file_of
from advbench.api.goal import UNTARGETED, goal_of
from advbench.contracts.access import check_access
from advbench.contracts.artefacts import trial_artefact
from advbench.contracts.attacks import check_adversarial, check_crafted, check_notes, check_sizes
from advbench.contracts.budgets import (
    check_budget,
    check_group_size,
    check_norm,
    check_perturbation,
    check_view,
    is_minimal,
)
from advbench.contracts.goals import choose_targets
from advbench.contracts.images import TOLERANCE, check_form, check_unchanged
from advbench.evaluation.work.attacked.access import RestrictedClassifier
from advbench.testing.common import common_rules, cuda
from advbench.testing.finding import Rule, RuleSkipped, contract_of, expect
from advbench.testing.fixtures import (
    CLASSES,
    SHAPES,
    ConstantClassifier,
    Guarded,
    Linear,
    edge_images,
    forbid_global_generators,
    near_grey_images,
)

__all__ = ["attack_rules"]

_COUNT = 5
_TOLERANCE = 1e-3
"""Allowed difference between images due to rounding, as a mean over pixels."""

_MIN_BUDGET_RATIO = 4
"""The success rule applies if the budget is at least so many times the distance of every image to a boundary."""


def attack_rules(attack: Attack) -> Iterator[Rule]:
    """Yields the rules on sets, range, inputs, randomness, batches, labels, success, failures and devices."""
    run = contract_of(attack, "craft")
    trial = _Trial(attack)
    form = "float32 images in [0, 1], of the input's shape and inside the perturbation set"
    yield Rule(
        "budget and norm", contract_of(attack, "budget"), trial.reports_budget, "a Budget or None, and a norm or None"
    )
    yield Rule(
        "perturbation set", contract_of(attack, "perturbation"), trial.reports_set, "a PerturbationSet and its size"
    )
    if trial.fits:
        fit = contract_of(attack, "fit")
        yield Rule("fits an artefact", fit, trial.fit, "a dictionary of names to tensors, finite numbers and texts")
        yield Rule("same random numbers, same artefact", fit, trial.same_fit)
    yield Rule("images in range and inside the perturbation set", run, trial.form, form)
    yield Rule("inputs unchanged", run, trial.unchanged, "images and labels that are not changed in place")
    yield Rule("model unchanged", run, trial.model_unchanged, "a model with unchanged weights, in eval mode")
    yield Rule("no more than its access", contract_of(attack, "access"), trial.access, "no call beyond its access")
    yield Rule("same random numbers, same images", run, trial.reproducible)
    yield Rule("random numbers from rng alone", run, trial.no_global_randomness)
    yield Rule("independent of its batch", run, trial.batches)
    yield Rule("independent of other samples' labels", run, trial.labels)
    yield Rule("fools a linear classifier", run, trial.success)
    yield Rule("returns clean images where it fails", run, trial.failure, form)
    yield Rule("works behind a detector", run, trial.detector, form)
    yield Rule("on CUDA", run, trial.on_cuda, form)
    yield from common_rules(attack)


def _accepted_shape(attack: Attack) -> tuple[int, int, int]:
    """The first of the usual shapes that the attack can attack."""
    try:
        return next((shape for shape in SHAPES if not attack.misfit(shape, CLASSES)), SHAPES[0])
    except Exception:  # reported by the first rule
        return SHAPES[0]


def _equal(one: object, other: object) -> bool:
    """Whether two entries of artefacts are equal."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    return one == other


class _Trial:
    """Runs an attack on a linear classifier with known distances, and on a constant classifier.

    Args:
        attack: The attack.
        make_images: Makes a number of images of a shape.
    """

    def __init__(
        self,
        attack: Attack,
        make_images: Callable[[tuple[int, int, int], int], torch.Tensor] = near_grey_images,
    ) -> None:
        self.attack = attack
        self._first_error: ContractError | None = None
        shape = _accepted_shape(attack)
        self.model = Linear(shape).eval()
        self.images = make_images(shape, _COUNT)
        with torch.no_grad():
            self.predictions = self.model(self.images).argmax(dim=1)

    def run(
        self, rows: Sequence[int], *, model: torch.nn.Module | None = None, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns the images of some samples, after checking their form; an attack with groups gets one at a time."""
        size = check_group_size(self.attack) or len(rows)
        groups = [rows[start : start + size] for start in range(0, len(rows), size)]
        return torch.cat([self._run_at_once(group, model, labels) for group in groups])

    def _run_at_once(
        self, rows: Sequence[int], model: torch.nn.Module | None, labels: torch.Tensor | None
    ) -> torch.Tensor:
        model = self.model if model is None else model
        device = next(iter(model.state_dict().values())).device
        images = self.images[list(rows)].to(device)
        labels = (self.predictions if labels is None else labels)[list(rows)].to(device)
        rng = SampleRandom(0, "check", rows, device)
        goal = self.goal(labels, rows)
        fitted = self.fitted(model, device)
        returned, notes = check_crafted(self.attack, self.attack.craft(model, images.clone(), goal, rng, fitted))
        try:
            return self._checked(images, returned, notes, rows)
        except ContractError as error:
            self._first_error = self._first_error or error  # of other samples, the same cause has another message
            raise self._first_error from None

    def _checked(
        self, images: torch.Tensor, returned: object, notes: Mapping[str, torch.Tensor], rows: Sequence[int]
    ) -> torch.Tensor:
        check_perturbation(self.attack)
        formed = check_form(f"attack {self.attack.name!r}", images, returned)
        self._check_range(formed)
        checked = check_notes(self.attack, images, notes)
        adversarial = check_adversarial(self.attack, images, formed, checked, rows)
        check_sizes(self.attack, images, adversarial, checked)
        return adversarial

    def _check_range(self, images: torch.Tensor) -> None:
        low, high = float(images.min()), float(images.max())
        if low < -TOLERANCE or high > 1 + TOLERANCE:
            given = f"images with pixels from {float(self.images.min()):.3g} to {float(self.images.max()):.3g}"
            raise ContractError(
                f"attack {self.attack.name!r} returned pixels from {low:.7g} to {high:.7g}, for {given}; "
                "clamp the images that it returns to [0, 1], as with images.clamp(0, 1)"
            )

    def fitted(self, model: torch.nn.Module, device: torch.device) -> Artefact | None:
        """What the attack fits to all samples; None if it fits nothing."""
        goal, rng = self.goal(self.predictions.to(device), range(_COUNT)), SampleRandom(0, "fit", range(_COUNT), device)
        return trial_artefact(self.attack, model, self.images.to(device), goal, rng)

    @property
    def fits(self) -> bool:
        """Whether the attack is fitted, and does not take its artefact from a file."""
        return self.attack.has_fit and artefact_file_of(self.attack) is None

    def fit(self) -> None:
        self.fitted(self.model, self.images.device)
        passes = self.attack.fit_passes(_COUNT)
        expect(passes is None or isinstance(passes, int), "fit_passes() to be a whole number or None", repr(passes))

    def same_fit(self) -> None:
        one, other = (self.fitted(self.model, self.images.device) or {} for _ in range(2))
        different = [name for name, value in one.items() if not _equal(value, other.get(name))]
        expect(
            one.keys() == other.keys() and not different,
            "equal artefacts from equal streams",
            f"other values of {', '.join(map(repr, different))}" if different else "other names",
        )

    def goal(self, labels: torch.Tensor, rows: Sequence[int]) -> Goal:
        """The goal of some samples with these labels; all are attacked, also if the target class is fixed."""
        with torch.no_grad():
            logits = self.model(self.images)[list(rows)].to(labels.device)
        goal = choose_targets(goal_of(self.attack), labels, lambda: logits, rows, 0)
        if goal.targets is None:
            return goal
        return Goal(labels, torch.where(goal.targets < 0, (labels + 1) % CLASSES, goal.targets))

    @functools.cached_property
    def adversarial(self) -> torch.Tensor:
        """The attack's images for all samples."""
        return self.run(range(_COUNT))

    def fooled(self, adversarial: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """Whether the images reach the attack's goal."""
        with torch.no_grad():
            return self.goal(self.predictions[list(rows)], rows).reached(self.model(adversarial))

    @property
    def aim(self) -> str:
        """What messages call a sample that reaches the goal."""
        return "misclassified" if goal_of(self.attack) == UNTARGETED else "classified as their targets"

    def reports_budget(self) -> None:
        check_budget(self.attack)
        check_norm(self.attack)
        check_group_size(self.attack)
        check_view(self.attack)
        misfit = self.attack.misfit(SHAPES[0], CLASSES)
        expect(isinstance(misfit, str), "misfit() to be a text", repr(misfit))
        passes = self.attack.passes()
        expect(passes is None or isinstance(passes, int), "passes() to be a whole number or None", repr(passes))

    def reports_set(self) -> None:
        check_perturbation(self.attack)

    def form(self) -> None:
        for adversarial in (self.adversarial, _Trial(self.attack, edge_images).adversarial):
            expect(len(adversarial) == _COUNT, f"{_COUNT} images", f"{len(adversarial)} images")

    def unchanged(self) -> None:
        images, goal = self.images.clone(), self.goal(self.predictions, range(_COUNT))
        given = Goal(goal.labels.clone(), None if goal.targets is None else goal.targets.clone())
        rng = SampleRandom(0, "check", range(_COUNT), images.device)
        self.attack.craft(self.model, images, given, rng, self.fitted(self.model, images.device))
        check_unchanged(f"attack {self.attack.name!r}", "images", self.images, images)
        check_unchanged(f"attack {self.attack.name!r}", "labels", goal.labels, given.labels)
        if goal.targets is not None and given.targets is not None:
            check_unchanged(f"attack {self.attack.name!r}", "target classes", goal.targets, given.targets)

    def model_unchanged(self) -> None:
        before = copy.deepcopy(self.model.state_dict())
        self.run(range(_COUNT))
        state = self.model.state_dict()
        same = before.keys() == state.keys() and all(torch.equal(before[key], state[key]) for key in before)
        expect(same, "unchanged weights of the model", "changed weights")
        expect(not self.model.training, "a model in eval mode", "training mode")

    def access(self) -> None:
        if check_access(self.attack) == "gradients":
            raise RuleSkipped("it may use everything")
        self.run(
            range(_COUNT),
            model=RestrictedClassifier(
                self.model, "the model", attack=f"attack {self.attack.name!r}", access=check_access(self.attack)
            ),
        )

    def reproducible(self) -> None:
        again = self.run(range(_COUNT))
        difference = float((again - self.adversarial).abs().max())
        expect(difference == 0, "equal images from equal streams", f"pixels that differ by up to {difference:.3g}")

    def no_global_randomness(self) -> None:
        with forbid_global_generators():
            self.run(range(_COUNT))

    def batches(self) -> None:
        size = check_group_size(self.attack)
        trials: list[tuple[tuple[int, ...], str]] = [
            ((0,), "by itself"),
            ((_COUNT - 1, 2, 0), "in another batch, in another order"),
        ]
        if size is not None:
            groups = [tuple(range(_COUNT))[start : start + size] for start in range(0, _COUNT, size)]
            trials = [(group, "in a group after another one") for group in reversed(groups)]
        for rows, condition in trials:
            other = self.run(rows)
            for index, row in enumerate(rows):
                self._check_same(other[index], row, f"a sample {condition} to have the same result as in the batch")

    def labels(self) -> None:
        labels = self.predictions.clone()
        labels[0] = (labels[0] + 1) % CLASSES
        other = self.run(range(_COUNT), labels=labels)
        for row in range(check_group_size(self.attack) or 1, _COUNT):
            self._check_same(other[row], row, "a sample's result not to depend on the labels of others")

    def _check_same(self, image: torch.Tensor, row: int, expected: str) -> None:
        was_fooled = self.fooled(self.adversarial[row : row + 1], [row])
        is_fooled = self.fooled(image[None], [row])
        difference = float((image - self.adversarial[row]).abs().mean())
        observed = f"images that differ by {difference:.3g} a pixel" + (
            ", one of which is misclassified" if was_fooled != is_fooled else ""
        )
        expect(bool(was_fooled == is_fooled) and difference <= _TOLERANCE, expected, observed)

    def success(self) -> None:
        if self.attack.access == "nothing":
            raise RuleSkipped("it does not use the model")
        if self.attack.perturbation().kind != "lp":
            raise RuleSkipped("its perturbation set is no Lp ball, so success is not sure")
        budget = self.attack.budget()
        if budget is not None:
            max_distance = float(self.model.distances(self.images, budget.norm).max())
            if max_distance * _MIN_BUDGET_RATIO > budget.eps:
                raise RuleSkipped(f"its budget, {budget.norm} ≤ {budget.eps:g}, is too small for this test")
        count = int(self.fooled(self.adversarial, range(_COUNT)).sum())
        expect(
            count == _COUNT,
            f"all {_COUNT} samples {self.aim} by a linear classifier with near boundaries",
            f"{count} {self.aim}",
        )

    def failure(self) -> None:
        model = ConstantClassifier(0).eval()
        labels = torch.zeros(_COUNT, dtype=torch.int64)
        adversarial = self.run(range(_COUNT), model=model, labels=labels)
        if is_minimal(self.attack):
            changed = int((adversarial != self.images).flatten(1).any(dim=1).sum())
            expect(
                not changed,
                "a minimal attack to return the clean image where it fails",
                f"{changed} of {_COUNT} images changed, none of which reaches the goal",
            )

    def detector(self) -> None:
        """A classifier that rejects images, so that :func:`advbench.api.answer` has a score."""
        self.run(range(_COUNT), model=Guarded(self.model, self.predictions))

    def on_cuda(self) -> None:
        device = cuda()
        self.run(range(_COUNT), model=copy.deepcopy(self.model).to(device))
