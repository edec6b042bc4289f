"""Several models as one: the mean of their logits or of their probabilities."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from advbench.api import Access, Model, ParameterError, param

if TYPE_CHECKING:
    import torch

__all__ = ["Ensemble"]


@dataclass(frozen=True)
class Ensemble(Model):
    """Averages the logits, or the softmax probabilities, of several models.

    With ``rule=probabilities``, the logits of the ensemble are the logarithms of the mean probabilities. As a
    surrogate, it gives images that are crafted on several models at once.
    """

    name: ClassVar[str] = "ensemble"
    source: ClassVar[str] = (
        "Liu, Chen, Liu and Song 2017, Delving into Transferable Adversarial Examples and Black-box Attacks, section 5"
    )

    of: tuple[Model, ...] = param(kind="models", help="the models")
    rule: str = param("logits", choices=("logits", "probabilities"), help="what is averaged")

    def __post_init__(self) -> None:
        """Validates that the models can be combined.

        Raises:
            ParameterError: They take images of different shapes or have different classes.
        """
        super().__post_init__()
        for what, values in (
            ("take images of different shapes", {model.image_shape for model in self.of} - {None}),
            ("have different numbers of classes", {model.num_classes for model in self.of} - {None}),
        ):
            if len(values) > 1:
                raise ParameterError(f"of: the models {what}: {' and '.join(sorted(map(str, values)))}")

    @property
    def image_shape(self) -> tuple[int, int, int] | None:  # type: ignore[override]
        """The shape that the models take; None if all take any."""
        return next((model.image_shape for model in self.of if model.image_shape is not None), None)

    @property
    def num_classes(self) -> int | None:  # type: ignore[override]
        """The number of classes of the models."""
        return next((model.num_classes for model in self.of if model.num_classes is not None), None)

    @property
    def gives(self) -> Access:  # type: ignore[override]
        """What the model that gives least gives."""
        order: tuple[Access, ...] = ("gradients", "scores", "labels", "nothing")
        return max((model.gives for model in self.of), key=order.index)

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        """Whether any of the models is stochastic."""
        return any(model.stochastic for model in self.of)

    def load(self) -> torch.nn.Module:
        """Loads all models.

        Raises:
            WeightsError: The weights of one are missing or damaged.
        """
        from advbench.api import Float32Network
        from advbench_models.mean_network import MeanNetwork, Member

        members = [
            Member(
                model.name,
                Float32Network(model.load(), f"model {model.name!r}", takes_rng=model.stochastic),
                model.stochastic,
                model.gives,
            )
            for model in self.of
        ]
        return MeanNetwork(members, probabilities=self.rule == "probabilities")

    def weights_digest(self) -> str:
        """SHA-256 of the digests of all models' weights.

        Raises:
            WeightsError: The weights of one are missing or damaged.
        """
        return hashlib.sha256("\0".join(model.weights_digest() for model in self.of).encode()).hexdigest()
