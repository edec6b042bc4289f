"""The contract of defenses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from advbench.api import Defense, SampleRandom
from advbench.evaluation import ASTRAY, check_defended, check_form, check_unchanged
from advbench.testing.common import common_rules, cuda
from advbench.testing.finding import NotAsked, Rule, expect, origin
from advbench.testing.material import SHAPES, global_generators_untouched, images_of

__all__ = ["defense_rules"]

_NEAR = 1e-5
"""How far rounding may carry a pixel."""


def defense_rules(defense: Defense) -> Iterator[Rule]:
    """Shape, type, range, inputs, randomness, batches, gradients, device."""
    apply, approximation = origin(defense, "apply"), origin(defense, "approximation")
    shapes = [shape for shape in SHAPES if not defense.incompatibility(shape)]
    trial = _Trial(defense, shapes)
    form = "float32 images of the shape and device that were given, finite"
    yield Rule("images of the same form", apply, trial.form, form)
    yield Rule("pixels stay near [0, 1]", apply, trial.range)
    yield Rule("inputs unchanged", apply, trial.unchanged, "images that are not changed in place")
    yield Rule("same random numbers, same images", apply, trial.repeats)
    yield Rule("stochastic declared truthfully", origin(defense, "stochastic"), trial.declares_randomness)
    yield Rule("random numbers from rng alone", apply, trial.own_randomness)
    yield Rule("independent of its batch", apply, trial.batches)
    yield Rule("identity declared truthfully", origin(defense, "identity"), trial.declares_identity)
    yield Rule("gradients are finite", approximation, trial.gradients, "finite gradients through the stand-in")
    yield Rule("digest of the weights", origin(defense, "weights_digest"), trial.digest, "a SHA-256, or None")
    yield Rule("on CUDA", apply, trial.on_cuda, form)
    yield from common_rules(defense)


class _Trial:
    """A defense on the images that it takes."""

    def __init__(self, defense: Defense, shapes: Sequence[tuple[int, int, int]]) -> None:
        self.defense = defense
        self.shapes = shapes

    def batches_of(self) -> Iterator[torch.Tensor]:
        if not self.shapes:
            raise NotAsked(f"it takes none of the shapes {', '.join(map(str, SHAPES))}")
        for shape in self.shapes:
            yield images_of(shape)

    def apply(self, images: torch.Tensor, ids: Sequence[int], purpose: str = "check") -> torch.Tensor:
        given = images.clone()
        returned = self.defense.apply(given, SampleRandom(0, purpose, ids, images.device))
        return check_defended(self.defense.name, images, returned)

    def form(self) -> None:
        for images in self.batches_of():
            for count in (1, 2, len(images)):
                self.apply(images[:count], range(count))

    def range(self) -> None:
        for images in self.batches_of():
            defended = self.apply(images, range(len(images)))
            low, high = float(defended.min()), float(defended.max())
            expect(-ASTRAY <= low <= high <= 1 + ASTRAY, "pixels in about [0, 1]", f"pixels from {low:g} to {high:g}")

    def unchanged(self) -> None:
        for images in self.batches_of():
            given = images.clone()
            self.defense.apply(given, SampleRandom(0, "check", range(len(images)), images.device))
            check_unchanged(f"defense {self.defense.name!r}", "images", images, given)

    def repeats(self) -> None:
        for images in self.batches_of():
            first, second = (self.apply(images, range(len(images))) for _ in range(2))
            expect(torch.equal(first, second), "equal images from equal streams", _difference(first, second))

    def declares_randomness(self) -> None:
        moved = False
        for images in self.batches_of():
            first, second = (self.apply(images, range(len(images)), purpose) for purpose in ("check", "check again"))
            moved |= not torch.equal(first, second)
        if self.defense.stochastic:
            expect(moved, "stochastic is False, or other streams give other images", "stochastic is True, equal images")
        else:
            expect(
                not moved, "stochastic is True, so that attacks average over it", "stochastic is False, other images"
            )

    def own_randomness(self) -> None:
        for images in self.batches_of():
            with global_generators_untouched():
                self.apply(images, range(len(images)))

    def batches(self) -> None:
        for images in self.batches_of():
            ids = list(range(len(images)))
            together = self.apply(images, ids)
            alone = torch.cat([self.apply(images[i : i + 1], [i]) for i in ids])
            turned = self.apply(images.flip(0), ids[::-1]).flip(0)
            for other, how in ((alone, "by itself"), (turned, "in another order")):
                far = float((together - other).abs().max())
                expect(far <= _NEAR, f"an image {how} to come out as in the batch", f"a difference of {far:g}")

    def declares_identity(self) -> None:
        if not self.defense.identity:
            return
        for images in self.batches_of():
            defended = self.apply(images, range(len(images)))
            expect(torch.equal(images, defended), "identity is False", f"True, and {_difference(images, defended)}")

    def gradients(self) -> None:
        for images in self.batches_of():
            points = images.clone().requires_grad_()
            stand_in = self.defense.apply if self.defense.differentiable else self.defense.approximation
            with torch.enable_grad():
                made = stand_in(points, SampleRandom(0, "check", range(len(images)), images.device))
                check_form(f"the stand-in of defense {self.defense.name!r}", images, made)
                (gradient,) = torch.autograd.grad(made.square().sum(), points, allow_unused=True)
            expect(gradient is not None, "a gradient at the images", "the stand-in does not depend on them")
            expect(bool(torch.isfinite(gradient).all()), "finite gradients", "NaN or infinite ones")
            expect(bool(gradient.any()), "a gradient that is not zero throughout", "zero for every image")

    def digest(self) -> None:
        first, second = (self.defense.weights_digest() for _ in range(2))
        expect(first is None or (isinstance(first, str) and len(first) >= 32), "a SHA-256, or None", repr(first))
        expect(first == second, "the same digest at every call", "another at the second")

    def on_cuda(self) -> None:
        device = cuda()
        for images in self.batches_of():
            self.apply(images.to(device), range(len(images)))


def _difference(one: torch.Tensor, other: torch.Tensor) -> str:
    return f"pixels that differ by up to {float((one - other).abs().max()):.3g}"
