"""Contract rules of defenses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from advbench.api import Defense, SampleRandom
from advbench.contracts.access import check_access
from advbench.contracts.defenses import RANGE_SLACK, Approximation, check_approximations, check_defended
from advbench.contracts.images import check_form, check_unchanged
from advbench.evaluation.work.chain_pass import image_shape
from advbench.specs import transforms_images
from advbench.testing.classifying_defenses import certificate_rules, classifying_rules
from advbench.testing.common import ACCESS, common_rules, cuda
from advbench.testing.finding import Rule, RuleSkipped, contract_of, expect
from advbench.testing.fitted_defenses import fit_rules
from advbench.testing.fixtures import SHAPES, forbid_global_generators
from advbench.testing.shapes import ShapeTrial, naming_shapes

__all__ = ["defense_rules"]

DIGEST = "a SHA-256, or None"

_CALLS = 10
"""How often a defense is asked for its approximations for each shape, since their number may change rarely."""

_TOLERANCE = 1e-5
"""Allowed difference of a pixel due to rounding."""


def defense_rules(defense: Defense) -> Iterator[Rule]:
    """Yields the rules on shape, dtype, range, inputs, randomness, batches, gradients, certificates and devices."""
    shapes = [shape for shape in SHAPES if not defense.incompatibility(shape)]
    yield Rule("needs declared correctly", contract_of(defense, "needs"), lambda: check_access(defense), ACCESS)
    yield from fit_rules(defense, shapes)
    if transforms_images(defense):
        trial = _Trial(defense, shapes)
        yield from naming_shapes(_image_rules(defense, trial), trial)
    else:
        yield from classifying_rules(defense, shapes)
    yield Rule("digest of the weights", contract_of(defense, "weights_digest"), lambda: _check_digest(defense), DIGEST)
    if defense.certified_norm is not None:
        yield from certificate_rules(defense, shapes)
    yield from common_rules(defense)


def _image_rules(defense: Defense, trial: _Trial) -> Iterator[Rule]:
    apply, approximation = contract_of(defense, "apply"), contract_of(defense, "approximation")
    approximations = contract_of(defense, "approximations")
    form = "finite float32 images of the shape that output_shape gives, on the input's device"
    yield Rule("images of the same form", apply, trial.form, form)
    yield Rule("pixels in about [0, 1]", apply, trial.range)
    yield Rule("inputs unchanged", apply, trial.unchanged, "images that are not changed in place")
    yield Rule("same random numbers, same images", apply, trial.reproducible)
    yield Rule("stochastic declared correctly", contract_of(defense, "stochastic"), trial.declares_randomness)
    yield Rule("random numbers from rng alone", apply, trial.no_global_randomness)
    yield Rule("independent of its batch", apply, trial.batches)
    yield Rule("identity declared correctly", contract_of(defense, "identity"), trial.declares_identity)
    yield Rule("gradients are finite", approximation, trial.gradients, "finite gradients of apply or approximation")
    yield Rule("gradients of all approximations are finite", approximations, trial.all_gradients)
    yield Rule("as many approximations at every call", approximations, trial.same_number)
    yield Rule("on CUDA", apply, trial.on_cuda, form)


def _check_digest(defense: Defense) -> None:
    first, second = (defense.weights_digest() for _ in range(2))
    expect(first is None or (isinstance(first, str) and len(first) >= 32), "a SHA-256, or None", repr(first))
    expect(first == second, "the same digest at every call", "a different one at the second")


class _Trial(ShapeTrial):
    """A defense on the images that it takes."""

    def apply(self, images: torch.Tensor, ids: Sequence[int], purpose: str = "check") -> torch.Tensor:
        given = images.clone()
        returned = self.defense.apply(given, SampleRandom(0, purpose, ids, images.device))
        return check_defended(self.defense.name, images, returned, image_shape(self.defense, images))

    def form(self) -> None:
        for images in self.example_batches():
            for count in (1, 2, len(images)):
                self.apply(images[:count], range(count))

    def range(self) -> None:
        for images in self.example_batches():
            defended = self.apply(images, range(len(images)))
            low, high = float(defended.min()), float(defended.max())
            expect(
                -RANGE_SLACK <= low <= high <= 1 + RANGE_SLACK,
                "pixels in about [0, 1]",
                f"pixels from {low:g} to {high:g}",
            )

    def unchanged(self) -> None:
        for images in self.example_batches():
            given = images.clone()
            self.defense.apply(given, SampleRandom(0, "check", range(len(images)), images.device))
            check_unchanged(f"defense {self.defense.name!r}", "images", images, given)

    def reproducible(self) -> None:
        for images in self.example_batches():
            first, second = (self.apply(images, range(len(images))) for _ in range(2))
            expect(torch.equal(first, second), "equal images from equal streams", _difference(first, second))

    def declares_randomness(self) -> None:
        differs = False
        for images in self.example_batches():
            first, second = (self.apply(images, range(len(images)), purpose) for purpose in ("check", "check again"))
            differs |= not torch.equal(first, second)
        if self.defense.stochastic:
            expect(
                differs,
                "stochastic is False, or images that differ between streams",
                "stochastic is True, equal images",
            )
        else:
            expect(
                not differs,
                "stochastic is True, so that attacks average over it",
                "stochastic is False, different images",
            )

    def no_global_randomness(self) -> None:
        for images in self.example_batches():
            with forbid_global_generators():
                self.apply(images, range(len(images)))

    def batches(self) -> None:
        for images in self.example_batches():
            ids = list(range(len(images)))
            together = self.apply(images, ids)
            alone = torch.cat([self.apply(images[i : i + 1], [i]) for i in ids])
            reversed_order = self.apply(images.flip(0), ids[::-1]).flip(0)
            for second, condition in ((alone, "by itself"), (reversed_order, "in another order")):
                difference = float((together - second).abs().max())
                expect(
                    difference <= _TOLERANCE,
                    f"an image {condition} to have the same result as in the batch",
                    f"a difference of {difference:g}",
                )

    def declares_identity(self) -> None:
        if not self.defense.identity:
            return
        for images in self.example_batches():
            defended = self.apply(images, range(len(images)))
            same = images.shape == defended.shape
            seen = _difference(images, defended) if same else f"images of shape {tuple(defended.shape[1:])}"
            expect(same and torch.equal(images, defended), "identity is False", f"True, and {seen}")

    def gradients(self) -> None:
        differentiable = self.defense.apply if self.defense.differentiable else self.defense.approximation
        for images in self.example_batches():
            self.check_gradient(
                f"the gradient of defense {self.defense.name!r}", images, lambda x, _, r: differentiable(x, r)
            )

    def all_gradients(self) -> None:
        if self.defense.differentiable:
            raise RuleSkipped("it is differentiable, so adaptive attacks use no approximation")
        for images in self.example_batches():
            for number, approximation in enumerate(check_approximations(self.defense), 1):
                self.check_gradient(f"approximation {number} of defense {self.defense.name!r}", images, approximation)

    def same_number(self) -> None:
        if self.defense.differentiable:
            raise RuleSkipped("it is differentiable, so adaptive attacks use no approximation")
        number = None
        for images in self.example_batches():
            for _ in range(_CALLS):
                number = len(check_approximations(self.defense, number))
            self.apply(images, range(len(images)))

    def check_gradient(self, label: str, images: torch.Tensor, approximation: Approximation) -> None:
        output, points = self.apply(images, range(len(images))), images.clone().requires_grad_()
        given = output.clone()
        with torch.enable_grad():
            streams = SampleRandom(0, "check", range(len(images)), images.device)
            defended = approximation(points, given, streams)
            check_form(label, images, defended, image_shape(self.defense, images))
            (gradient,) = torch.autograd.grad(defended.square().sum(), points, allow_unused=True)
        check_unchanged(label, "defended images", output, given)
        expect(gradient is not None, "a gradient at the images", f"{label}: the result does not depend on them")
        expect(bool(torch.isfinite(gradient).all()), "finite gradients", f"{label}: NaN or infinite ones")
        expect(bool(gradient.any()), "a gradient that is not zero throughout", f"{label}: zero for every image")

    def on_cuda(self) -> None:
        device = cuda()
        for images in self.example_batches():
            self.apply(images.to(device), range(len(images)))


def _difference(first: torch.Tensor, second: torch.Tensor) -> str:
    return f"pixels that differ by up to {float((first - second).abs().max()):.3g}"
