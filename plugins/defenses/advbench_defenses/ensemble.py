"""Several defenses as one: each gives the model its own images, and the answers are combined."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import torch

from advbench.api import (
    Access,
    Answer,
    ContractError,
    Defense,
    Detector,
    ParameterError,
    combine_logits,
    most_access,
    param,
    transforms_images,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from advbench.api import Artefact, SampleRandom

__all__ = ["Ensemble"]


@dataclass(frozen=True)
class Ensemble(Defense):
    """Classifies each image behind several defenses, and combines the answers.

    ``rule=logits`` averages the logits, ``rule=probabilities`` the softmax probabilities, and ``rule=votes`` counts the
    predicted classes; of equally many votes, the smaller class number wins. Each random member draws random numbers of
    its own, also if it is named twice.

    Adaptive attacks follow each member as they would follow it alone: by autograd, its approximation, or its
    ``attacked``. Under ``rule=votes`` they follow the mean of the probabilities, since votes have no gradient. If
    members have several approximations, run i uses approximation i of each member, or its last one.
    """

    name: ClassVar[str] = "ensemble"
    source: ClassVar[str] = (
        "Kittler, Hatef, Duin and Matas 1998, On Combining Classifiers, sum rule and majority vote rule; ensembles of "
        "input transformations: Guo, Rana, Cisse and van der Maaten 2018, section 5"
    )

    of: tuple[Defense, ...] = param(kind="defenses", help="the defenses")
    rule: str = param("logits", choices=("logits", "probabilities", "votes"), help="what is averaged or counted")

    def __post_init__(self) -> None:
        """Validates that the defenses can be combined.

        Raises:
            ParameterError: One rejects images, or is fitted to data.
        """
        super().__post_init__()
        for member in self.of:
            if isinstance(member, Detector):
                raise ParameterError(
                    f"of: {member.name} rejects images and cannot be a member; put it in front of the ensemble, as in "
                    f"{member.name}+{self.name}:of=…"
                )
            if type(member).fit is not Defense.fit:
                raise ParameterError(f"of: {member.name} is fitted to data; give it as a defense of its own")

    @property
    def stochastic(self) -> bool:
        """Whether a member is."""
        return any(member.stochastic for member in self.of)

    @property
    def self_contained(self) -> bool:  # type: ignore[override]  # a property here, a class variable there
        """Whether all members are."""
        return all(member.self_contained for member in self.of)

    @property
    def differentiable(self) -> bool:  # type: ignore[override]
        """Whether autograd can differentiate all members."""
        return all(member.differentiable for member in self.of)

    @property
    def needs(self) -> Access:  # type: ignore[override]
        """The most that a member needs; scores, if anything else than votes is combined."""
        return most_access([member.needs for member in self.of] + ["labels" if self.rule == "votes" else "scores"])

    @property
    def votes(self) -> int | None:  # type: ignore[override]
        """One for each member, if they vote."""
        return len(self.of) if self.rule == "votes" else None

    def incompatibility(self, image_shape: tuple[int, int, int]) -> str:
        """The reason of the first member that cannot take the images; or members return images of several shapes."""
        for member in self.of:
            if reason := member.incompatibility(image_shape):
                return reason
        shapes = {member.output_shape(image_shape): member.name for member in self.of}
        if len(shapes) > 1:
            (one, first), (other, second) = list(shapes.items())[:2]
            return f"{self.name}: {first} returns images of {one}, and {second} of {other}"
        return ""

    def output_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The shape that all members return."""
        return self.of[0].output_shape(image_shape)

    def classify(
        self, network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom, fitted: Artefact | None = None
    ) -> torch.Tensor:
        """Returns the combined logits."""
        del fitted
        answers = [
            _logits(member, member.classify(network, images.clone(), self._streams(index, rng)))
            for index, member in enumerate(self.of)
        ]
        return combine_logits(torch.stack(answers), self.rule)

    def attacked(
        self, network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom, fitted: Artefact | None = None
    ) -> torch.Tensor:
        """Returns the combined logits, with the gradients of the members."""
        return self._attacked(0, network, images, rng, fitted)

    def attacked_views(self) -> tuple[Callable[..., torch.Tensor], ...]:
        """Returns as many views as the member with the most approximations has."""
        return tuple(partial(self._attacked, number) for number in range(max(map(_count_views, self.of))))

    def weights_digest(self) -> str | None:
        """SHA-256 of the digests of all members' weights; None if no member has any.

        Raises:
            WeightsError: The weights of one are missing or damaged.
        """
        digests = [member.weights_digest() for member in self.of]
        return hashlib.sha256("\0".join(map(str, digests)).encode()).hexdigest() if any(digests) else None

    def _attacked(
        self,
        number: int,
        network: torch.nn.Module,
        images: torch.Tensor,
        rng: SampleRandom,
        fitted: Artefact | None = None,
    ) -> torch.Tensor:
        """The combined logits, with the gradients of one of the approximations of each member."""
        del fitted
        answers = []
        for index, member in enumerate(self.of):
            streams = partial(self._streams, index, rng)
            if transforms_images(member):
                answers.append(network(_followed(member, number, images, streams)))
            else:
                views = member.attacked_views()
                answers.append(_logits(member, views[min(number, len(views) - 1)](network, images, streams(), None)))
        return combine_logits(torch.stack(answers), "probabilities" if self.rule == "votes" else self.rule)

    def _streams(self, index: int, rng: SampleRandom) -> SampleRandom:
        """The random streams of a member, from their start."""
        return rng.derive(f"{index}:{self.of[index].name}")


def _followed(member: Defense, number: int, images: torch.Tensor, streams: Callable[[], SampleRandom]) -> torch.Tensor:
    """The images that a member returns, with the gradient of autograd or of one of its approximations (BPDA)."""
    if not (torch.is_grad_enabled() and images.requires_grad):
        return member.apply(images.clone(), streams())
    if member.differentiable:
        defended, gradient = member.apply(images, streams()), None
    else:
        with torch.no_grad():
            defended = member.apply(images.detach().clone(), streams())
        approximations = member.approximations()
        gradient = approximations[min(number, len(approximations) - 1)](images, defended, streams())
    source = defended if gradient is None else gradient
    if not source.requires_grad or source.shape != defended.shape:
        raise ContractError(
            f"defense {member.name!r} has no gradient as a member of an ensemble: its "
            f"{'images' if gradient is None else 'approximation'} must be of shape {tuple(defended.shape)} and depend "
            "on the input"
        )
    return defended if gradient is None else defended + (gradient - gradient.detach())


def _count_views(member: Defense) -> int:
    """How many approximations of a member adaptive attacks try."""
    if transforms_images(member):
        return 1 if member.differentiable else len(member.approximations())
    return len(member.attacked_views())


def _logits(member: Defense, answer: torch.Tensor | Answer) -> torch.Tensor:
    """The logits of a member that classifies.

    Raises:
        ContractError: It rejects images.
    """
    if not isinstance(answer, Answer):
        return answer
    if answer.score is not None:
        raise ContractError(f"defense {member.name!r} rejects images and cannot be a member of an ensemble")
    return answer.logits
