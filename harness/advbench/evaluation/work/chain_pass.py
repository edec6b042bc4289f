"""Passes images through a chain of defenses and the network: parts that transform images, and parts that classify."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from advbench.api import Answer, Artefact, Certificate, ContractError, Defense, SampleRandom
from advbench.contracts.artefacts import artefact_unchanged
from advbench.contracts.certificates import check_certificate
from advbench.contracts.defenses import check_classified, check_defended, check_votes
from advbench.contracts.images import check_unchanged
from advbench.errors import blamed
from advbench.evaluation.work.networks import model_streams, takes_rng
from advbench.specs import Chain, transforms_images

__all__ = ["ChainPass", "image_shape"]


class ChainPass:
    """Calls the parts of a chain around a network, as a prediction does; a subclass calls them in another way.

    A part that transforms images passes its images on to the next part, and the last part passes them to the network. A
    part that classifies gets a classifier instead, which contains all parts after it.

    Args:
        chain: The chain.
        network: The model's network, from images to logits; that of a stochastic model also takes random streams.
        batch_size: How many images the network gets at once if no gradient is computed.
        fitted: What each part has fitted to data, None for one that has not; nothing if none has.

    Attributes:
        drawn: The indices of the parts that have drawn random numbers; that of the model is the number of parts.
    """

    def __init__(
        self, chain: Chain, network: torch.nn.Module, batch_size: int, fitted: Sequence[Artefact | None] = ()
    ) -> None:
        self.chain = chain
        self.network = network
        self.fitted = tuple(fitted) or (None,) * len(chain.parts)
        self.batch_size = max(1, batch_size)
        self.drawn: set[int] = set()

    def answer(self, images: torch.Tensor, rng: SampleRandom, start: int = 0) -> Answer:
        """What the chain from a part on, with the network, answers for a batch.

        Args:
            images: What that part gets, shape (batch, channels, height, width).
            rng: The random streams of the samples.
            start: The index of the part.

        Raises:
            ContractError: A part broke its contract.
        """
        for index in range(start, len(self.chain.parts)):
            if not transforms_images(self.chain.parts[index]):
                return self.classify(index, images, rng)
            images = self.transform(index, images, rng)
        return Answer(self._ask_network(images, rng))

    def classifier(self, rng: SampleRandom) -> torch.nn.Module:
        """The chain with the network as one classifier, which draws afresh at every call."""
        return _Inside(self, 0, rng)

    def inside(self, index: int, rng: SampleRandom) -> torch.nn.Module:
        """The classifier that a part gets: everything after it."""
        return _Inside(self, index + 1, rng.derive(f"{index}:inside"))

    def certify(self, images: torch.Tensor, rng: SampleRandom) -> Certificate:
        """The certificates of the first part.

        Raises:
            ContractError: A part broke its contract.
        """
        part = self.chain.parts[0]
        label, given = f"defense {part.name!r}", images.clone()
        with blamed(label), artefact_unchanged(label, self.fitted[0]):
            returned = part.certify(self.inside(0, rng), given, self.chain.streams(0, rng), self.fitted[0])
        check_unchanged(label, "images", images, given)
        return check_certificate(label, returned, images)

    def transform(self, index: int, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """The images that a part returns; ``rng`` has the streams of the samples, of which the part gets its own."""
        part, streams = self.chain.parts[index], self.chain.streams(index, rng)
        with blamed(f"defense {part.name!r}"):
            returned = part.apply(images.clone(), streams)
        self._note_draws(index, streams)
        return check_defended(part.name, images, returned, image_shape(part, images))

    def classify(self, index: int, images: torch.Tensor, rng: SampleRandom) -> Answer:
        """The answer of a part that classifies; ``rng`` as for :meth:`transform`."""
        part, streams, given = self.chain.parts[index], self.chain.streams(index, rng), images.clone()
        label = f"defense {part.name!r}"
        with blamed(label), artefact_unchanged(label, self.fitted[index]):
            returned = part.classify(self.inside(index, rng), given, streams, self.fitted[index])
        self._note_draws(index, streams)
        check_unchanged(label, "images", images, given)
        answer = check_classified(part.name, "classify", returned, images)
        check_votes(part, answer.logits)
        return answer

    def _ask_network(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        if not takes_rng(self.network):
            return self.network(images)  # type: ignore[no-any-return]
        streams = model_streams(rng)
        logits: torch.Tensor = self.network(images, streams)
        self._note_draws(len(self.chain.parts), streams)
        return logits

    def _note_draws(self, index: int, streams: SampleRandom) -> None:
        if streams.drawn:
            self.drawn.add(index)


def image_shape(part: Defense, images: torch.Tensor) -> tuple[int, int, int]:
    """The shape of one image that a part returns for images of this shape."""
    channels, height, width = images.shape[1:]
    return part.output_shape((channels, height, width))


class _Inside(torch.nn.Module):
    """The chain from a part on, with the network, as the part before it calls it: images to logits.

    Each call draws the random numbers of what is inside afresh, from the streams of the samples whose images it gets.
    """

    def __init__(self, chain_pass: ChainPass, start: int, rng: SampleRandom, rows: torch.Tensor | None = None) -> None:
        super().__init__()
        self.training = False
        self.network = chain_pass.network  # so that its layers are this module's
        parts = chain_pass.chain.parts[start:]
        self.stochastic = takes_rng(chain_pass.network) or any(part.stochastic for part in parts)
        self._pass, self._start, self._rng, self._rows = chain_pass, start, rng, rows

    def for_rows(self, rows: torch.Tensor) -> _Inside:
        """This classifier for images of some of the samples, see :func:`advbench.api.for_rows`."""
        rows = torch.as_tensor(rows)
        return _Inside(self._pass, self._start, self._rng, rows if self._rows is None else self._rows[rows])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The logits."""
        if self._rows is not None and len(self._rows) != len(images):
            raise ContractError(
                f"a defense called for_rows(network, rows) with {len(self._rows)} rows for {len(images)} images"
            )
        parts = [self._logits(images[part], part) for part in self._split(images)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _split(self, images: torch.Tensor) -> Iterator[slice]:
        """Parts of a batch that fit into memory; one part if a gradient is computed, whose graph is kept anyway."""
        size = len(images) if torch.is_grad_enabled() and images.requires_grad else self._pass.batch_size
        if len(images) <= size:
            yield slice(None)
            return
        for start in range(0, len(images), size):
            yield slice(start, start + size)

    def _logits(self, images: torch.Tensor, part: slice) -> torch.Tensor:
        answer = self._pass.answer(images, self._streams(len(images), part), self._start)
        if answer.score is not None:
            raise ContractError(
                "a defense that rejects images stands inside of another defense; only defenses that transform images "
                "may stand left of it"
            )
        return answer.logits

    def _streams(self, count: int, part: slice) -> SampleRandom:
        """Fresh streams for each image, from those of its sample."""
        if not self.stochastic:
            return self._rng if count == len(self._rng) else self._rng[[0] * count]
        if self._rows is not None:
            return self._rng[self._rows[part]].spawn()
        if part != slice(None):
            chosen = range(len(self._rng))[part]
            if len(chosen) == count:
                return self._rng[part].spawn()
        elif count == len(self._rng):
            return self._rng.spawn()
        raise ContractError(
            f"a defense called network() with another number of images than the {len(self._rng)} samples of the batch; "
            "name the sample of each image with for_rows(network, rows)"
        )
