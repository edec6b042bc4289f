"""AutoAttack: several attacks one after another, each on the samples that those before it did not fool."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, cast

import torch

from advbench.api import (
    Access,
    Attack,
    Budget,
    Norm,
    Parameter,
    ParameterError,
    SampleRandom,
    Value,
    for_rows,
    param,
)
from advbench_attacks.answers import ask
from advbench_attacks.balls import Ball
from advbench_attacks.black_box.square import SquareAttack
from advbench_attacks.gradient.apgd import AutoPgd, TargetedAutoPgd
from advbench_attacks.input_gradients import each
from advbench_attacks.logit_differences import margin
from advbench_attacks.minimal.fab_search import AdaptiveBoundary

__all__ = ["AutoAttack", "Part"]

Part: TypeAlias = Callable[[torch.nn.Module, torch.Tensor, torch.Tensor, SampleRandom], torch.Tensor]
"""A model, images, labels and random streams to adversarial images, as :meth:`advbench.api.Attack.run`."""

_UNHEEDED: Mapping[str, tuple[str, ...]] = {"standard": (), "rand": ("targets", "queries")}
"""The parameters that have no meaning in a version."""


@dataclass(frozen=True)
class AutoAttack(Attack):
    """Four attacks of different kinds, each on the samples that no one before it fooled.

    ``version=standard`` is apgd with the cross-entropy, apgd-t, fab-t within eps and square; ``version=rand``, for
    classifiers behind a random defense, is apgd with the cross-entropy and apgd with the difference of logits ratio.
    Each part draws from random streams of its own, so that it does here what it does alone. The ratio needs 3
    classes; below, its numerator, the margin, rises in its place.

    A sample has the image of the part that fooled it, or the one of highest margin where none did. Parts of apgd take
    all their steps to the highest loss; with early_stop they end at the first point that fools the model. That is
    faster where the model falls easily, with images that lie on its boundary.
    """

    name: ClassVar[str] = "autoattack"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Croce and Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free "
        "attacks, section 5"
    )

    version: str = param("standard", choices=("standard", "rand"), help="rand: for classifiers that draw at random")
    eps: float = param(0.3, min=0, help="largest perturbation in the norm, images being in [0, 1]")
    norm: str = param("linf", choices=("linf", "l2"), help="the norm of the perturbation")
    steps: int = param(100, min=1, help="number of steps of apgd, and of apgd-t and fab-t a class")
    targets: int = param(9, min=1, help="towards how many of the likeliest other classes apgd-t and fab-t go")
    queries: int = param(5000, min=1, help="how many points of a sample square may try")
    early_stop: bool = param(False, help="end apgd and apgd-t at a sample's first point that fools the model")

    def __post_init__(self) -> None:
        """Checks every parameter, and that none is set to what the version would not heed.

        Raises:
            ParameterError: A value is not allowed, or not in this version.
        """
        super().__post_init__()
        for parameter in super().parameters():
            if parameter.name in _UNHEEDED[self.version] and getattr(self, parameter.name) != parameter.default:
                raise _unheeded(parameter.name, self.version)

    @classmethod
    def parameters(cls, given: Mapping[str, str] | None = None) -> tuple[Parameter, ...]:
        """The parameters of the version that ``given`` names; without one, those of the standard version."""
        unheeded = _UNHEEDED.get((given or {}).get("version", "standard"), ())
        return tuple(parameter for parameter in super().parameters(given) if parameter.name not in unheeded)

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> dict[str, Value]:
        """Reads parameters as a spec writes them.

        Raises:
            ParameterError: A parameter is unknown, malformed, out of range or of the other version.
        """
        version = given.get("version", "standard")
        for key in given:
            if key in _UNHEEDED.get(version, ()):
                raise _unheeded(key, version)
        return super().parse(given)

    def values(self) -> dict[str, Value]:
        """The parameters of the version with their values, defaults included."""
        return {key: value for key, value in super().values().items() if key not in _UNHEEDED[self.version]}

    def run(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.run`."""
        return self.run_with_notes(model, images, labels, rng)[0]

    def run_with_notes(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Attacks one batch and tells which part fooled each sample.

        Args:
            model: Classifier in eval mode.
            images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
            labels: True labels, int64, shape (batch,).
            rng: The samples' random streams.

        Returns:
            What :meth:`run` returns, and ``{"component": …}``: per sample the place in :meth:`parts` of the part that
            fooled the model, int8, shape (batch,); -1 where none did, or the clean image is misclassified.
        """
        crafted = images.clone()
        component = torch.full(labels.shape, -1, dtype=torch.int8, device=images.device)
        with torch.no_grad():
            logits = ask(model, images)
        margins = margin(logits, labels)
        rows = (logits.argmax(dim=1) == labels).nonzero().flatten()
        for place, part in enumerate(self.parts(logits.shape[1]).values()):
            if not len(rows):
                break
            remaining = for_rows(model, rows)
            found = part(remaining, images[rows], labels[rows], rng[rows])
            with torch.no_grad():
                logits = ask(remaining, found)
            broken = logits.argmax(dim=1) != labels[rows]
            component[rows[broken]] = place
            reached = margin(logits, labels[rows])
            better = broken | (reached > margins[rows])
            crafted[rows[better]], margins[rows[better]] = found[better], reached[better]
            rows = rows[~broken]
        return crafted, {"component": component}

    def component_names(self) -> tuple[str, ...]:
        """Those of the parts."""
        return tuple(self.parts())

    def component_access(self) -> tuple[Access, ...]:
        """Those of the parts: square asks for scores alone."""
        return tuple(SquareAttack.access if name == SquareAttack.name else self.access for name in self.parts())

    def parts(self, classes: int | None = None) -> dict[str, Part]:
        """The attacks of this version by name, in the order in which they run, for a model of so many classes."""
        ce = AutoPgd(self.eps, self.norm, "ce", self.steps, early_stop=self.early_stop)
        if self.version == "rand":
            loss = "margin" if classes is not None and classes < 3 else "dlr"
            dlr = AutoPgd(self.eps, self.norm, loss, self.steps, early_stop=self.early_stop)
            return {"apgd-ce": ce.run, "apgd-dlr": dlr.run}
        targeted = TargetedAutoPgd(self.eps, self.norm, self.targets, self.steps, early_stop=self.early_stop)
        square = SquareAttack(self.eps, self.norm, self.queries)
        return {"apgd-ce": ce.run, "apgd-t": targeted.run, "fab-t": self._fab, "square": square.run}

    def budget(self) -> Budget:
        """The ball of radius eps."""
        return Budget(cast(Norm, self.norm), self.eps)

    def passes(self) -> int:
        """Those of all parts, which only a sample that none of them fools needs."""
        if self.version == "rand":
            return 2 * self.steps
        return self.steps + self.steps * self.targets * 7 // 3 + self.queries // 3

    def _fab(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """The nearest points of fab-t, where they are within eps."""
        del rng
        ball = Ball(cast(Norm, self.norm), self.eps)
        search = AdaptiveBoundary(
            model, images, labels, steps=self.steps, targets=self.targets, norm=ball.norm, eps=self.eps
        )
        near = search.run()
        return torch.where(each(search.nearest.distances <= self.eps), ball.project(near, images), images)


def _unheeded(key: str, version: str) -> ParameterError:
    return ParameterError(f"{key} has no meaning with version={version}; leave it out")
