"""The contract of detectors: defenses that reject suspicious images."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from advbench.api.defense import Answer, Defense
from advbench.api.fit import artefact_param
from advbench.api.parameters import param
from advbench.errors import ContractError

if TYPE_CHECKING:
    import torch

    from advbench.api.fit import Artefact, FitData
    from advbench.api.randomness import SampleRandom

__all__ = ["Detector"]

_BATCH = 250
"""How many images get their suspicion at once while a detector is fitted."""

_ROUNDING = 1e-9
"""More than the rounding of 1 - ``fpr`` times the number of images."""


@dataclasses.dataclass(frozen=True)
class Detector(Defense):
    """Rejects images whose suspicion is larger than that of most clean images; the others are classified as usual.

    A detector defines :meth:`suspicion`. It is fitted to clean images: the threshold is their quantile of order
    1 - ``fpr``, and the spread is the standard deviation of their suspicions. The score of an image is (suspicion -
    threshold) / spread; an image with a score above 0 is rejected. Adaptive attacks follow the gradient of
    :meth:`suspicion`, and get the logits of :meth:`attack_logits`.

    A chain has at most one detector, with defenses that transform images alone before it.

    Args:
        fpr: False positive rate: the share of clean images that are rejected.
        file: A file of ``advbench artefact`` with the threshold and spread of an earlier fit, which is not repeated.
    """

    fpr: float = param(0.05, above=0, below=1, help="share of clean images that are rejected")
    file: str | None = artefact_param()

    def suspicion(self, network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """How suspicious images are; larger for adversarial ones.

        Args:
            network: As for :meth:`classify`.
            images: As for :meth:`apply`; they may require a gradient, which must reach the result. A step without one,
                such as rounding, needs an approximation in the backward pass, such as the identity.
            rng: As for :meth:`classify`.

        Returns:
            Finite numbers, shape (batch,).
        """
        raise NotImplementedError(f"{type(self).__name__} does not define suspicion()")

    def fit(self, network: torch.nn.Module, data: FitData, rng: SampleRandom) -> Artefact:
        """Fits ``threshold`` and ``spread`` to the suspicions of clean images.

        The threshold is the k-th smallest of n suspicions, k = ⌈(n + 1)(1 - ``fpr``)⌉, or n if that is smaller. A
        further clean image then exceeds it with a probability of at most ``fpr``, if n is at least 1 / ``fpr`` - 1.
        """
        import torch

        from advbench.api.rows import for_rows

        parts = []
        with torch.no_grad():
            for places in torch.split(torch.arange(len(data)), _BATCH):
                batch = data.images(places)
                parts.append(self._checked(self.suspicion(for_rows(network, places), batch, rng[places]), len(batch)))
        suspicions = torch.cat(parts).cpu().double().sort().values
        rank = math.ceil((len(suspicions) + 1) * (1 - self.fpr) - _ROUNDING)
        spread = float(suspicions.std(correction=0))
        return {
            "threshold": float(suspicions[min(max(rank, 1), len(suspicions)) - 1]),
            "spread": spread if spread > 0 else 1.0,
        }

    def classify(
        self,
        network: torch.nn.Module,
        images: torch.Tensor,
        rng: SampleRandom,
        fitted: Artefact | None = None,
    ) -> Answer:
        """The network's logits, and the score of :meth:`score`."""
        suspicions = self._checked(self.suspicion(network, images, rng), len(images))
        return Answer(network(images), self.score(suspicions, fitted))

    def score(self, suspicions: torch.Tensor, fitted: Artefact | None) -> torch.Tensor:
        """(suspicion - threshold) / spread; above 0 for images that are rejected.

        Args:
            suspicions: Shape (batch,).
            fitted: What :meth:`fit` returned.
        """
        if fitted is None:
            raise ContractError(f"detector {self.name!r} classifies before it has been fitted")
        threshold, spread = fitted["threshold"], fitted["spread"]
        assert isinstance(threshold, float)
        assert isinstance(spread, float)
        return (suspicions - threshold) / spread

    def _checked(self, suspicions: object, count: int) -> torch.Tensor:
        import torch

        if not isinstance(suspicions, torch.Tensor) or suspicions.shape != (count,):
            shape = tuple(suspicions.shape) if isinstance(suspicions, torch.Tensor) else None
            what = type(suspicions).__name__ if shape is None else f"shape {shape}"
            raise ContractError(f"detector {self.name!r} returned {what} from suspicion(); expected shape ({count},)")
        if not suspicions.is_floating_point():
            raise ContractError(
                f"detector {self.name!r} returned {suspicions.dtype} from suspicion(); expected floating-point numbers"
            )
        if not bool(torch.isfinite(suspicions).all()):
            raise ContractError(f"detector {self.name!r} returned NaN or infinite numbers from suspicion()")
        return suspicions
