"""Tiny stand-ins for all that the paper's suites name, so that the whole reproduction runs in seconds.

Loaded with ``--plugin`` while the built-in plugins are disabled. TOY_NOISE=1 says that the VQ-VAE has weights for
noise 1.5; TOY_SIZE is the number of images of each dataset; where TOY_LOG names a file, every run of an attack appends
a line to it.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from advbench.api import Attack, Budget, Dataset, Defense, LabelledImages, Model, WeightsError, hookimpl, param

SIZE = int(os.environ.get("TOY_SIZE", "30"))


class Images(Dataset):
    num_classes = 10

    def ids(self):
        return range(SIZE)

    def load(self, sources):
        images = torch.rand(SIZE, *self.image_shape, generator=torch.Generator().manual_seed(1))
        labels = Linear(self.image_shape).forward(images).argmax(dim=1)
        labels[0] = (labels[0] + 1) % 10
        return LabelledImages(images, labels, torch.arange(SIZE))


@dataclass(frozen=True)
class Mnist(Images):
    name = "mnist"
    image_shape = (1, 4, 4)
    split: str = param("test", choices=("test", "train"), help="which")


@dataclass(frozen=True)
class Cifar10(Images):
    name = "cifar10"
    image_shape = (3, 4, 4)


class Linear(torch.nn.Module):
    def __init__(self, shape):
        super().__init__()
        size = shape[0] * shape[1] * shape[2]
        self.weights = torch.nn.Parameter(torch.randn(10, size, generator=torch.Generator().manual_seed(2)))

    def forward(self, images):
        return (images.flatten(1) - 0.5) @ self.weights.T


def digest(name, weights):
    """The digest of a weights file, or of a name if weights are shipped."""
    content = name.encode() if weights == "shipped" else Path(weights).read_bytes()
    return hashlib.sha256(content).hexdigest()


class Net(Model):
    num_classes = 10

    def load(self):
        return Linear(self.image_shape)

    def weights_digest(self):
        return digest(self.name, self.weights)


@dataclass(frozen=True)
class MnistCnn(Net):
    name = "mnist-cnn"
    image_shape = (1, 4, 4)
    weights: str = param("shipped", help="file")


@dataclass(frozen=True)
class Densenet(Net):
    name = "cifar10-densenet"
    image_shape = (3, 4, 4)
    weights: str = param("shipped", help="file")


def signed_step(model, images, labels, eps):
    start = images.clone().requires_grad_(True)
    loss = torch.nn.functional.cross_entropy(model(start), labels, reduction="sum")
    return (images + eps * torch.autograd.grad(loss, start)[0].sign()).clamp(0, 1)


def search(model, images, labels):
    """The smallest of some steps that fools, or the clean image."""
    found, done = images.clone(), model(images).argmax(1) != labels
    for eps in (0.02, 0.05, 0.1, 0.2, 0.4, 0.8):
        stepped = signed_step(model, images, labels, eps)
        fooled = (model(stepped).argmax(1) != labels) & ~done
        found[fooled], done = stepped[fooled], done | fooled
    return found


def log(name):
    if path := os.environ.get("TOY_LOG"):
        with Path(path).open("a") as file:
            file.write(f"{name}\n")
    time.sleep(float(os.environ.get("TOY_DELAY", "0")))


@dataclass(frozen=True)
class Searching(Attack):
    eps: float = param(0.3, min=0, help="budget")
    search: str = param("none", choices=("none", "minimal", "foolbox2"), help="how eps is chosen")
    max_eps: float = param(1.0, min=0, help="the largest step")

    def budget(self):
        return Budget("linf", self.eps) if self.search == "none" else None

    def passes(self):
        return 1

    def run(self, model, images, labels, rng):
        log(f"{self.name} {self.search} {self.max_eps} {tuple(images.shape)}")
        if self.search != "none":
            return search(model, images, labels)
        stepped = signed_step(model, images, labels, self.eps)
        return images + (stepped - images).clamp(-self.eps, self.eps)


@dataclass(frozen=True)
class Fgsm(Searching):
    self_contained = True  # so that the log has its runs alone
    name = "fgsm"


@dataclass(frozen=True)
class Pgd(Searching):
    self_contained = True  # so that the log has its runs alone
    name = "pgd"
    step_size: float | None = param(None, above=0, help="length of a step")
    targets: int | None = param(None, min=1, help="towards how many classes the boundary is followed")


@dataclass(frozen=True)
class Apgd(Attack):
    self_contained = True
    name = "apgd"
    eps: float = param(0.3, min=0, help="budget")
    loss: str = param("ce", choices=("ce", "dlr"), help="loss")
    early_stop: bool = param(False, help="whether to stop early")

    def budget(self):
        return Budget("linf", self.eps)

    def passes(self):
        return 1

    def run(self, model, images, labels, rng):
        log(f"{self.values()} {self.name} {tuple(images.shape)}")
        stepped = signed_step(model, images, labels, self.eps)
        return images + (stepped - images).clamp(-self.eps, self.eps)


class Minimal(Attack):
    def passes(self):
        return 1

    def run(self, model, images, labels, rng):
        log(f"{self.values()} {self.name} {tuple(images.shape)}")
        return search(model, images, labels)


@dataclass(frozen=True)
class DeepFool(Minimal):
    self_contained = True
    name = "deepfool"
    steps: int = param(50, min=1, help="steps")
    variant: str = param("original", choices=("original", "foolbox2"), help="whose")


@dataclass(frozen=True)
class Cw(Minimal):
    self_contained = True
    name = "cw"
    steps: int = param(1000, min=1, help="steps")
    search_steps: int = param(5, min=1, help="constants")
    learning_rate: float = param(0.005, above=0, help="step size")
    initial_const: float = param(0.01, above=0, help="first constant")
    confidence: float = param(0.0, min=0, help="margin")


class Rounding(Defense):
    """Rounds pixels to so many steps, which is enough to undo a small perturbation."""

    def levels(self):
        return 10

    def apply(self, images, rng):
        return torch.round(images * self.levels()) / self.levels()


@dataclass(frozen=True)
class NoDefense(Defense):
    name = "none"

    def apply(self, images, rng):
        return images


@dataclass(frozen=True)
class Jpeg(Rounding):
    name = "jpeg"
    quality: int = param(75, min=1, max=100, help="quality")

    def levels(self):
        return self.quality


@dataclass(frozen=True)
class Gaussian(Rounding):
    name = "gaussian"
    sigma_x: float = param(0.5, min=0, help="x")
    sigma_y: float = param(0.5, min=0, help="y")


@dataclass(frozen=True)
class Kmeans(Rounding):
    name = "kmeans"
    clusters: int = param(16, min=1, help="clusters")

    def levels(self):
        return self.clusters


@dataclass(frozen=True)
class Tvm(Rounding):
    name = "tvm"
    drop: float = param(0.5, min=0, help="drop")
    weight: float = param(0.03, min=0, help="weight")


@dataclass(frozen=True)
class VqVae(Rounding):
    name = "vqvae"
    noise: float = param(0.0, min=0, help="noise")
    noise_kind: str = param("gaussian", choices=("gaussian", "uniform", "salt-and-pepper"), help="its distribution")
    hidden: int = param(256, min=1, help="channels")
    words: int = param(512, min=1, help="code words")
    weights: str = param("shipped", help="file")

    def levels(self):
        return 10 if self.hidden == 256 else 5

    def weights_digest(self):
        if self.noise > 1 and not os.environ.get("TOY_NOISE"):
            raise WeightsError("weights of vqvae:noise=1.5 are missing; 'advbench train vqvae:noise=1.5' makes them")
        return digest(str(self.noise), self.weights)


@hookimpl
def register_datasets(register):
    for dataset in (Mnist, Cifar10):
        register(dataset)


@hookimpl
def register_models(register):
    for model in (MnistCnn, Densenet):
        register(model)


@hookimpl
def register_attacks(register):
    for attack in (Fgsm, Pgd, Apgd, DeepFool, Cw):
        register(attack)


@hookimpl
def register_defenses(register):
    for defense in (NoDefense, Jpeg, Gaussian, Kmeans, Tvm, VqVae):
        register(defense)
