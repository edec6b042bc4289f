"""Contract rules of defenses that are fitted to data, and of detectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from advbench.api import Artefact, Defense, SampleRandom
from advbench.contracts.artefacts import trial_defense_artefact
from advbench.evaluation.work.chain_pass import ChainPass, image_shape
from advbench.specs import Chain, transforms_images
from advbench.testing.finding import Rule, RuleSkipped, contract_of, expect
from advbench.testing.fixtures import CLASSES, SHAPES, Linear, example_images

__all__ = ["fit_rules", "fitted_pass"]

_IMAGES = 40
"""How many images a detector is fitted to."""

Shape = tuple[int, int, int]


def fit_rules(defense: Defense, shapes: Sequence[Shape]) -> Iterator[Rule]:
    """Yields the rules on what a defense fits to data; none if it fits nothing."""
    if type(defense).fit is Defense.fit:
        return
    where, trial = contract_of(defense, "fit"), _Trial(defense, shapes)
    yield Rule("fitted only if it classifies", where, trial.classifies)
    if not transforms_images(defense):
        form = "a dictionary of names to tensors, numbers and texts"
        yield Rule("a fit of the right form", where, trial.form, form)
        yield Rule("the same data, the same fit", where, trial.reproducible)


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


class _Trial:
    """A defense that is fitted in front of a linear classifier."""

    def __init__(self, defense: Defense, shapes: Sequence[Shape]) -> None:
        self.defense = defense
        self.shapes = shapes

    def passes(self) -> Iterator[tuple[torch.Tensor, ChainPass]]:
        if not self.shapes:
            raise RuleSkipped(f"it accepts none of the shapes {', '.join(map(str, SHAPES))}")
        for shape in self.shapes:
            images = example_images(shape, _IMAGES)
            network = Linear(image_shape(self.defense, images), CLASSES).eval()
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
