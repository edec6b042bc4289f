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
        norm: The norm of the perturbation, over all pixels and channels of one image.
        eps: The largest norm allowed, for images in [0, 1].
    """

    norm: Norm
    eps: float


@renamed_members("0.2", "0.4", minimises="minimized_norm")
@dataclasses.dataclass(frozen=True)
class Attack(Component):
    """Turns (model, images, labels) into adversarial images.

    A *budget* attack maximises the loss within :meth:`budget`. A *minimal* attack, whose budget is None,
    searches for the smallest perturbation that fools the model.

    Attributes:
        access: What the attack needs from the model: ``gradients``, ``scores`` (logits), ``labels`` (only the class of
            the largest logit), or ``nothing``, such as random noise. Make it a property if it depends on the
            parameters. If an attack with less access beats those with more, gradients are probably masked. Attacks that
            need only labels also run on models that return probabilities or one-hot labels.
        group_size: None if the result of a sample depends on this sample alone, as it should. If an attack reproduces a
            published implementation whose results depend on the batch, this is the size of that batch; make it a
            property if a parameter sets it. :meth:`run` then gets complete groups of consecutive samples, in the order
            of the run; the last group may be smaller. Groups are neither split nor joined, whatever the batch size,
            the number of jobs and the memory are.
    """

    access: ClassVar[Access] = "gradients"
    group_size: ClassVar[int | None] = None

    @abstractmethod
    def run(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Attacks one batch, untargeted.

        Args:
            model: Classifier in eval mode, images in [0, 1] to logits of shape (batch, classes). Its
                parameters need no gradient; its inputs may.
            images: Clean images, float32 in [0, 1], shape (batch, channels, height, width). Do not change them.
            labels: True labels, int64, shape (batch,).
            rng: The samples' random streams; the only source of randomness an attack may use.

        Returns:
            Adversarial images, of the images' shape and dtype, finite and in [0, 1], and within the budget
            if there is one. A minimal attack that fails on a sample returns its clean image; the harness
            counts that sample as not fooled.
        """

    def run_with_notes(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Attacks one batch and reports details of each sample. The harness calls this method.

        An ensemble of attacks overrides it, to report which of its attacks fooled each sample.

        Returns:
            The adversarial images of :meth:`run`, and a mapping of notes, each of shape (batch,). ``component`` is
            the index in :meth:`component_names` of the attack that fooled the sample, int8, or -1 if none did.
        """
        return self.run(model, images, labels, rng), {}

    def component_names(self) -> tuple[str, ...]:
        """Names of the attacks in this ensemble; empty for a single attack."""
        return ()

    def component_access(self) -> tuple[Access, ...]:
        """What each attack of the ensemble needs from the model, in the order of :meth:`component_names`.

        See :attr:`access`.
        """
        return (self.access,) * len(self.component_names())

    def budget(self) -> Budget | None:
        """The budget, or None for a minimal attack. The harness checks that every image respects it."""
        return None

    def minimized_norm(self) -> Norm | None:
        """The norm that a minimal attack minimises. Leaderboards show its median distortion in this norm.

        None if the norm is unknown or is not a :data:`Norm`. Not called for budget attacks.
        """
        return None

    def passes(self) -> int | None:
        """Approximate number of forward and backward passes per image, for the time estimate; None if unknown."""
        return None
