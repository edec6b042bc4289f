"""Contract rules of models."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from advbench.api import Certificate, Float32Network, LabelledImages, Model, SampleRandom, state_digest
from advbench.contracts.access import check_access
from advbench.contracts.certificates import check_certificate
from advbench.contracts.images import check_unchanged
from advbench.contracts.models import check_logits, check_takes_rng
from advbench.evaluation.work.networks import ask_network
from advbench.testing.common import ACCESS, common_rules, cuda
from advbench.testing.finding import Rule, RuleSkipped, contract_of, expect
from advbench.testing.fixtures import SHAPES, example_images

__all__ = ["model_rules"]

_TOLERANCE = 1e-3
"""Allowed difference between logits due to rounding, as a share of the largest."""

_STREAMS = 5
"""In how many streams the logits of a stochastic model are compared."""

_ALL = slice(None)


def model_rules(model: Model, datasets: Sequence[LabelledImages], classes: int | None) -> Iterator[Rule]:
    """Yields the rules on logits, number of classes, eval mode, gradients, normalisation and weights.

    Args:
        model: The model.
        datasets: The images of each dataset that fits the model.
        classes: Number of classes of these datasets.
    """
    load = contract_of(model, "load")
    trial = _Trial(model, datasets, classes)
    yield Rule("load returns a network", load, trial.loads, "a torch.nn.Module")
    form = "finite logits" if model.gives in ("gradients", "scores") else "one-hot labels, probabilities or logits"
    yield Rule("form of the logits", load, trial.logits, f"{form} of shape (batch, num_classes)")
    if model.stochastic:
        yield Rule("same random numbers, same logits", load, trial.reproducible)
    else:
        yield Rule("deterministic in eval mode", load, trial.reproducible)
    yield Rule("stochastic declared correctly", contract_of(model, "stochastic"), trial.declares_randomness)
    yield Rule("gives declared correctly", contract_of(model, "gives"), lambda: check_access(model), ACCESS)
    yield Rule("independent of its batch", load, trial.batches)
    yield Rule("inputs unchanged", load, trial.unchanged)
    yield Rule("gradients are finite", load, trial.gradients, "finite gradients at the images")
    yield Rule("classifies its dataset", load, trial.accuracy)
    yield Rule("the same weights at every load", load, trial.reloads)
    yield Rule("digest of the weights", contract_of(model, "weights_digest"), trial.digest, "a SHA-256 of the weights")
    yield Rule("on CUDA", load, trial.on_cuda, "logits on the device of the images")
    if model.certified_norm is not None:
        where, form = contract_of(model, "certify"), "classes, and radii of at least 0"
        yield Rule("certificates of the right form", where, trial.certificate_form, form)
        yield Rule("same random numbers, same certificates", where, trial.certificates_reproducible)
    yield from common_rules(model)


class _Trial:
    """Runs a model on images of its shape."""

    def __init__(self, model: Model, datasets: Sequence[LabelledImages], classes: int | None) -> None:
        self.model = model
        self.datasets = datasets
        self.classes = model.num_classes or classes

    @functools.cached_property
    def network(self) -> torch.nn.Module:
        return self._load_network()

    @functools.cached_property
    def images(self) -> torch.Tensor:
        if self.datasets:
            return self.datasets[0].take(self.datasets[0].ids[:6].tolist())[0]
        return example_images(self.model.image_shape or SHAPES[0])

    def streams(self, purpose: str = "check") -> SampleRandom:
        return SampleRandom(0, purpose, range(len(self.images)))

    @torch.no_grad()
    def forward(self, rows: slice = _ALL, purpose: str = "check") -> torch.Tensor:
        """The logits of some of the images, which a stochastic model computes with their streams for a purpose."""
        return ask_network(self.network, self.images[rows], self.streams(purpose)[rows])

    def loads(self) -> None:
        self._load_network()

    def logits(self) -> None:
        for count in (1, 2, len(self.images)):
            logits = self.forward(slice(count))
            classes = self.classes if self.classes is not None else int(logits.shape[-1])
            labels_only = self.model.gives in ("labels", "nothing")
            check_logits(self.model.name, logits, count, classes, labels_only=labels_only)

    def reproducible(self) -> None:
        first, second = (self.forward() for _ in range(2))
        difference = _relative_difference(first, second)
        same = "and equal rng, so that all randomness comes from rng" if self.model.stochastic else "in eval mode"
        expect(
            difference <= _TOLERANCE,
            f"equal logits for equal images {same}",
            f"a difference of {difference:.2g}, relatively",
        )
        expect(not any(part.training for part in self.network.modules()), "eval mode after a call", "training mode")

    def declares_randomness(self) -> None:
        if not self.model.stochastic:
            return  # its network gets no random numbers, and another rule reports others than those of rng
        first, *others = (self.forward(purpose=f"check/{number}") for number in range(_STREAMS))
        if any(not torch.equal(first, other) for other in others):
            return
        streams = self.streams()
        with torch.no_grad():
            ask_network(self.network, self.images, streams)
        # The labels of clear images may be the same in all draws.
        expect(
            self.model.gives not in ("gradients", "scores") and streams.drawn,
            "stochastic is False, or logits that differ between streams",
            "stochastic is True, equal logits",
        )

    def batches(self) -> None:
        together = self.forward()
        alone = torch.cat([self.forward(slice(row, row + 1)) for row in range(len(self.images))])
        difference = _relative_difference(together, alone)
        drawn = ", with the random numbers of its own stream" if self.model.stochastic else ""
        expect(
            difference <= _TOLERANCE,
            f"the same logits for an image in any batch{drawn}",
            f"a difference of {difference:.2g}, relatively",
        )

    def unchanged(self) -> None:
        given = self.images.clone()
        network = self.network.network if isinstance(self.network, Float32Network) else self.network
        # The harness passes copies to networks. A network that does not accept float32 raises here, and has changed
        # nothing.
        with torch.no_grad(), contextlib.suppress(RuntimeError):
            network(given, *((self.streams(),) if self.model.stochastic else ()))
        expect(torch.equal(given, self.images), "images that are not changed in place", "changed images")

    def gradients(self) -> None:
        if self.model.gives != "gradients":
            raise RuleSkipped(f"it gives {self.model.gives} only")
        points = self.images.clone().requires_grad_()
        with torch.enable_grad():
            logits = ask_network(self.network, points, self.streams())
            loss = torch.nn.functional.cross_entropy(logits, logits.argmin(dim=1), reduction="sum")
            (gradient,) = torch.autograd.grad(loss, points, allow_unused=True)
        expect(gradient is not None, "a gradient at the images", "logits that do not depend on them by autograd")
        expect(bool(torch.isfinite(gradient).all()), "finite gradients", "NaN or infinite ones")
        expect(bool(gradient.any()), "a gradient that is not zero throughout", "zero for every image")

    def accuracy(self) -> None:
        if not self.datasets or self.classes is None:
            raise RuleSkipped("no dataset of its shape and classes is available here")
        (accuracy, count), *others = [self._accuracy(data) for data in self.datasets]
        # It may have been trained for another dataset, such as Fashion-MNIST instead of MNIST. That may be a small one,
        # on which a random classifier could have twice chance, but not half.
        expect(
            accuracy >= 2 / self.classes or any(other >= 0.5 for other, _ in others),
            f"at least twice chance ({2 / self.classes:.0%}) on {count} images in [0, 1], with the normalisation "
            "inside the model",
            f"{accuracy:.0%} correct",
        )

    @torch.no_grad()
    def _accuracy(self, data: LabelledImages) -> tuple[float, int]:
        """Returns the accuracy on up to about 100 images, and their number."""
        images, labels = data.take(data.ids[:: max(1, len(data) // 100)].tolist())
        logits = ask_network(self.network, images, SampleRandom(0, "check", range(len(images))))
        return float((logits.argmax(dim=1) == labels).float().mean()), len(images)

    def reloads(self) -> None:
        first, second = (state_digest(self._load_network()) for _ in range(2))
        expect(first == second, "the same weights from every load()", "different ones from the second")

    def digest(self) -> None:
        first, second = (self.model.weights_digest() for _ in range(2))
        expect(isinstance(first, str) and len(first) >= 32, "a SHA-256", repr(first))
        expect(first == second, "the same digest at every call", "a different one at the second")

    @torch.no_grad()
    def certify(self) -> Certificate:
        given, streams = self.images.clone(), SampleRandom(0, "check", range(len(self.images)))
        label = f"model {self.model.name!r}"
        certificate = check_certificate(label, self.model.certify(self.network, given, streams), given)
        check_unchanged(label, "images", self.images, given)
        return certificate

    def certificate_form(self) -> None:
        self.certify()

    def certificates_reproducible(self) -> None:
        first, second = self.certify(), self.certify()
        same = torch.equal(first.classes, second.classes) and torch.equal(first.radii, second.radii)
        expect(same, "equal certificates from equal streams", "different ones")

    def on_cuda(self) -> None:
        device = cuda()
        rng = SampleRandom(0, "check", range(len(self.images)), device)
        logits: Any = ask_network(self._load_network().to(device), self.images.to(device), rng)
        expect(logits.device.type == "cuda", "logits on the device of the images", f"on {logits.device}")

    def _load_network(self) -> torch.nn.Module:
        network: Any = self.model.load()
        expect(isinstance(network, torch.nn.Module), "a torch.nn.Module", f"a {type(network).__name__}")
        loaded: torch.nn.Module = network.eval()
        for parameter in loaded.parameters():
            parameter.requires_grad_(False)
        check_takes_rng(self.model, loaded)
        return Float32Network(loaded, f"model {self.model.name!r}", takes_rng=self.model.stochastic)


def _relative_difference(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).abs().max() / first.abs().max().clamp(min=torch.finfo(first.dtype).tiny))
