"""The classifier that an adaptive attack sees: defense and model as one, with gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from advbench.api import ContractError, SampleRandom
from advbench.contracts.defenses import check_defended
from advbench.contracts.images import check_form
from advbench.errors import blamed
from advbench.evaluation.work.eot_graphs import DrawGraphs
from advbench.specs import Chain

__all__ = ["DefendedClassifier"]


class DefendedClassifier(torch.nn.Module):
    """Defense and model as one classifier, from images in [0, 1] to logits.

    The forward pass is the true defense. The backward pass takes each part's gradient from autograd where the part
    is differentiable, and else from its approximation (BPDA: Athalye, Carlini and Wagner 2018, section 4.1). Where
    the defense is stochastic, every call draws it anew ``draws`` times, and the logits are the mean over the
    draws, so that a gradient is that of the expected logits (EOT: section 4.2).

    An attack that asks about some of its samples says which, through :func:`advbench.api.for_rows`; each sample then
    has random streams of its own. A batch of another size, of samples unknown, has streams that depend on the
    calls before.

    Args:
        network: The model's network, frozen and in eval mode.
        chain: The defense.
        rng: Streams of the samples under attack, in the order of the attack's batch.
        draws: How often a stochastic defense is drawn at each call.
        graphs: What the network's graphs take, where that is known already.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        chain: Chain,
        rng: SampleRandom,
        draws: int,
        graphs: DrawGraphs | None = None,
    ) -> None:
        super().__init__()
        self.training = False
        self.network = network
        self.chain = chain
        self.stochastic = chain.stochastic
        self.draws = draws if chain.stochastic else 1
        self._graphs = DrawGraphs(network) if graphs is None else graphs
        self._rng = rng
        self._unassigned = SampleRandom(rng.seed, f"{rng.purpose}/unassigned", [0], rng.device)

    def for_rows(self, rows: torch.Tensor) -> DefendedClassifier:
        """This classifier for some of the samples, with their streams where they are."""
        return DefendedClassifier(self.network, self.chain, self._rng[rows], self.draws, self._graphs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of shape (batch, classes).

        Raises:
            ContractError: A part of the defense, or its approximation, broke its contract.
        """
        samples = len(images)
        if self.draws == 1:
            logits: torch.Tensor = self.network(_through(self.chain, images, self._streams(samples)))
            return logits
        draws_per_batch = self._graphs.draws_per_batch(samples, self.draws)
        total: torch.Tensor | None = None
        for done in range(0, self.draws, draws_per_batch):
            times = min(draws_per_batch, self.draws - done)
            copies = images if times == 1 else images.repeat(times, 1, 1, 1)
            defended = _through(self.chain, copies, self._streams(samples, times))
            for one in torch.split(self._graphs.logits(defended, done * samples), samples):
                total = one if total is None else total + one
        assert total is not None
        return total / self.draws

    def _streams(self, count: int, times: int = 1) -> SampleRandom:
        """Streams for some applications, other ones every time where the defense is stochastic."""
        rng = self._rng if count == len(self._rng) else self._unassigned[[0] * count]
        return rng.spawn(times) if self.chain.stochastic else rng


def _through(chain: Chain, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
    """The defended images, with a gradient back to the images where one is asked for."""
    wanted = torch.is_grad_enabled() and images.requires_grad
    for place, part in enumerate(chain.parts):
        name = f"defense {part.name!r}"
        if wanted and part.differentiable:
            with _watched(name, images):
                defended = part.apply(images, chain.streams(place, rng))
            images = _with_gradient(name, defended, images)
            continue
        with torch.no_grad(), blamed(name):
            defended = part.apply(images.detach().clone(), chain.streams(place, rng))
        defended = check_defended(part.name, images, defended)
        if wanted:
            # The same numbers are drawn again, so that the stand-in is one for this very application.
            label = f"the approximation of {name}"
            with _watched(label, images):
                stand_in = part.approximation(images, chain.streams(place, rng))
            stand_in = _with_gradient(label, stand_in, images)
            defended = defended + (stand_in - stand_in.detach())
        images = defended
    return images


@contextlib.contextmanager
def _watched(label: str, images: torch.Tensor) -> Iterator[None]:
    """Blames a part for what it raises, and for changing images that are not its own: a copy has no gradient."""
    version = images._version
    with blamed(label):
        yield
    if images._version != version:
        raise ContractError(f"{label} changed its input images in place; components work on a copy")


def _with_gradient(label: str, images: object, source: torch.Tensor) -> torch.Tensor:
    """Holds images to the contract of defenses, and to having a gradient."""
    check_form(label, source, images)
    assert isinstance(images, torch.Tensor)
    if not images.requires_grad:
        raise ContractError(
            f"{label} returned images without a gradient to those that it was given; compute them with torch and "
            "without detach(), or leave the approximation to be the identity"
        )
    return images
