"""The classifier that an adaptive attack sees: defense and model as one classifier with gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from advbench.api import ClassifierWrapper, ContractError, Defense, SampleRandom
from advbench.contracts.defenses import Approximation, check_approximations, check_defended
from advbench.contracts.images import check_form
from advbench.errors import blamed
from advbench.evaluation.work.attacked.eot_graphs import EOTGraphs
from advbench.specs import Chain, full_spec

__all__ = ["DefendedClassifier", "count_approximations", "count_draws", "forget_numbers"]

_INPUTS = ("images", "defended images")


class DefendedClassifier(torch.nn.Module):
    """Defense and model as one classifier, from images in [0, 1] to logits.

    The forward pass is the true defense. The backward pass uses autograd for each differentiable part, and the
    approximation of each other part (BPDA: Athalye, Carlini and Wagner 2018, section 4.1). A stochastic defense is
    drawn ``draws`` times at each call, and the logits are the mean over the draws, so that the gradient is that of the
    expected logits (EOT: section 4.2).

    An attack that queries some of its samples names them through :func:`advbench.api.for_rows`; each sample then has
    its own random streams. For a batch of another size the samples are unknown, and the streams depend on earlier
    calls.

    Args:
        network: The model's network, frozen and in eval mode.
        chain: The defense.
        rng: Random streams of the attacked samples, in the order of the attack's batch.
        draws: How often a stochastic defense is drawn at each call.
        graphs: The network with its measured memory, if it has been measured before.
        number: Which of their approximations the parts use, from 0; a part that has fewer uses its last one.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        chain: Chain,
        rng: SampleRandom,
        draws: int,
        *,
        graphs: EOTGraphs | None = None,
        number: int = 0,
    ) -> None:
        super().__init__()
        self.training = False
        self.network = network
        self.chain = chain
        self.stochastic = chain.stochastic
        self.approximate_gradients = chain.stochastic or not all(part.differentiable for part in chain.parts)
        self.draws = draws if chain.stochastic else 1
        self.number = number
        self._graphs = EOTGraphs(network) if graphs is None else graphs
        self._rng = rng
        self._unassigned = SampleRandom(rng.seed, f"{rng.purpose}/unassigned", [0], rng.device)

    def for_rows(self, rows: torch.Tensor) -> DefendedClassifier:
        """This classifier for some of the samples; their random streams continue."""
        rng, graphs, number = self._rng[rows], self._graphs, self.number
        return DefendedClassifier(self.network, self.chain, rng, self.draws, graphs=graphs, number=number)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of shape (batch, classes).

        Raises:
            ContractError: A part of the defense, or its approximation, broke its contract.
        """
        samples = len(images)
        if self.draws == 1:
            output: torch.Tensor = self.network(_apply_chain(self.chain, images, self._streams(samples), self.number))
            return output

        def defend(copies: torch.Tensor, times: int) -> torch.Tensor:
            return _apply_chain(self.chain, copies, self._streams(samples, times), self.number)

        return self._graphs.mean_logits(images, self.draws, defend)

    def _streams(self, count: int, times: int = 1) -> SampleRandom:
        """Random streams for some applications; new ones at each call if the defense is stochastic."""
        rng = self._rng if count == len(self._rng) else self._unassigned[[0] * count]
        return rng.spawn(times) if self.chain.stochastic else rng


def count_draws(classifier: torch.nn.Module) -> int:
    """How many draws of a stochastic defense a classifier, or the one that it wraps, averages at each call."""
    while isinstance(classifier, ClassifierWrapper):
        classifier = classifier.target
    return classifier.draws if isinstance(classifier, DefendedClassifier) else 1


def count_approximations(chain: Chain) -> int:
    """How many approximations of a chain there are: the most of any part that autograd cannot differentiate.

    Raises:
        ContractError: A part returned no approximations, or another number of them than before.
    """
    return max((len(_approximations(part)) for part in chain.parts if not part.differentiable), default=1)


_numbers: dict[tuple[type[Defense], str], int] = {}
"""How many approximations each defense has returned, by its class and full spec.

Attacks run once with each of them. If their number changed, a run would be left out or be made twice.
"""


def forget_numbers() -> None:
    """Forgets how many approximations defenses have returned, since a new run may have changed code."""
    _numbers.clear()


def _approximations(part: Defense) -> tuple[Approximation, ...]:
    key = (type(part), full_spec(part))
    with blamed(f"defense {part.name!r}"):
        returned = check_approximations(part, _numbers.get(key))
    _numbers[key] = len(returned)
    return returned


def _apply_chain(chain: Chain, images: torch.Tensor, rng: SampleRandom, number: int) -> torch.Tensor:
    """The defended images, with a gradient to the images if they require one.

    Args:
        chain: The defense.
        images: The images.
        rng: Their random streams.
        number: Which of their approximations the parts use; a part that has fewer uses its last one.
    """
    needs_gradient = torch.is_grad_enabled() and images.requires_grad
    for index, part in enumerate(chain.parts):
        name = f"defense {part.name!r}"
        if needs_gradient and part.differentiable:
            with _inputs_checked(name, images):
                defended = part.apply(images, chain.streams(index, rng))
            images = _with_gradient(name, defended, images)
            continue
        with torch.no_grad(), blamed(name):
            defended = part.apply(images.detach().clone(), chain.streams(index, rng))
        defended = check_defended(part.name, images, defended)
        if needs_gradient:
            # It draws the same random numbers, so that it approximates this very application.
            label = f"the approximation of {name}"
            approximations = _approximations(part)
            approximate = approximations[min(number, len(approximations) - 1)]
            with _inputs_checked(label, images, defended):
                approximation = approximate(images, defended, chain.streams(index, rng))
            approximation = _with_gradient(label, approximation, images)
            defended = defended + (approximation - approximation.detach())
        images = defended
    return images


@contextlib.contextmanager
def _inputs_checked(label: str, *inputs: torch.Tensor) -> Iterator[None]:
    """Blames a part for its exceptions, and for changing its input: it gets no copy, which would cut the gradient.

    Args:
        label: What messages call the part.
        inputs: The images, and for an approximation the defended images.
    """
    # Tensors of inference mode count no versions, and refuse changes in place.
    counted = [(what, one, one._version) for what, one in zip(_INPUTS, inputs, strict=False) if not one.is_inference()]
    with blamed(label):
        yield
    for what, one, version in counted:
        if one._version != version:
            raise ContractError(f"{label} changed its input {what} in place; components work on a copy")


def _with_gradient(label: str, images: object, source: torch.Tensor) -> torch.Tensor:
    """Checks the form of a part's images, and that they have a gradient."""
    check_form(label, source, images)
    assert isinstance(images, torch.Tensor)
    if not images.requires_grad:
        raise ContractError(
            f"{label} returned images without a gradient to its input; compute them with torch and without detach(), "
            "or leave out the approximation, which then is the identity"
        )
    return images
