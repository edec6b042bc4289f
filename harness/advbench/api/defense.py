"""The contract of defenses."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from advbench._deprecated import renamed_members
from advbench.api.component import Component

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from advbench.api.attack import Access, Norm
    from advbench.api.fit import Artefact, FitData
    from advbench.api.randomness import SampleRandom

__all__ = ["Answer", "Certificate", "Defense", "transforms_images"]


class Answer(NamedTuple):
    """What a defense that classifies returns for a batch.

    Attributes:
        logits: float32, shape (batch, classes).
        score: float32, shape (batch,): an image with a score above 0 is rejected. None if the defense rejects nothing.
    """

    logits: torch.Tensor
    score: torch.Tensor | None = None


class Certificate(NamedTuple):
    """Classes that are guaranteed within a radius around each image.

    Attributes:
        classes: The certified class of each image, int64, shape (batch,); -1 where the certificate abstains.
        radii: The radius within which no perturbation changes that class, a lower bound of at least 0, shape (batch,),
            in the norm that the component declares as ``certified_norm``.
    """

    classes: torch.Tensor
    radii: torch.Tensor


@renamed_members("0.2", "0.4", misfit="incompatibility")
@dataclasses.dataclass(frozen=True)
class Defense(Component):
    """Protects a model: it transforms images before the model classifies them, or classifies them with the model.

    A defense that transforms images defines :meth:`apply`. A defense that classifies, such as a vote over several
    copies of the image, defines :meth:`classify`, and :meth:`attacked` if attacks need another view of it.

    Attributes:
        identity: Whether the defense returns every image unchanged, as the undefended baseline does.
        differentiable: Whether autograd can differentiate :meth:`apply`. Adaptive attacks then use its gradient and do
            not call :meth:`approximations`.
        votes: Of how many votes the logits of :meth:`classify` are log shares; None if they are no votes. A property if
            it depends on the parameters.
        certified_norm: The norm of the radii of :meth:`certify`; None if the defense certifies nothing. May be a
            property.
        needs: What the defense needs of the model, in the words of :attr:`advbench.api.Model.gives`. Cells with models
            that give less are skipped. May be a property.
    """

    identity: ClassVar[bool] = False
    differentiable: ClassVar[bool] = False
    needs: ClassVar[Access] = "labels"
    votes: ClassVar[int | None] = None
    certified_norm: ClassVar[Norm | None] = None

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Transforms one batch.

        Args:
            images: float32 in [0, 1], shape (batch, channels, height, width), on any device. Do not change them.
            rng: The samples' random streams; the only source of randomness a defense may use.

        Returns:
            Images of the same dtype and device and of the shape (batch, *:meth:`output_shape`), finite, and
            approximately in [0, 1]. They are passed to the model without clipping. A pixel more than 0.5 outside [0, 1]
            is an error; for stochastic defenses, more than 20.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define apply()")

    def output_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The shape of the images that the model gets for images of this shape; the default is the same shape.

        A defense that changes the shape needs a gradient of its own: ``differentiable = True``, or an
        :meth:`approximation`.

        Args:
            image_shape: (channels, height, width).
        """
        return image_shape

    def fit(self, network: torch.nn.Module, data: FitData, rng: SampleRandom) -> Artefact | None:
        """Fits the defense to images that the run does not evaluate, once for each place in a chain and each model.

        Only a defense that classifies can be fitted: :meth:`classify`, :meth:`attacked` and :meth:`certify` get what it
        returns as ``fitted``. The default fits nothing.

        Args:
            network: As for :meth:`classify`; the samples are those of ``data``, so that ``for_rows(network, places)``
                takes the images at some places.
            data: The images, as the parts of a chain before this one transform them.
            rng: The random streams of the images of ``data``; ``rng[places]`` are those of some of them.

        Returns:
            Tensors, numbers and texts by name; the same for the same arguments.
        """
        del network, data, rng
        return None

    def classify(
        self,
        network: torch.nn.Module,
        images: torch.Tensor,
        rng: SampleRandom,
        fitted: Artefact | None = None,
    ) -> torch.Tensor | Answer:
        """Classifies one batch with the network, without a gradient. The default is ``network(apply(images))``.

        Args:
            network: The classifier behind the defense: the model, or the next parts of a chain and the model. It maps
                images of :meth:`output_shape`, shape (m, channels, height, width), to logits, shape (m, classes).
                ``network(images)`` takes one image of each sample, in the order of the batch;
                ``for_rows(network, rows)(images)`` takes any number of images of any samples, see
                :func:`~advbench.api.for_rows`. Every call draws the random numbers of what is inside afresh.
            images: As for :meth:`apply`.
            rng: The samples' random streams; the only source of randomness a defense may use.
            fitted: What the defense has fitted to data; None if it fits nothing.

        Returns:
            Finite logits, shape (batch, classes), or these as an :class:`Answer`.
        """
        del fitted
        logits: torch.Tensor = network(self.apply(images, rng))
        return logits

    def attacked(
        self,
        network: torch.nn.Module,
        images: torch.Tensor,
        rng: SampleRandom,
        fitted: Artefact | None = None,
    ) -> torch.Tensor | Answer:
        """One draw of :meth:`classify` as adaptive attacks see it, which autograd follows from logits to images.

        The default is :meth:`classify`. Override it if that has no useful gradient: the vote of a random defense, for
        example, is attacked through one of its copies. Attacks average the logits of several draws (EOT).

        Args:
            network: As for :meth:`classify`; it has the gradients of what is inside.
            images: As for :meth:`apply`; they may require a gradient. Do not change them.
            rng: As for :meth:`classify`; every draw has other streams.
            fitted: As for :meth:`classify`.

        Returns:
            As :meth:`classify`.
        """
        return self.classify(network, images, rng, fitted)

    def attacked_views(
        self,
    ) -> tuple[
        Callable[[torch.nn.Module, torch.Tensor, SampleRandom, Artefact | None], torch.Tensor | Answer],
        ...,
    ]:
        """All views of a defense that classifies which adaptive attacks try, each called as :meth:`attacked`.

        Override it if no single view has the best gradient for all images and attacks. As with
        :meth:`approximations`, an attack that uses gradients then runs once with each of them, and each sample keeps
        its best result. All views return the same logits and may differ in their gradients.

        In a chain, run i uses view i of each part, or its last one if it has fewer.

        Returns:
            At least one function of ``(network, images, rng, fitted)``, as many at every call. The default is
            ``attacked`` alone.
        """
        return (self.attacked,)

    def attack_logits(self, answer: Answer, labels: torch.Tensor) -> torch.Tensor:
        """The logits that attacks see, for an answer averaged over draws; shape (batch, classes).

        Without a score, these are the answer's logits. With a score, the label's logit becomes
        max(z_y, max z + score), so that an image is misclassified exactly if it is accepted and wrong.

        Args:
            answer: What :meth:`attacked` returned.
            labels: True labels, int64, shape (batch,).
        """
        if answer.score is None:
            return answer.logits
        rows = labels[:, None]
        rejected = answer.logits.amax(dim=1) + answer.score
        return answer.logits.scatter(1, rows, answer.logits.gather(1, rows).maximum(rejected[:, None]))

    def certify(
        self,
        network: torch.nn.Module,
        images: torch.Tensor,
        rng: SampleRandom,
        fitted: Artefact | None = None,
    ) -> Certificate:
        """Certifies one batch in :attr:`certified_norm`; called only if that is not None, and without a gradient.

        Args:
            network: As for :meth:`classify`.
            images: Clean images, as for :meth:`apply`.
            rng: As for :meth:`classify`; the streams are others than those of predictions.
            fitted: As for :meth:`classify`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define certify()")

    def approximation(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """A differentiable approximation of :meth:`apply`, for the backward pass of adaptive attacks (BPDA).

        The forward pass of an adaptive attack is always ``apply``. The default is the identity, which is adequate
        if the transformed image is close to the original and has its shape.

        Args:
            images: As for :meth:`apply`; they may require a gradient.
            rng: Streams that draw the same numbers as those passed to ``apply``.

        Returns:
            Images of the same shape, dtype and device as ``apply`` returns, connected to ``images`` in the autograd
            graph.

        Source: Athalye, Carlini and Wagner 2018, Obfuscated Gradients Give a False Sense of Security, section 4.1.
        """
        del rng
        return images

    def approximation_from_output(self, images: torch.Tensor, output: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """The same as :meth:`approximation`, for a caller that has the output of :meth:`apply`.

        Adaptive attacks call this method, unless :meth:`approximations` returns others. Override it if the
        approximation depends on the output and computing the output again would be expensive, and let
        :meth:`approximation` call it. The default ignores the output.

        Args:
            images: As for :meth:`approximation`.
            output: What ``apply`` returned for these images and this ``rng``, without a gradient. Do not change it.
            rng: As for :meth:`approximation`.

        Returns:
            As :meth:`approximation`.
        """
        del output
        return self.approximation(images, rng)

    def approximations(self) -> tuple[Callable[[torch.Tensor, torch.Tensor, SampleRandom], torch.Tensor], ...]:
        """All approximations that adaptive attacks try, each called as :meth:`approximation_from_output`.

        Override it if no single approximation is best for all images and attacks. An adaptive attack that uses
        gradients then runs once with each of them, and each sample keeps its best result. So its time multiplies, up to
        the samples that an earlier approximation has already broken. The result is chosen on random draws that are not
        used for scoring.

        In a chain, run i uses approximation i of each part, or its last one if it has fewer.

        Returns:
            At least one function of ``(images, output, rng)``, as many at every call. The default is
            ``approximation_from_output`` alone.
        """
        return (self.approximation_from_output,)

    def incompatibility(self, image_shape: tuple[int, int, int]) -> str:
        """Why images of this shape cannot be transformed.

        Called before any other method. If the shape is not supported, the cells are skipped, with this reason.

        Args:
            image_shape: (channels, height, width).

        Returns:
            The reason, in words that name the defense and the shape; empty if the images can be transformed.
        """
        del image_shape
        return ""

    @property
    def stochastic(self) -> bool:
        """Whether the output depends on random numbers, so that two calls on one image may differ."""
        return False

    def weights_digest(self) -> str | None:
        """SHA-256 of the trained weights that the defense uses, or None; a part of every key.

        Raises:
            WeightsError: The weights are missing or damaged; the message names the command that creates them.
        """
        return None


def transforms_images(part: Defense) -> bool:
    """Whether a defense only transforms images: it does not define how the network classifies them."""
    kind = type(part)
    return kind.classify is Defense.classify and kind.attacked is Defense.attacked
