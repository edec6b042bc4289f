"""Randomized smoothing: a vote over noisy copies of the image, with certified L2 radii."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import torch

from advbench.api import Certificate, Defense, for_rows, log_shares, param, widest_float
from advbench_defenses.binomial import lower_bound

if TYPE_CHECKING:
    from advbench.api import Artefact, SampleRandom

__all__ = ["RandomizedSmoothing"]

_VALUES = 2**14
"""About how many pixel values of each sample the network gets at once. It depends on nothing but the image's shape, so
that a sample's noise does not depend on its batch."""


@dataclass(frozen=True)
class RandomizedSmoothing(Defense):
    """Adds Gaussian noise to many copies of the image, and predicts the class that the network gives most of them.

    The noise is not clipped to [0, 1]. The network should be one that was trained with such noise.

    The certificate selects a class with n0 copies, and bounds its probability p from below with n others
    (Clopper-Pearson). The radius is sigma Φ⁻¹(p), at most sigma Φ⁻¹(alpha^(1/n)). If the bound is not above 1/2, the
    certificate abstains.

    Adaptive attacks get the logits of one noisy copy at each draw, averaged over the draws of EOT (Salman et al. 2019,
    Provably Robust Deep Learning via Adversarially Trained Smoothed Classifiers, section 3).

    Args:
        sigma: Standard deviation of the noise, for pixels in [0, 1].
        samples: Copies that vote for a prediction.
        n0: Copies that select the class to certify.
        n: Copies that bound its probability; the paper takes 100,000.
        alpha: The probability that a certificate is wrong.
    """

    name = "smoothing"
    self_contained = True
    stochastic = True
    certified_norm = "l2"
    source = "Cohen, Rosenfeld and Kolter 2019, Certified Adversarial Robustness via Randomized Smoothing, section 3"
    sigma: float = param(0.25, above=0, max=1000, help="standard deviation of the noise, for pixels in [0, 1]")
    samples: int = param(100, min=1, max=100_000, help="noisy copies that vote for a prediction")
    n0: int = param(100, min=1, max=1_000_000, stage="certify", help="copies that select the class to certify")
    n: int = param(1000, min=1, max=1_000_000, stage="certify", help="copies that bound its probability")
    alpha: float = param(0.001, above=0, below=0.5, stage="certify", help="probability that a certificate is wrong")

    @property
    def votes(self) -> int:  # type: ignore[override]  # a property here, a class variable there
        """One for each copy."""
        return self.samples

    def classify(
        self, network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom, fitted: Artefact | None = None
    ) -> torch.Tensor:
        """Returns the log shares of the votes."""
        del fitted
        return log_shares(self._count(network, images, rng, self.samples))

    def attacked(
        self, network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom, fitted: Artefact | None = None
    ) -> torch.Tensor:
        """Returns the logits of one noisy copy."""
        del fitted
        logits: torch.Tensor = network(images + self.sigma * rng.normal(*images.shape[1:]))
        return logits

    def certify(
        self, network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom, fitted: Artefact | None = None
    ) -> Certificate:
        """Returns the classes and radii of the paper's algorithm CERTIFY."""
        del fitted
        classes = self._count(network, images, rng.derive("selection"), self.n0).argmax(dim=1)
        counts = self._count(network, images, rng.derive("estimation"), self.n)
        successes = counts.gather(1, classes[:, None])[:, 0].tolist()
        bounds = {count: lower_bound(count, self.n, self.alpha) for count in set(successes)}
        radii = [self.sigma * NormalDist().inv_cdf(bounds[k]) if bounds[k] > 0.5 else -1.0 for k in successes]
        certified = torch.tensor(radii, dtype=widest_float(images.device), device=images.device)
        return Certificate(torch.where(certified < 0, -1, classes), certified.clamp(min=0))

    def _count(self, network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom, copies: int) -> torch.Tensor:
        """How many noisy copies of each image the network puts into each class; int64, shape (batch, classes)."""
        shape = images.shape[1:]
        at_once = max(1, _VALUES // shape.numel())
        counts: torch.Tensor | None = None
        for done in range(0, copies, at_once):
            times = min(at_once, copies - done)
            noisy = images[:, None] + self.sigma * rng.normal(times, *shape)
            rows = torch.arange(len(images), device=images.device).repeat_interleave(times)
            logits = for_rows(network, rows)(noisy.flatten(0, 1))
            votes = torch.nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1])
            new = votes.reshape(len(images), times, -1).sum(dim=1)
            counts = new if counts is None else counts + new
        assert counts is not None
        return counts
