"""The contract of attacks."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from advbench._deprecated import renamed_members
from advbench.api.component import Component

if TYPE_CHECKING:
    import torch

    from advbench.api.randomness import SampleRandom

__all__ = ["Access", "Attack", "Budget", "Norm"]

Norm = Literal["linf", "l2", "l1", "l0"]

Access = Literal["gradients", "scores", "labels", "nothing"]
"""What an attack needs of the model."""


class Budget(NamedTuple):
    """The largest perturbation that a budget attack may make.

    Attributes:
        norm: The norm it is measured in, over all pixels and channels of one image.
        eps: Its size, images being in [0, 1].
    """

    norm: Norm
    eps: float


@renamed_members("0.2", "0.4", minimises="minimized_norm")
@dataclasses.dataclass(frozen=True)
class Attack(Component):
    """Turns (model, images, labels) into adversarial images.

    A *budget* attack maximises the loss within :meth:`budget`; a *minimal* attack, whose budget is None,
    searches the smallest perturbation that fools the model.

    Attributes:
        access: What it needs of the model: its ``gradients``, its ``scores`` (logits), its ``labels`` alone (the class
            of the largest logit), or ``nothing``, such as random noise; a property where it depends on the parameters.
            An attack with less access that does better than those with more tells of masked gradients. Attacks that
            need no more than labels run on models that give probabilities, or labels in one-hot form.
    """

    access: ClassVar[Access] = "gradients"

    @abstractmethod
    def run(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Attacks one batch, untargeted.

        Args:
            model: Classifier in eval mode, images in [0, 1] to logits of shape (batch, classes). Its
                parameters need no gradient; its inputs may.
            images: Clean images, float32 in [0, 1], shape (batch, channels, height, width). Not to be changed.
            labels: True labels, int64, shape (batch,).
            rng: The samples' random streams; the only source of randomness an attack may use.

        Returns:
            Adversarial images, of the images' shape and dtype, finite and in [0, 1], within the budget
            where there is one. A minimal attack returns the clean image where it found nothing: the
            harness counts that sample as not fooled.
        """

    def run_with_notes(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Attacks one batch and tells what it knows of each sample; what the harness calls.

        An attack that consists of several overrides it, to tell which of them fooled each sample.

        Returns:
            What :meth:`run` returns; and notes, each of shape (batch,): ``component``, the place in
            :meth:`component_names` of the one that fooled the sample, int8, -1 where none did.
        """
        return self.run(model, images, labels, rng), {}

    def component_names(self) -> tuple[str, ...]:
        """The names of the attacks that this one consists of; empty where it is one."""
        return ()

    def component_access(self) -> tuple[Access, ...]:
        """What each of them needs of the model, in the order of :meth:`component_names`; see :attr:`access`."""
        return (self.access,) * len(self.component_names())

    def budget(self) -> Budget | None:
        """The budget, or None for a minimal attack. The harness checks every image against it."""
        return None

    def minimized_norm(self) -> Norm | None:
        """The norm that a minimal attack keeps small, in which leaderboards show its median distortion.

        None where it is another or unknown. A budget attack is not asked.
        """
        return None

    def passes(self) -> int | None:
        """About how many forward-and-backward passes an image takes, for the forecast; None where unknown."""
        return None
