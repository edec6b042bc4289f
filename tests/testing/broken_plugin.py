"""Components that break one part of their contract each. Loaded with ``--plugin``."""

from __future__ import annotations

import hashlib
import itertools
import random
from dataclasses import dataclass

import numpy as np
import torch

from advbench.api import (
    AdaptiveView,
    Attack,
    Budget,
    Certificate,
    Dataset,
    Defense,
    Detector,
    LabelledImages,
    Model,
    answer,
    for_rows,
    hookimpl,
    log_shares,
    param,
)

_CALLS = itertools.count()
DEFENSES = (
    "shape", "dtype", "nan", "scale", "in-place", "unseeded", "numpy", "secretly-random", "claims-random", "batch-mean",
    "claims-identity", "no-gradient", "zero-gradient", "nan-gradient", "stand-in-shape", "second-approximation",
    "no-approximations", "changing-approximations", "changes-output", "raises", "exits", "new-digest", "process",
    "one-shape", "colour-only", "bad-needs",
)  # fmt: skip
VOTES = (
    "nan", "shares", "in-place", "unseeded", "secretly-random", "claims-random", "numpy", "batch-mean", "no-rows",
    "claims-identity", "no-gradient", "negative-radius", "unseeded-radius", "batch-radius", "wide-radius", "few-logits",
    "one-shape",
)  # fmt: skip
DETECTORS = ("column", "infinite", "batch-suspicion", "rejects-all")
FITS = ("no-artefact", "unseeded-fit")
ATTACKS = (
    "over-budget", "range", "in-place", "changes-model", "more-access", "blind", "unseeded", "secretly-random", "batch",
    "labels", "weak", "moves-failures", "bad-norm", "bad-passes", "shape", "bad-view", "no-detectors",
    "unclamped", "brighter",
)  # fmt: skip
MODELS = (
    "probabilities", "classes", "dropout", "batch-norm", "in-place", "detached", "not-finite", "raw-pixels",
    "new-weights", "new-digest", "no-network", "float-classes", "new-radii", "bad-gives",
)  # fmt: skip
DATASETS = (
    "ids-descend", "ids-twice", "range", "labels", "dtype", "shuffled", "new-digest", "few-names", "no-names",
)  # fmt: skip


COUNT = itertools.count()


def how(default: str) -> str:
    return param(default, help="which part of the contract to break")


@dataclass(frozen=True)
class BrokenDefense(Defense):
    """Breaks a part of the contract."""

    name = "broken-defense"
    how: str = how("shape")

    @property
    def stochastic(self):
        return self.how == "claims-random"

    @property
    def identity(self):
        return self.how == "claims-identity"

    @property
    def needs(self):
        return "gradient" if self.how == "bad-needs" else "labels"

    def weights_digest(self):
        return f"{next(COUNT):064d}" if self.how == "new-digest" else None

    def apply(self, images, rng):
        returned = {
            "shape": lambda: images[:, :, 1:],
            "dtype": images.double,
            "nan": lambda: images.where(images < 0.9, torch.tensor(float("nan"))),
            "scale": lambda: images * 255,
            "in-place": lambda: images.mul_(0.5),
            "unseeded": lambda: images + 0.01 * torch.rand_like(images),
            "secretly-random": lambda: images + 0.01 * rng.uniform(*images.shape[1:], low=0, high=1),
            "batch-mean": lambda: images - images.mean() + 0.5,
            "one-shape": lambda: (images * torch.linspace(0, 1, 28)).clamp(0, 1),
            "colour-only": lambda: images.reshape(-1, 3, 32, 32) * 0.9,
        }
        if self.how in returned:
            return returned[self.how]()
        if self.how == "numpy":
            np.random.seed(0)
            return images + 0.01 * torch.from_numpy(np.random.rand(*images.shape)).float()
        if self.how == "raises":
            raise KeyError("something")
        if self.how == "exits":
            raise SystemExit(3)
        if self.how == "process":
            torch.use_deterministic_algorithms(True)
        return images * 0.9

    def approximation(self, images, rng):
        returned = {
            "no-gradient": lambda: images.detach() + torch.zeros(1, requires_grad=True),
            "zero-gradient": lambda: images * 0,
            "nan-gradient": lambda: (images - images).sqrt() + images,
            "stand-in-shape": lambda: images[:, :, 1:],
        }
        return returned.get(self.how, lambda: images)()

    def approximations(self):
        if self.how == "no-approximations":
            return ()
        if self.how == "changing-approximations":
            return (self.approximation_from_output,) * (1 + next(_CALLS) % 2)
        if self.how == "changes-output":
            return (lambda images, output, rng: images + output.mul_(0.5),)
        if self.how == "second-approximation":
            return (self.approximation_from_output, lambda images, output, rng: images * output.sign() * 0)
        return super().approximations()


@dataclass(frozen=True)
class BrokenVote(Defense):
    """A vote over the image and copies with little noise, and a certificate; breaks a part of the contract."""

    name = "broken-vote"
    votes = 25
    certified_norm = "l2"
    how: str = how("nan")

    @property
    def stochastic(self):
        return self.how != "secretly-random"

    @property
    def identity(self):
        return self.how == "claims-identity"

    def classify(self, network, images, rng, fitted=None):
        if self.how == "in-place":
            images.mul_(0.5)
        if self.how == "one-shape":
            images = images * torch.ones(28)
        if self.how == "few-logits":
            return network(images)[:, :5]
        if self.how == "numpy":
            np.random.random()
        if self.how == "batch-mean":
            images = images - images.mean(dim=0) + 0.1
        if self.how == "unseeded":
            images = images + torch.rand(images.shape, generator=torch.Generator().manual_seed(next(COUNT)))
        scale = 0 if self.how == "claims-random" else 1.0
        rows = torch.arange(len(images)).repeat_interleave(25)
        noisy = images[:, None] + scale * rng.normal(25, *images.shape[1:])
        inside = network if self.how == "no-rows" else for_rows(network, rows)
        votes = torch.nn.functional.one_hot(inside(noisy.flatten(0, 1)).argmax(dim=1), 10)
        logits = log_shares(votes.reshape(len(images), 25, -1).sum(dim=1))
        return logits * {"nan": float("nan"), "shares": 2}.get(self.how, 1)

    def attacked(self, network, images, rng, fitted=None):
        logits = network(images + 0.1 * rng.normal(*images.shape[1:]))
        return logits.detach() if self.how == "no-gradient" else logits

    def certify(self, network, images, rng, fitted=None):
        classes, radii = network(images).argmax(dim=1), torch.full((len(images),), 1e-6)
        if self.how == "negative-radius":
            radii = -radii
        radii = radii * {"unseeded-radius": next(COUNT), "batch-radius": len(images)}.get(self.how, 1)
        return Certificate(classes, radii + 1e3 if self.how == "wide-radius" else radii)


@dataclass(frozen=True)
class BrokenFit(Defense):
    """Breaks a part of the contract of defenses that are fitted to data."""

    name = "broken-fit"
    how: str = how("no-artefact")

    def fit(self, network, data, rng):
        mean = float(data.images(torch.arange(len(data))).mean())
        return {"no-artefact": None, "unseeded-fit": {"mean": mean * next(COUNT)}}.get(self.how, {"mean": mean})

    def classify(self, network, images, rng, fitted=None):
        return network(images - fitted["mean"])


@dataclass(frozen=True)
class UnusedFit(Defense):
    """Is fitted to data, and transforms images without it."""

    name = "unused-fit"

    def fit(self, network, data, rng):
        return {"mean": 0.5}

    def apply(self, images, rng):
        return images


@dataclass(frozen=True)
class BrokenDetector(Detector):
    """Breaks a part of the contract of detectors."""

    name = "broken-detector"
    how: str = how("column")

    def suspicion(self, network, images, rng):
        means = images.mean(dim=(1, 2, 3))
        if self.how == "batch-suspicion":
            return means - images.mean()
        return {"column": means[:, None], "infinite": means / 0}.get(self.how, means)

    def fit(self, network, data, rng):
        fitted = {"threshold": 0.5, "spread": 1.0}
        return {**fitted, "threshold": -1.0} if self.how == "rejects-all" else fitted


@dataclass(frozen=True)
class BrokenAttack(Attack):
    """Breaks a part of the contract."""

    name = "broken-attack"
    how: str = how("over-budget")

    @property
    def access(self):
        return {"more-access": "labels", "blind": "nothing", "brighter": "nothing"}.get(self.how, "gradients")

    @property
    def view(self):
        return AdaptiveView(draws=0) if self.how == "bad-view" else None

    def budget(self):
        return None if self.how in ("moves-failures", "bad-norm") else Budget("linf", 0.1)

    def minimized_norm(self):
        return "l7" if self.how == "bad-norm" else "linf"

    def passes(self):
        return "many" if self.how == "bad-passes" else 1

    def run(self, model, images, labels, rng):
        if self.how == "no-detectors" and answer(model, images).score:
            return images
        if self.how == "brighter":
            return images + 0.1
        points = images.clone().requires_grad_()
        with torch.enable_grad():
            loss = torch.nn.functional.cross_entropy(model(points), labels, reduction="sum")
            step = 0.1 * torch.autograd.grad(loss, points)[0].sign()
        step = step * (2 if self.how == "over-budget" else 1)
        if self.how in ("range", "unclamped"):
            return images + step + (self.how == "range")
        if self.how == "in-place":
            images.add_(step).clamp_(0, 1)
            return images
        if self.how == "changes-model":
            for tensor in model.state_dict().values():
                tensor.mul_(1.5)
        step = step * (0.9 + 0.1 * random.SystemRandom().random()) if self.how == "unseeded" else step
        step = step * torch.rand(1) if self.how == "secretly-random" else step
        if self.how == "batch":
            step = step * (images + step).mean() * 0 if len(images) < 3 else step
        if self.how == "labels":
            step = step * (0.5 if int(labels.sum()) % 2 else 1)
        step = step * (self.how != "weak")
        if self.how == "shape":
            return images[1:]
        if self.how == "moves-failures":
            step = torch.full_like(images, 0.05)
        return (images + step).clamp(0, 1)


class Net(torch.nn.Module):
    """Tells which of ten patterns an image has, and breaks a part of the contract."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        generator = torch.Generator().manual_seed(0)
        self.weights = torch.nn.Parameter(torch.randn(10, 784, generator=generator))
        if how == "new-weights":
            torch.nn.init.normal_(self.weights)
        self.norm = torch.nn.BatchNorm1d(10, track_running_stats=False)

    def forward(self, images):
        if self.how == "in-place":
            images.mul_(0.5)
        logits = (images.flatten(1) - 0.5) @ self.weights.T
        returned = {
            "probabilities": lambda: logits.softmax(dim=1),
            "classes": lambda: logits[:, :9],
            "dropout": lambda: torch.nn.functional.dropout(logits, 0.5, training=True),
            "batch-norm": lambda: self.norm(logits),
            "detached": logits.detach,
            "not-finite": lambda: logits / 0,
            "raw-pixels": lambda: logits * 0 + torch.arange(10.0),
        }
        return returned.get(self.how, lambda: logits)()


@dataclass(frozen=True)
class BrokenModel(Model):
    """Breaks a part of the contract."""

    name = "broken-model"
    image_shape = (1, 28, 28)
    num_classes = 10
    how: str = how("probabilities")

    @property
    def gives(self):
        return "gradient" if self.how == "bad-gives" else "gradients"

    def load(self):
        return 3 if self.how == "no-network" else Net(self.how)

    def weights_digest(self):
        token = random.random() if self.how == "new-digest" else self.how
        return hashlib.sha256(str(token).encode()).hexdigest()

    @property
    def certified_norm(self):
        return "l2" if self.how in ("float-classes", "new-radii") else None

    def certify(self, network, images, rng):
        classes = network(images).argmax(dim=1)
        radii = torch.zeros(len(images)) + (next(COUNT) if self.how == "new-radii" else 0)
        return Certificate(classes.float() if self.how == "float-classes" else classes, radii)


@dataclass(frozen=True)
class Patterns(Dataset):
    """Images whose labels are those of the network's patterns; breaks a part of the contract where it is told."""

    name = "patterns"
    image_shape = (1, 28, 28)
    num_classes = 10
    how: str = how("none")

    @property
    def class_names(self):
        return {"few-names": ("cat", "dog"), "no-names": "abcdefghij"}.get(self.how, tuple("abcdefghij"))

    def ids(self):
        ids = list(range(6000))
        if self.how == "ids-descend":
            return ids[::-1]
        return [0, *ids[:-1]] if self.how == "ids-twice" else ids

    def load(self, sources):
        images = torch.rand(6000, *self.image_shape, generator=torch.Generator().manual_seed(1))
        labels = Net("none")(images).argmax(dim=1)
        images = images * (255 if self.how == "range" else 1)
        labels = labels + (self.how == "labels")
        images = images.double() if self.how == "dtype" else images
        if self.how == "shuffled":
            images = images[torch.randperm(len(images))]
        return LabelledImages(images, labels, torch.tensor(self.ids()))

    def digest(self, sources):
        return hashlib.sha256(str(random.random() if self.how == "new-digest" else self.how).encode()).hexdigest()


@hookimpl
def register_defenses(register):
    register(BrokenDefense)
    register(BrokenVote)
    register(BrokenFit)
    register(UnusedFit)
    register(BrokenDetector)


@hookimpl
def register_attacks(register):
    register(BrokenAttack)


@hookimpl
def register_models(register):
    register(BrokenModel)


@hookimpl
def register_datasets(register):
    register(Patterns)
