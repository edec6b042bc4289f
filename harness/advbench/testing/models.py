"""The contract of models."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch

from advbench.api import Float32Network, LabelledImages, Model, state_digest
from advbench.contracts.models import check_logits
from advbench.testing.common import common_rules, cuda
from advbench.testing.finding import NotAsked, Rule, expect, origin
from advbench.testing.fixtures import SHAPES, images_of

__all__ = ["model_rules"]

_NEAR = 1e-3
"""By what share of the largest logit rounding may move one."""


def model_rules(model: Model, data: LabelledImages | None, classes: int | None) -> Iterator[Rule]:
    """Logits, class count, eval mode, gradients, normalisation, weights.

    Args:
        model: The model.
        data: Images of a dataset that it is for, where one is at hand.
        classes: How many classes that has.
    """
    load = origin(model, "load")
    trial = _Trial(model, data, classes)
    yield Rule("load gives a network", load, trial.loads, "a torch.nn.Module")
    yield Rule("logits of the right form", load, trial.logits, "finite logits of shape (batch, num_classes)")
    yield Rule("the same in eval mode at every pass", load, trial.repeats)
    yield Rule("independent of its batch", load, trial.batches)
    yield Rule("inputs unchanged", load, trial.unchanged)
    yield Rule("gradients are finite", load, trial.gradients, "finite gradients at the images")
    yield Rule("classifies its dataset, images being in [0, 1]", load, trial.accuracy)
    yield Rule("the same weights at every load", load, trial.reloads)
    yield Rule("digest of the weights", origin(model, "weights_digest"), trial.digest, "a SHA-256 of the weights")
    yield Rule("on CUDA", load, trial.on_cuda, "logits on the device of the images")
    yield from common_rules(model)


class _Trial:
    """A model on images that it takes."""

    def __init__(self, model: Model, data: LabelledImages | None, classes: int | None) -> None:
        self.model = model
        self.data = data
        self.classes = model.num_classes or classes

    @functools.cached_property
    def network(self) -> torch.nn.Module:
        return self._loaded()

    @functools.cached_property
    def images(self) -> torch.Tensor:
        if self.data is not None:
            return self.data.take(self.data.ids[:6].tolist())[0]
        return images_of(self.model.image_shape or SHAPES[0])

    @torch.no_grad()
    def ask(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images)
        return logits

    def loads(self) -> None:
        self._loaded()

    def logits(self) -> None:
        for count in (1, 2, len(self.images)):
            answer = self.ask(self.images[:count])
            classes = self.classes if self.classes is not None else int(answer.shape[-1])
            check_logits(self.model.name, answer, count, classes)

    def repeats(self) -> None:
        first, second = (self.ask(self.images) for _ in range(2))
        far = _apart(first, second)
        expect(far <= _NEAR, "equal logits of equal images, as in eval mode", f"a difference of {far:.2g}, relatively")
        expect(not any(part.training for part in self.network.modules()), "eval mode to stay", "training mode")

    def batches(self) -> None:
        together = self.ask(self.images)
        alone = torch.cat([self.ask(image[None]) for image in self.images])
        far = _apart(together, alone)
        expect(far <= _NEAR, "an image's logits to be the same in any batch", f"a difference of {far:.2g}, relatively")

    def unchanged(self) -> None:
        given = self.images.clone()
        network = self.network.network if isinstance(self.network, Float32Network) else self.network
        # The harness gives networks a copy. One that takes no float32 raises here and has changed nothing.
        with torch.no_grad(), contextlib.suppress(RuntimeError):
            network(given)
        expect(torch.equal(given, self.images), "images that are not changed in place", "changed ones")

    def gradients(self) -> None:
        points = self.images.clone().requires_grad_()
        with torch.enable_grad():
            logits = self.network(points)
            loss = torch.nn.functional.cross_entropy(logits, logits.argmin(dim=1), reduction="sum")
            (gradient,) = torch.autograd.grad(loss, points, allow_unused=True)
        expect(gradient is not None, "a gradient at the images", "logits that do not depend on them by autograd")
        expect(bool(torch.isfinite(gradient).all()), "finite gradients", "NaN or infinite ones")
        expect(bool(gradient.any()), "a gradient that is not zero throughout", "zero for every image")

    def accuracy(self) -> None:
        if self.data is None or self.classes is None:
            raise NotAsked("no dataset of its shape and classes is at hand")
        images, labels = self.data.take(self.data.ids[:: max(1, len(self.data) // 100)].tolist())
        right = float((self.ask(images).argmax(dim=1) == labels).float().mean())
        expect(
            right >= 2 / self.classes,
            f"at least twice chance ({2 / self.classes:.0%}) on {len(images)} images in [0, 1], with the normalisation "
            "inside the model",
            f"{right:.0%} right",
        )

    def reloads(self) -> None:
        first, second = (state_digest(self._loaded()) for _ in range(2))
        expect(first == second, "the same weights from every load()", "others from the second")

    def digest(self) -> None:
        first, second = (self.model.weights_digest() for _ in range(2))
        expect(isinstance(first, str) and len(first) >= 32, "a SHA-256", repr(first))
        expect(first == second, "the same digest at every call", "another at the second")

    def on_cuda(self) -> None:
        device = cuda()
        answer: Any = self._loaded().to(device)(self.images.to(device))
        expect(answer.device.type == "cuda", "logits on the device of the images", f"on {answer.device}")

    def _loaded(self) -> torch.nn.Module:
        network: Any = self.model.load()
        expect(isinstance(network, torch.nn.Module), "a torch.nn.Module", f"a {type(network).__name__}")
        loaded: torch.nn.Module = network.eval()
        for parameter in loaded.parameters():
            parameter.requires_grad_(False)
        return Float32Network(loaded, f"model {self.model.name!r}")


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / one.abs().max().clamp(min=torch.finfo(one.dtype).tiny))
