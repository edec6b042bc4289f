"""The classifier that an adaptive attack sees: defense and model as one classifier with gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from advbench.api import Answer, Artefact, ClassifierWrapper, ContractError, Defense, Detector, SampleRandom
from advbench.contracts.artefacts import artefact_unchanged
from advbench.contracts.defenses import check_approximations, check_classified, check_defended
from advbench.contracts.images import check_form
from advbench.errors import blamed
from advbench.evaluation.work.attacked.eot_graphs import Classifier, EOTGraphs
from advbench.evaluation.work.attacked.missing_gradient import MissingGradientError
from advbench.evaluation.work.chain_pass import ChainPass, image_shape
from advbench.evaluation.work.networks import takes_rng
from advbench.specs import Chain, full_spec, transforms_images

__all__ = ["DefendedClassifier", "count_approximations", "count_draws", "forget_numbers", "seen_logits"]

_INPUTS = ("images", "defended images")

_BATCH = 250
"""How many images the network inside of a defense gets at once if no gradient is computed."""


class DefendedClassifier(torch.nn.Module):
    """Defense and model as one classifier, from images in [0, 1] to logits; with no defense, a stochastic model.

    The forward pass is the true defense. The backward pass uses autograd for each differentiable part, and the
    approximation of each other part that transforms images (BPDA: Athalye, Carlini and Wagner 2018, section 4.1). A
    part that classifies is called by its :meth:`advbench.api.Defense.attacked`, which autograd follows. A stochastic
    defense or model is drawn ``draws`` times at each call, and the logits are the mean over the draws, so that the
    gradient is that of the expected logits (EOT: section 4.2).

    An attack that queries some of its samples names them through :func:`advbench.api.for_rows`; each sample then has
    its own random streams. For a batch of another size the samples are unknown, and the streams depend on earlier
    calls.

    Args:
        network: The model's network, frozen and in eval mode.
        chain: The defense; without parts if there is none.
        rng: Random streams of the attacked samples, in the order of the attack's batch.
        draws: How often a stochastic defense or model is drawn at each call.
        graphs: The network with its measured memory, if it has been measured before.
        number: Which of their approximations the parts use, from 0; a part that has fewer uses its last one.
        labels: The true labels of the samples, int64; only defenses that reject images need them.
        fitted: What each part of the chain has fitted to data, None for one that has not; nothing if none has.
        without_gradients: Whether the attack follows no gradients. A part that classifies then answers as it answers
            everybody, by :meth:`advbench.api.Defense.classify`; a vote needs no further draws.
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
        labels: torch.Tensor | None = None,
        fitted: Sequence[Artefact | None] = (),
        without_gradients: bool = False,
    ) -> None:
        super().__init__()
        self.training = False
        self.network = network
        self.chain = chain
        self.stochastic = chain.stochastic or takes_rng(network)
        self.approximate_gradients = self.stochastic or not all(part.differentiable for part in chain.parts)
        self.can_reject = any(map(_rejects, chain.parts))
        votes = without_gradients and any(part.votes is not None for part in chain.parts)
        self.draws = draws if self.stochastic and not votes else 1
        self.without_gradients = without_gradients
        self.number = number
        self.labels = labels
        self.fitted = fitted
        self._graphs = EOTGraphs(network) if graphs is None else graphs
        self._rng = rng
        self._unassigned = SampleRandom(rng.seed, f"{rng.purpose}/unassigned", [0], rng.device)

    def for_rows(self, rows: torch.Tensor) -> DefendedClassifier:
        """This classifier for some of the samples; their random streams continue."""
        rng, graphs, number = self._rng[rows], self._graphs, self.number
        labels = None if self.labels is None else self.labels[rows]
        return DefendedClassifier(
            self.network,
            self.chain,
            rng,
            self.draws,
            graphs=graphs,
            number=number,
            labels=labels,
            fitted=self.fitted,
            without_gradients=self.without_gradients,
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The logits that attacks see, shape (batch, classes).

        Raises:
            ContractError: A part of the defense, or its approximation, broke its contract.
        """
        answered = self.full_answer(images)
        if self.chain.classifying is None:
            return answered.logits
        return self._attack_logits(self.chain.parts[self.chain.classifying], answered)

    def full_answer(self, images: torch.Tensor) -> Answer:
        """Logits and score, averaged over the draws; see :func:`advbench.api.answer`.

        Raises:
            ContractError: As for :meth:`forward`.
        """
        samples, scored = len(images), False

        def answer(attacked: _AttackedPass, points: torch.Tensor, streams: SampleRandom) -> torch.Tensor:
            nonlocal scored
            logits, score = attacked.answer(points, streams)
            scored = score is not None
            return logits if score is None else torch.cat((logits, score[:, None]), dim=1)

        def defend(copies: torch.Tensor, times: int) -> tuple[torch.Tensor, Classifier]:
            streams = self._streams(samples, times)
            attacked = _AttackedPass(self.chain, self.network, self.number, self.fitted, self.without_gradients)
            if self.chain.classifying is None and not takes_rng(self.network):
                return attacked.transform_all(copies, streams), self.network
            return copies, lambda points: answer(attacked, points, streams)

        if self.draws == 1:
            defended, classifier = defend(images, 1)
            logits = classifier(defended)
        else:
            logits = self._graphs.mean_logits(images, self.draws, defend)
        return Answer(logits[:, :-1], logits[:, -1]) if scored else Answer(logits)

    def _attack_logits(self, part: Defense, answer: Answer) -> torch.Tensor:
        """What the attack sees of an answer that is averaged over the draws."""
        if answer.score is None and type(part).attack_logits is Defense.attack_logits:
            return answer.logits
        if self.labels is None or len(self.labels) != len(answer.logits):
            raise ContractError(
                f"defense {part.name!r} rejects images, so an attack must name their samples with for_rows(model, rows)"
            )
        with blamed(f"defense {part.name!r}"):
            return part.attack_logits(answer, self.labels)

    def _streams(self, count: int, times: int = 1) -> SampleRandom:
        """Random streams for some applications; new ones at each call if defense or model are stochastic."""
        rng = self._rng if count == len(self._rng) else self._unassigned[[0] * count]
        return rng.spawn(times) if self.stochastic else rng


def seen_logits(answered: Answer, labels: torch.Tensor) -> torch.Tensor:
    """Logits that are wrong exactly where an answer is accepted and wrong, by the default of ``attack_logits``.

    See :meth:`advbench.api.Defense.attack_logits`. Shape (batch, classes).
    """
    return Defense().attack_logits(answered, labels)


def _rejects(part: Defense) -> bool:
    """Whether a part is a detector that leaves it to attacks what they follow; see :func:`advbench.api.can_reject`."""
    return isinstance(part, Detector) and type(part).attack_logits is Defense.attack_logits


def count_draws(classifier: torch.nn.Module) -> int:
    """How many draws of a stochastic defense a classifier, or the one that it wraps, averages at each call."""
    while isinstance(classifier, ClassifierWrapper):
        classifier = classifier.target
    return classifier.draws if isinstance(classifier, DefendedClassifier) else 1


def count_approximations(chain: Chain) -> int:
    """How many approximations of a chain there are: the most of any part that autograd cannot differentiate.

    Of a part that classifies, they are its views.

    Raises:
        ContractError: A part returned no approximations, or another number of them than before.
    """
    exact = [transforms_images(part) and part.differentiable for part in chain.parts]
    return max(
        (len(_approximations(part)) for part, none in zip(chain.parts, exact, strict=True) if not none), default=1
    )


_numbers: dict[tuple[type[Defense], str], int] = {}
"""How many approximations each defense has returned, by its class and full spec.

Attacks run once with each of them. If their number changed, a run would be left out or be made twice.
"""


def forget_numbers() -> None:
    """Forgets how many approximations defenses have returned, since a new run may have changed code."""
    _numbers.clear()


def _approximations(part: Defense) -> tuple[Callable[..., Any], ...]:
    """The approximations of a part that transforms images, or the views of one that classifies."""
    key = (type(part), full_spec(part))
    with blamed(f"defense {part.name!r}"):
        returned = check_approximations(part, _numbers.get(key))
    _numbers[key] = len(returned)
    return returned


class _AttackedPass(ChainPass):
    """The parts of a chain with a gradient to the images if these require one, of one of the approximations.

    Args:
        chain: The defense.
        network: The model's network.
        number: Which of their approximations the parts use; a part that has fewer uses its last one.
        fitted: What each part has fitted to data; see :class:`ChainPass`.
        without_gradients: See :class:`DefendedClassifier`.
    """

    def __init__(
        self,
        chain: Chain,
        network: torch.nn.Module,
        number: int,
        fitted: Sequence[Artefact | None] = (),
        without_gradients: bool = False,
    ) -> None:
        super().__init__(chain, network, _BATCH, fitted)
        self.number = number
        self.without_gradients = without_gradients

    def transform_all(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """The images that all parts together return."""
        for index in range(len(self.chain.parts)):
            images = self.transform(index, images, rng)
        return images

    def transform(self, index: int, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """The images that a part returns."""
        part = self.chain.parts[index]
        needs_gradient = torch.is_grad_enabled() and images.requires_grad
        name, shape = f"defense {part.name!r}", image_shape(part, images)
        if needs_gradient and part.differentiable:
            with _inputs_checked(name, images):
                defended = part.apply(images, self.chain.streams(index, rng))
            return _with_gradient(name, defended, images, shape, "leave out differentiable = True")
        with torch.no_grad(), blamed(name):
            defended = part.apply(images.detach().clone(), self.chain.streams(index, rng))
        defended = check_defended(part.name, images, defended, shape)
        if needs_gradient:
            # It draws the same random numbers, so that it approximates this very application.
            label = f"the approximation of {name}"
            approximate = self._view(part)
            with _inputs_checked(label, images, defended):
                approximation = approximate(images, defended, self.chain.streams(index, rng))
            if approximation is images and shape != tuple(images.shape[1:]):
                raise ContractError(
                    f"{name} changes the shape of images, so the identity cannot approximate it; define "
                    "approximation(), or set differentiable = True"
                )
            cure = "leave out the approximation, which then is the identity"
            approximation = _with_gradient(label, approximation, images, shape, cure)
            defended = defended + (approximation - approximation.detach())
        return defended

    def classify(self, index: int, images: torch.Tensor, rng: SampleRandom) -> Answer:
        """The answer of a part that classifies, as attacks see it."""
        part = self.chain.parts[index]
        name = f"defense {part.name!r}"
        fitted = self.fitted[index]
        as_everybody = self.without_gradients and not (torch.is_grad_enabled() and images.requires_grad)
        ask, method = (part.classify, "classify") if as_everybody else (self._view(part), "attacked")
        with _inputs_checked(name, images), artefact_unchanged(name, fitted):
            returned = ask(self.inside(index, rng), images, self.chain.streams(index, rng), fitted)
        answer = check_classified(part.name, method, returned, images)
        if torch.is_grad_enabled() and images.requires_grad and not answer.logits.requires_grad:
            raise MissingGradientError(
                f"{name} returned logits without a gradient from attacked(); compute them with torch and without "
                "detach(), or use attacks that only need labels, such as noise or foolbox:attack=HopSkipJumpAttack"
            )
        return answer

    def _view(self, part: Defense) -> Callable[..., Any]:
        """The approximation of a part that this pass uses."""
        approximations = _approximations(part)
        return approximations[min(self.number, len(approximations) - 1)]


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
            raise ContractError(f"{label} changed its input {what} in place; it must work on a copy")


def _with_gradient(
    label: str, images: object, source: torch.Tensor, shape: tuple[int, int, int], cure: str
) -> torch.Tensor:
    """Checks the form of a part's images, of this shape, and that they have a gradient."""
    check_form(label, source, images, shape)
    assert isinstance(images, torch.Tensor)
    if not images.requires_grad:
        raise ContractError(
            f"{label} returned images without a gradient to its input; compute them with torch and without detach(), "
            f"or {cure}"
        )
    return images
