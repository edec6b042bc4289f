"""The contract of attacks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, get_args

from advbench._deprecated import overridden_member, renamed_members
from advbench.api.component import Component
from advbench.api.goal import Goal, goal_of
from advbench.api.perturbation import LpBall, Norm, PerturbationSet

if TYPE_CHECKING:
    import torch

    from advbench.api.fit import Artefact, FitData
    from advbench.api.randomness import SampleRandom

__all__ = ["Access", "AdaptiveView", "Attack", "Budget", "Crafted", "Norm", "most_access"]

Access = Literal["gradients", "scores", "labels", "nothing"]
"""What an attack needs of the model."""


def most_access(accesses: Iterable[Access]) -> Access:
    """The most of what several components need, which a component that contains them all needs."""
    return min(accesses, key=get_args(Access).index)


class Budget(NamedTuple):
    """The largest perturbation that a budget attack may make.

    Attributes:
        norm: The norm of the perturbation, over all pixels and channels of one image.
        eps: The largest norm allowed, for images in [0, 1].
    """

    norm: Norm
    eps: float


class Crafted(NamedTuple):
    """What an attack returns.

    Attributes:
        images: Adversarial images, of the clean images' shape and dtype.
        notes: Details of each sample: tensors whose first dimension runs over the batch. ``component`` is the index in
            :meth:`Attack.component_names` of the attack that fooled the sample, int8, or -1 if none did. An attack
            returns the notes that its :meth:`Attack.perturbation` names.
    """

    images: torch.Tensor
    notes: Mapping[str, torch.Tensor] = MappingProxyType({})


@dataclasses.dataclass(frozen=True)
class AdaptiveView:
    """How an attack wants to see a defense that it knows.

    Attributes:
        draws: Over how many draws of a stochastic defense a call of the classifier is averaged; None for the number
            that the run sets (``--eot``).
        approximations: Which of a defense's :meth:`~advbench.api.Defense.approximations` the attack uses, counted from
            1; empty for all of them. A run of the attack is made with each.
    """

    draws: int | None = None
    approximations: tuple[int, ...] = ()


@renamed_members("0.2", "0.4", minimises="minimized_norm")
@dataclasses.dataclass(frozen=True)
class Attack(Component):
    """Turns (model, images, goal) into adversarial images.

    A subclass defines :meth:`craft`. A *budget* attack maximises the loss within :meth:`budget`. A *minimal* attack,
    whose budget is None, searches for the smallest perturbation that fools the model. An attack with another
    perturbation set, such as a patch or a rotation, defines :meth:`perturbation`.

    Attributes:
        access: What the attack needs from the model: ``gradients``, ``scores`` (logits), ``labels`` (only the class of
            the largest logit), or ``nothing``, such as random noise. Make it a property if it depends on the
            parameters. The attack gets no more than that: with ``scores``, logits without a gradient; with ``labels``,
            the predicted class as one-hot float32 logits; with ``nothing``, a call of the model is an
            error. If an attack with less access beats those with more, gradients are probably masked. Attacks that need
            only labels also run on models that return probabilities or one-hot labels.
        group_size: None if the result of a sample depends on this sample alone, as it should. If an attack reproduces a
            published implementation whose results depend on the batch, this is the size of that batch; make it a
            property if a parameter sets it. :meth:`craft` then gets complete groups of consecutive samples, in the
            order of the run; the last group may be smaller. Groups are neither split nor joined, whatever the batch
            size, the number of jobs and the memory are.
        view: How an adaptive attack sees the defense; None for the view of the run. Make it a property if a parameter
            sets it.
        inner: The attack that this one runs in its place, with another view for example; None if there is none. The
            ``goal``, the ``file`` of an artefact, and whether the attack is fitted are then those of the inner one.
    """

    access: ClassVar[Access] = "gradients"
    group_size: ClassVar[int | None] = None
    view: ClassVar[AdaptiveView | None] = None
    inner: ClassVar[Attack | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Lets a class that defines the older methods :meth:`run` or :meth:`run_with_notes` work, with a warning."""
        super().__init_subclass__(**options)
        old = next((name for name in ("run_with_notes", "run") if name in vars(cls)), None)
        if old is not None and "craft" not in vars(cls):
            overridden_member(cls, vars(cls)[old], f"Attack.{old}", "Attack.craft", since="0.2", removed_in="0.4")
            cls.craft = _craft_with_run  # type: ignore[method-assign]

    def fit(self, model: torch.nn.Module, data: FitData, goal: Goal, rng: SampleRandom) -> Artefact | None:
        """Fits the attack to images that it does not attack, before :meth:`craft`; the default fits nothing.

        An attack that defines this method, such as a patch or a universal perturbation, is fitted once for each
        classifier that it attacks. The result is stored and passed to every :meth:`craft` as ``fitted``. Its queries of
        the model are not counted.

        Args:
            model: The classifier, as in :meth:`craft`. Query it about the images at some places with
                ``for_rows(model, places)(images)``, so that the streams of a stochastic defense are those of the
                samples, see :func:`~advbench.api.for_rows`.
            data: The images and their labels.
            goal: The goal for each of the images: ``goal[places]`` is that of some.
            rng: The random streams of the images, ``rng[places]`` those of some; the only source of randomness.

        Returns:
            Tensors, finite numbers and texts by name.
        """
        del model, data, goal, rng
        return None

    def fit_passes(self, samples: int) -> int | None:
        """Approximate number of forward and backward passes of :meth:`fit`, for the time estimate; None if unknown.

        Args:
            samples: The number of images to which the attack is fitted. A pass over a batch counts once for each image.
        """
        del samples
        return None

    def craft(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        goal: Goal,
        rng: SampleRandom,
        fitted: Artefact | None = None,
    ) -> torch.Tensor | Crafted:
        """Attacks one batch.

        Args:
            model: Classifier in eval mode, images in [0, 1] to logits of shape (batch, classes). Its
                parameters need no gradient; its inputs may.
            images: Clean images, float32 in [0, 1], shape (batch, channels, height, width). Do not change them.
            goal: The true labels, and the target classes if the attack is targeted. Only attacks with the parameter
                ``goal``, see :func:`~advbench.api.goal_param`, get target classes.
            rng: The samples' random streams; the only source of randomness an attack may use.
            fitted: What the attack has fitted to data; None if it fits nothing.

        Returns:
            Adversarial images, of the images' shape and dtype, finite and in [0, 1], and inside the perturbation
            set; or these with notes. A minimal attack that fails on a sample returns its clean image; the
            harness counts that sample as not fooled.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define craft()")

    def run(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Attacks one batch, untargeted; see :meth:`craft`.

        Returns:
            The adversarial images.
        """
        return self._craft_untargeted(model, images, labels, rng).images

    def run_with_notes(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Attacks one batch, untargeted, and reports details of each sample; see :meth:`craft`.

        Returns:
            The adversarial images, and the notes of :class:`Crafted`.
        """
        if type(self).run is not Attack.run:
            return self.run(model, images, labels, rng), {}
        return self._craft_untargeted(model, images, labels, rng)

    def _craft_untargeted(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> Crafted:
        """Calls the :meth:`craft` that a class defines, not the one that stands for an overridden :meth:`run`."""
        defined = (vars(base).get("craft") for base in type(self).__mro__)
        craft = next(method for method in defined if method not in (None, _craft_with_run))
        crafted = craft(self, model, images, Goal(labels), rng, None)
        return crafted if isinstance(crafted, Crafted) else Crafted(crafted)

    @property
    def innermost(self) -> Attack:
        """The attack that runs in the end: that of :attr:`inner`, or else this one."""
        return self if self.inner is None else self.inner.innermost

    @property
    def has_fit(self) -> bool:
        """Whether the attack defines :meth:`fit`."""
        return type(self.innermost).fit is not Attack.fit

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

    def perturbation(self) -> PerturbationSet:
        """The perturbation set. The harness checks that every image is inside.

        By default the ball of :meth:`budget`, or for a minimal attack that of :meth:`minimized_norm` without a bound.
        Override it for other sets than Lp balls, such as :class:`~advbench.api.Patch`; :meth:`budget` is then None.
        """
        budget = self.budget()
        return LpBall(self.minimized_norm()) if budget is None else LpBall(budget.norm, budget.eps)

    def minimized_norm(self) -> Norm | None:
        """The norm that a minimal attack minimises. Leaderboards show its median distortion in this norm.

        None if the norm is unknown or is not a :data:`Norm`. Not called for budget attacks.
        """
        return None

    def misfit(self, image_shape: tuple[int, int, int], num_classes: int) -> str:
        """Why the attack cannot attack images of this shape and number of classes, or "" if it can.

        The harness skips such cells and shows the reason.
        """
        del image_shape
        goal = goal_of(self)
        if goal.isdecimal() and int(goal) >= num_classes:
            return f"goal={goal}: there are only the classes 0 to {num_classes - 1}"
        return ""

    def passes(self) -> int | None:
        """Approximate number of forward and backward passes per image, for the time estimate; None if unknown.

        0 if :meth:`craft` does not query the model, since all that it needs has been fitted.
        """
        return None


def _craft_with_run(  # noqa: PLR0917  the arguments of craft()
    self: Attack,
    model: torch.nn.Module,
    images: torch.Tensor,
    goal: Goal,
    rng: SampleRandom,
    fitted: Artefact | None = None,
) -> Crafted:
    """:meth:`Attack.craft` of a class that overrides :meth:`Attack.run` instead."""
    del fitted
    return Crafted(*self.run_with_notes(model, images, goal.labels, rng))
