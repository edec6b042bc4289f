"""Contract rules of defenses that are fitted to data, and of detectors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from advbench.api import Artefact, Defense, Detector, SampleRandom
from advbench.contracts.artefacts import trial_defense_artefact
from advbench.evaluation.work.chain_pass import ChainPass, image_shape
from advbench.specs import Chain, transforms_images
from advbench.testing.finding import Rule, contract_of, expect
from advbench.testing.fixtures import CLASSES, Linear
from advbench.testing.shapes import Shape, ShapeTrial, naming_shapes

__all__ = ["fit_rules", "fitted_pass"]

_IMAGES = 40
"""How many images a detector is fitted to."""


def fit_rules(defense: Defense, shapes: Sequence[Shape]) -> Iterator[Rule]:
    """Yields the rules on what a defense fits to data; none if it fits nothing."""
    if type(defense).fit is Defense.fit:
        return
    trial = _Trial(defense, shapes)
    yield from naming_shapes(_fit_rules(defense, trial), trial)


def _fit_rules(defense: Defense, trial: _Trial) -> Iterator[Rule]:
    where = contract_of(defense, "fit")
    yield Rule("fitted only if it classifies", where, trial.classifies)
    if not transforms_images(defense):
        form = "a dictionary of names to tensors, numbers and texts"
        yield Rule("a fit of the right form", where, trial.form, form)
        yield Rule("the same data, the same fit", where, trial.reproducible)
    if isinstance(defense, Detector):
        suspicion, form = contract_of(defense, "suspicion"), "finite numbers of shape (batch,)"
        yield Rule("suspicions of the right form", suspicion, trial.suspicions, form)
        yield Rule("no more rejections than declared", where, trial.rejects_few)


def fitted_pass(defense: Defense, network: torch.nn.Module, images: torch.Tensor, *inside: Defense) -> ChainPass:
    """A defense around a network, fitted to some images.

    Args:
        defense: The defense.
        network: The network.
        images: Shape (batch, channels, height, width).
        inside: Further defenses between the two.
    """
    chain, rng = Chain((defense, *inside)), SampleRandom(0, "fit", range(len(images)), images.device)
    unfitted = ChainPass(chain, network, len(images))
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    fitted = trial_defense_artefact(defense, unfitted.inside(0, rng), images, labels, rng)
    return ChainPass(chain, network, len(images), (fitted, *[None] * len(inside)))


class _Trial(ShapeTrial):
    """A defense that is fitted in front of a linear classifier."""

    def examples(self) -> Iterator[tuple[torch.Tensor, torch.nn.Module]]:
        for images in self.example_batches(_IMAGES):
            yield images, Linear(image_shape(self.defense, images), CLASSES).eval()

    def passes(self) -> Iterator[tuple[torch.Tensor, ChainPass]]:
        for images, network in self.examples():
            yield images, fitted_pass(self.defense, network, images)

    def classifies(self) -> None:
        expect(
            not transforms_images(self.defense),
            "classify() or attacked(), which get what is fitted",
            "fit() of a defense that only transforms images",
        )

    def form(self) -> None:
        for _ in self.passes():
            pass

    @torch.no_grad()
    def suspicions(self) -> None:
        assert isinstance(self.defense, Detector)
        for images, network in self.examples():
            rng = SampleRandom(0, "check", range(len(images)), images.device)
            inside = ChainPass(Chain((self.defense,)), network, len(images)).inside(0, rng)
            returned: object = self.defense.suspicion(inside, images.clone(), rng)
            what = f"a {type(returned).__name__}"
            if isinstance(returned, torch.Tensor):
                what = f"suspicions of shape {tuple(returned.shape)}"
            valid = isinstance(returned, torch.Tensor) and returned.shape == (len(images),)
            expect(valid, f"suspicions of shape ({len(images)},)", what)
            assert isinstance(returned, torch.Tensor)
            expect(bool(torch.isfinite(returned).all()), "finite suspicions", "NaN or infinite ones")

    @torch.no_grad()
    def rejects_few(self) -> None:
        """Among the images to which the detector is fitted."""
        assert isinstance(self.defense, Detector)
        for images, passed in self.passes():
            answer = passed.answer(images, SampleRandom(0, "check", range(len(images)), images.device))
            scores = answer.score
            expect(scores is not None, "an Answer with a score", "logits alone")
            assert scores is not None
            rejected, most = int((scores > 0).sum()), max(1, math.ceil(self.defense.fpr * len(images)))
            expect(
                rejected <= most,
                f"at most {most} of the {len(images)} images to which it is fitted rejected, as fpr declares",
                f"{rejected} rejected",
            )

    def reproducible(self) -> None:
        for (_, first), (_, second) in zip(self.passes(), self.passes(), strict=True):
            one, other = first.fitted[0] or {}, second.fitted[0] or {}
            different = [name for name in {*one, *other} if not _same(one, other, name)]
            expect(not different, "equal fits to equal images", f"another {', '.join(map(repr, sorted(different)))}")


def _same(one: Artefact, other: Artefact, name: str) -> bool:
    first, second = one.get(name), other.get(name)
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return torch.equal(first, second)
    return type(first) is type(second) and first == second
