"""AutoAttack: several attacks in sequence, each on the samples that are not broken yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, cast

import torch

from advbench.api import (
    Access,
    Artefact,
    Budget,
    Crafted,
    Goal,
    Norm,
    Parameter,
    ParameterError,
    SampleRandom,
    Value,
    for_rows,
    param,
)
from advbench_attacks.balls import Ball
from advbench_attacks.black_box.square import SquareAttack
from advbench_attacks.classifier_calls import float32_logits
from advbench_attacks.goals import UntargetedAttack
from advbench_attacks.gradient.apgd import AutoPgd, TargetedAutoPgd
from advbench_attacks.minimal.fab_search import FabSearch
from advbench_attacks.norms import per_image

__all__ = ["AutoAttack", "Part"]

Part: TypeAlias = Callable[[torch.nn.Module, torch.Tensor, torch.Tensor, SampleRandom], torch.Tensor]
"""Takes a model, images, labels and random streams; returns images, as :meth:`advbench.api.Attack.run`."""

_INAPPLICABLE: Mapping[str, tuple[str, ...]] = {"standard": (), "rand": ("targets", "queries")}
"""Parameters that a version does not use."""


@dataclass(frozen=True)
class AutoAttack(UntargetedAttack):
    """Four different attacks in sequence, each on the samples that the previous ones did not break.

    ``version=standard`` runs apgd with the cross-entropy, apgd-t, fab-t within eps, and square. ``version=rand``, for
    classifiers behind a stochastic defense, runs apgd with the cross-entropy and apgd with the difference of logits
    ratio. Each part uses its own random streams, so its results equal those of the attack alone. With fewer than 3
    classes, the ratio is not defined; its numerator, the margin, is maximised instead.

    A sample gets the image of the part that broke it, or the one of highest margin if none did. The apgd parts take all
    steps, for the highest loss. With ``early_stop`` they stop at the first adversarial point, which is faster on weak
    models but gives images close to the decision boundary.
    """

    name: ClassVar[str] = "autoattack"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Croce and Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free "
        "attacks, section 5"
    )
    why_untargeted: ClassVar[str] = "autoattack is untargeted by definition"
    use_instead: ClassVar[str] = "apgd-t"

    version: str = param(
        "standard", choices=("standard", "rand"), help="standard, or rand for classifiers with random draws"
    )
    eps: float = param(0.3, min=0, help="largest norm of the perturbation, for images in [0, 1]")
    norm: str = param("linf", choices=("linf", "l2"), help="norm of the perturbation")
    steps: int = param(100, min=1, help="number of steps of apgd, and of apgd-t and fab-t per target class")
    targets: int = param(
        9, min=1, help="number of target classes of apgd-t and fab-t, those with the largest logits first"
    )
    queries: int = param(5000, min=1, help="maximum number of queries of square per sample")
    early_stop: bool = param(False, help="stop apgd and apgd-t at a sample's first adversarial point")

    def __post_init__(self) -> None:
        """Validates the parameters, and that none is set that the version does not use.

        Raises:
            ParameterError: A value is not allowed, or not in this version.
        """
        super().__post_init__()
        for parameter in super().parameters():
            if parameter.name in _INAPPLICABLE[self.version] and getattr(self, parameter.name) != parameter.default:
                raise _inapplicable(parameter.name, self.version)

    @classmethod
    def parameters(cls, given: Mapping[str, str] | None = None) -> tuple[Parameter, ...]:
        """Returns the parameters of the version that ``given`` names; of the standard version by default."""
        inapplicable = _INAPPLICABLE.get((given or {}).get("version", "standard"), ())
        return tuple(parameter for parameter in super().parameters(given) if parameter.name not in inapplicable)

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> dict[str, Value]:
        """Parses parameters from a spec.

        Raises:
            ParameterError: A parameter is unknown, malformed, out of range or not used by the version.
        """
        version = given.get("version", "standard")
        for key in given:
            if key in _INAPPLICABLE.get(version, ()):
                raise _inapplicable(key, version)
        return super().parse(given)

    def values(self) -> dict[str, Value]:
        """Returns the version's parameters with their values, defaults included."""
        return {key: value for key, value in super().values().items() if key not in _INAPPLICABLE[self.version]}

    def craft(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        goal: Goal,
        rng: SampleRandom,
        fitted: Artefact | None = None,
    ) -> Crafted:
        """Attacks one batch and reports which part broke each sample; see :meth:`advbench.api.Attack.craft`.

        Returns:
            The images, with the note ``component``: for each sample the index in :meth:`parts` of the part that broke
            it, int8, shape (batch,); -1 if none did or the clean image is misclassified.
        """
        del fitted
        labels = goal.labels
        crafted = images.clone()
        component = torch.full(labels.shape, -1, dtype=torch.int8, device=images.device)
        with torch.no_grad():
            logits = float32_logits(model, images)
        margins = goal.margin(logits)
        rows = (logits.argmax(dim=1) == labels).nonzero().flatten()
        for index, part in enumerate(self.parts(logits.shape[1]).values()):
            if not len(rows):
                break
            remaining = for_rows(model, rows)
            candidates = part(remaining, images[rows], labels[rows], rng[rows])
            with torch.no_grad():
                logits = float32_logits(remaining, candidates)
            is_adv = logits.argmax(dim=1) != labels[rows]
            component[rows[is_adv]] = index
            candidate_margins = goal[rows].margin(logits)
            improved = is_adv | (candidate_margins > margins[rows])
            crafted[rows[improved]], margins[rows[improved]] = candidates[improved], candidate_margins[improved]
            rows = rows[~is_adv]
        return Crafted(crafted, {"component": component})

    def component_names(self) -> tuple[str, ...]:
        """Returns the names of the parts."""
        return tuple(self.parts())

    def component_access(self) -> tuple[Access, ...]:
        """Returns what each part needs of the model: scores for square, gradients for the others."""
        return tuple(SquareAttack.access if name == SquareAttack.name else self.access for name in self.parts())

    def parts(self, classes: int | None = None) -> dict[str, Part]:
        """Returns the attacks of this version by name, in the order they run, for a model with so many classes."""
        ce = AutoPgd(self.eps, self.norm, "ce", self.steps, early_stop=self.early_stop)
        if self.version == "rand":
            loss = "margin" if classes is not None and classes < 3 else "dlr"
            dlr = AutoPgd(self.eps, self.norm, loss, self.steps, early_stop=self.early_stop)
            return {"apgd-ce": ce.run, "apgd-dlr": dlr.run}
        targeted = TargetedAutoPgd(self.eps, self.norm, self.targets, self.steps, early_stop=self.early_stop)
        square = SquareAttack(self.eps, self.norm, self.queries)
        return {"apgd-ce": ce.run, "apgd-t": targeted.run, "fab-t": self._fab, "square": square.run}

    def budget(self) -> Budget:
        """Returns the ball of radius eps."""
        return Budget(cast(Norm, self.norm), self.eps)

    def passes(self) -> int:
        """Returns the sum over all parts, as a sample needs that withstands them all."""
        if self.version == "rand":
            return 2 * self.steps
        return self.steps + self.steps * self.targets * 7 // 3 + self.queries // 3

    def _fab(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Returns the nearest points of fab-t where they are within eps, and the clean images elsewhere."""
        del rng
        ball = Ball(cast(Norm, self.norm), self.eps)
        search = FabSearch(
            model, images, Goal(labels), steps=self.steps, targets=self.targets, norm=ball.norm, eps=self.eps
        )
        points = search.run()
        return torch.where(per_image(search.nearest.distances <= self.eps), ball.project(points, images), images)


def _inapplicable(key: str, version: str) -> ParameterError:
    return ParameterError(f"{key} has no meaning with version={version}; leave it out")
