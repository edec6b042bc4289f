"""The contract of models."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from advbench.api.component import Component

if TYPE_CHECKING:
    import torch

    from advbench.api.attack import Access, Norm
    from advbench.api.defense import Certificate
    from advbench.api.randomness import SampleRandom

__all__ = ["Model"]


class _Declarations:
    """What a model declares by class variables, properties or parameters.

    The class is no dataclass, so that the fields of a model come in the order in which it defines them.
    """

    gives: ClassVar[Access] = "gradients"
    stochastic: ClassVar[bool] = False


@dataclasses.dataclass(frozen=True)
class Model(Component, _Declarations):
    """A classifier that maps images in [0, 1] to logits. Normalisation of the input belongs inside the model.

    Attributes:
        image_shape: The (channels, height, width) that it accepts, or None for any. A property if it depends on the
            parameters.
        num_classes: Number of logits, or None for at least as many as the dataset has classes. May be a property.
        gives: What the model gives to attacks and defenses: ``gradients``, ``scores`` (logits without a gradient) or
            ``labels`` (an output of which only the largest entry counts). Cells of attacks and defenses that need more
            are skipped; see :attr:`advbench.api.Attack.access`. May be a property or a parameter.
        stochastic: Whether the logits depend on random numbers, as with dropout that stays on. The network then takes
            ``(images, rng)``. May be a property or a parameter.
        certified_norm: The norm of the radii of :meth:`certify`; None if the model certifies nothing. May be a
            property.
    """

    image_shape: ClassVar[tuple[int, int, int] | None]
    num_classes: ClassVar[int | None]
    certified_norm: ClassVar[Norm | None] = None

    @abstractmethod
    def load(self) -> torch.nn.Module:
        """Builds the network with its trained weights, on the CPU.

        Returns:
            A module that maps float32 images in [0, 1], shape (batch, *image_shape), to logits, shape
            (batch, num_classes), or to an output in which :class:`advbench.api.Float32Network` finds the logits. The
            harness moves the module to the device, sets it to eval mode and freezes it.

            The module of a :attr:`stochastic` model is called with ``(images, rng)``, where ``rng`` is a
            :class:`~advbench.api.SampleRandom` with a stream for each image, in their order. It is the only source of
            randomness that the module may use: the same streams give the same logits, in any batch.

        Raises:
            WeightsError: The weights are missing or damaged; the message names the command that creates them.
        """

    @abstractmethod
    def weights_digest(self) -> str:
        """SHA-256 of the weights that :meth:`load` uses; a part of every key. Should not build the network.

        Raises:
            WeightsError: The weights are missing or damaged.
        """

    def certify(self, network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom) -> Certificate:
        """Certifies one batch in :attr:`certified_norm`; called only if that is not None, and without a gradient.

        Args:
            network: What :meth:`load` returned, with float32 logits, in eval mode. Do not change it. That of a
                stochastic model takes ``(images, rng)`` here, too.
            images: Clean images, float32 in [0, 1], shape (batch, channels, height, width). Do not change them.
            rng: The samples' random streams.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define certify()")
