"""The contract of attacks."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence

import torch

from advbench.api import Attack, SampleRandom
from advbench.contracts.attacks import check_adversarial, check_note
from advbench.contracts.budgets import check_budget, check_norm
from advbench.contracts.images import check_unchanged
from advbench.testing.common import common_rules, cuda
from advbench.testing.finding import NotAsked, Rule, expect, origin
from advbench.testing.fixtures import CLASSES, Linear, Unfoolable, global_generators_untouched, greyish_images

__all__ = ["attack_rules"]

_SHAPE = (1, 28, 28)
_COUNT = 5
_NEAR = 1e-3
"""How far, on the mean over its pixels, rounding may carry an image."""

_MUCH = 4
"""A model must fall whose every image is so many times nearer to a boundary than the budget reaches."""


def attack_rules(attack: Attack) -> Iterator[Rule]:
    """Budget, range, inputs, randomness, batches, labels, success, failures, device."""
    run = origin(attack, "run")
    trial = _Trial(attack)
    form = "float32 images in [0, 1], of the shape that was given and within the budget"
    yield Rule("budget and norm", origin(attack, "budget"), trial.tells, "a Budget or None, and a norm or None")
    yield Rule("images in range and within the budget", run, trial.form, form)
    yield Rule("inputs unchanged", run, trial.unchanged, "images and labels that are not changed in place")
    yield Rule("model unchanged", run, trial.leaves_the_model, "a model with the same weights, in eval mode")
    yield Rule("same random numbers, same images", run, trial.repeats)
    yield Rule("random numbers from rng alone", run, trial.own_randomness)
    yield Rule("independent of its batch", run, trial.batches)
    yield Rule("independent of other samples' labels", run, trial.labels)
    yield Rule("fools a model that must fall", run, trial.succeeds)
    yield Rule("marks what it cannot fool", run, trial.fails, form)
    yield Rule("on CUDA", run, trial.on_cuda, form)
    yield from common_rules(attack)


class _Trial:
    """An attack on a linear classifier, whose distances are known, and on one that nothing fools."""

    def __init__(self, attack: Attack) -> None:
        self.attack = attack
        self.model = Linear(_SHAPE).eval()
        self.images = greyish_images(_SHAPE, _COUNT)
        with torch.no_grad():
            self.answers = self.model(self.images).argmax(dim=1)

    def run(
        self, rows: Sequence[int], *, model: torch.nn.Module | None = None, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The images of some samples, held to the contract's form."""
        model = self.model if model is None else model
        device = next(iter(model.state_dict().values())).device
        images = self.images[list(rows)].to(device)
        labels = (self.answers if labels is None else labels)[list(rows)].to(device)
        rng = SampleRandom(0, "check", rows, device)
        returned, notes = self.attack.run_with_notes(model, images.clone(), labels.clone(), rng)
        for name, note in notes.items():
            check_note(self.attack, name, note, labels)
        return check_adversarial(self.attack, images, returned)

    @functools.cached_property
    def made(self) -> torch.Tensor:
        """What the attack makes of all samples."""
        return self.run(range(_COUNT))

    def fooled(self, adversarial: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        with torch.no_grad():
            wrong: torch.Tensor = self.model(adversarial).argmax(dim=1) != self.answers[list(rows)]
        return wrong

    def tells(self) -> None:
        check_budget(self.attack)
        check_norm(self.attack)
        passes = self.attack.passes()
        expect(passes is None or isinstance(passes, int), "passes() to be a whole number or None", repr(passes))

    def form(self) -> None:
        expect(len(self.made) == _COUNT, f"{_COUNT} images", f"{len(self.made)}")

    def unchanged(self) -> None:
        images, labels = self.images.clone(), self.answers.clone()
        self.attack.run(self.model, images, labels, SampleRandom(0, "check", range(_COUNT), images.device))
        check_unchanged(f"attack {self.attack.name!r}", "images", self.images, images)
        check_unchanged(f"attack {self.attack.name!r}", "labels", self.answers, labels)

    def leaves_the_model(self) -> None:
        before = copy.deepcopy(self.model.state_dict())
        self.run(range(_COUNT))
        state = self.model.state_dict()
        same = before.keys() == state.keys() and all(torch.equal(before[key], state[key]) for key in before)
        expect(same, "the model's weights as they were", "others")
        expect(not self.model.training, "a model in eval mode", "training mode")

    def repeats(self) -> None:
        again = self.run(range(_COUNT))
        far = float((again - self.made).abs().max())
        expect(far == 0, "equal images from equal streams", f"pixels that differ by up to {far:.3g}")

    def own_randomness(self) -> None:
        with global_generators_untouched():
            self.run(range(_COUNT))

    def batches(self) -> None:
        few = (0, _COUNT - 1)
        for rows, how in (((few[0],), "by itself"), ((few[1], 2, few[0]), "in another batch, in another order")):
            other = self.run(rows)
            for place, row in enumerate(rows):
                self._same(other[place], row, f"a sample {how} to come out as in the batch")

    def labels(self) -> None:
        labels = self.answers.clone()
        labels[0] = (labels[0] + 1) % CLASSES
        other = self.run(range(_COUNT), labels=labels)
        for row in range(1, _COUNT):
            self._same(other[row], row, "what is made of a sample not to depend on the labels of others")

    def _same(self, image: torch.Tensor, row: int, expected: str) -> None:
        before = self.fooled(self.made[row : row + 1], [row])
        after = self.fooled(image[None], [row])
        far = float((image - self.made[row]).abs().mean())
        seen = f"images that differ by {far:.3g} a pixel" + (
            ", one of which fools the model" if before != after else ""
        )
        expect(bool(before == after) and far <= _NEAR, expected, seen)

    def succeeds(self) -> None:
        if self.attack.access == "nothing":
            raise NotAsked("it needs nothing of the model, and is the floor that others must beat")
        budget = self.attack.budget()
        if budget is not None:
            furthest = float(self.model.distances(self.images, budget.norm).max())
            if furthest * _MUCH > budget.eps:
                raise NotAsked(f"its budget, {budget.norm} ≤ {budget.eps:g}, is too small to tell")
        count = int(self.fooled(self.made, range(_COUNT)).sum())
        expect(
            count == _COUNT,
            f"all {_COUNT} samples of a linear classifier fooled, whose boundaries are near",
            f"{count} fooled",
        )

    def fails(self) -> None:
        model = Unfoolable(0).eval()
        labels = torch.zeros(_COUNT, dtype=torch.int64)
        made = self.run(range(_COUNT), model=model, labels=labels)
        if self.attack.budget() is None:
            changed = int((made != self.images).flatten(1).any(dim=1).sum())
            expect(
                not changed,
                "a minimal attack to return the clean image of what it cannot fool",
                f"{changed} of {_COUNT} images changed, none of which fools the model",
            )

    def on_cuda(self) -> None:
        device = cuda()
        self.run(range(_COUNT), model=copy.deepcopy(self.model).to(device))
