"""Components each of which spoils an evaluation in one way. Loaded with ``--plugin`` beside the toy plugin."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from advbench.api import Attack, Budget, Defense, Model, hookimpl, param

SHAPE = (1, 4, 4)


def sign(model, images, labels):
    """The sign of the cross-entropy's gradient."""
    points = images.clone().requires_grad_(True)
    loss = torch.nn.functional.cross_entropy(model(points), labels, reduction="sum")
    return torch.autograd.grad(loss, points)[0].sign()


def guessed(images):
    """What toy-linear answers, for attacks that may not ask it."""
    return (images.flatten(1) - 0.5) @ torch.randn(3, 16, generator=torch.Generator().manual_seed(3)).T


class Budgeted(Attack):
    """An iterative attack within an L∞ budget, by its own account."""

    eps: float

    def budget(self):
        return Budget("linf", self.eps)

    def passes(self):
        return 10


@dataclass(frozen=True)
class Idle(Budgeted):
    """Does nothing."""

    name = "cheat-idle"
    eps: float = param(0.2, min=0, help="budget")

    def run(self, model, images, labels, rng):
        return images.clone()


@dataclass(frozen=True)
class Shy(Budgeted):
    """Does nothing with a large budget."""

    name = "cheat-shy"
    eps: float = param(0.2, min=0, help="budget")

    def run(self, model, images, labels, rng):
        step = self.eps if self.eps < 0.15 else 0.0
        return (images + step * sign(model, images, labels)).clamp(0, 1)


@dataclass(frozen=True)
class Forgetful(Budgeted):
    """Finds images that fool the model, and returns the clean ones."""

    name = "cheat-forgetful"
    eps: float = param(0.2, min=0, help="budget")

    def run(self, model, images, labels, rng):
        model((images + self.eps * sign(model, images, labels)).clamp(0, 1))
        return images.clone()


@dataclass(frozen=True)
class Hair(Budgeted):
    """Goes a hair beyond the boundary and no further."""

    name = "cheat-hair"
    eps: float = param(0.4, min=0, help="budget")

    def run(self, model, images, labels, rng):
        way = (images + self.eps * sign(model, images, labels)).clamp(0, 1) - images
        low, high = torch.zeros(len(images)), torch.ones(len(images))
        for _ in range(30):
            middle = (low + high) / 2
            fooled = model(images + middle[:, None, None, None] * way).argmax(dim=1) != labels
            low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
        return images + high[:, None, None, None] * way


@dataclass(frozen=True)
class Slow(Budgeted):
    """Goes a twentieth of the way a step."""

    name = "cheat-slow"
    eps: float = param(0.3, min=0, help="budget")
    steps: int = param(5, min=1, help="steps")

    def run(self, model, images, labels, rng):
        share = min(1.0, self.steps / 20)
        return (images + share * self.eps * sign(model, images, labels)).clamp(0, 1)


@dataclass(frozen=True)
class Luck(Budgeted):
    """Asks the model nothing, and fools it nevertheless."""

    name = "cheat-luck"
    access = "nothing"
    eps: float = param(0.2, min=0, help="budget")

    def run(self, model, images, labels, rng):
        return (images + self.eps * sign(guessed, images, labels)).clamp(0, 1)


@dataclass(frozen=True)
class Static(Budgeted):
    """Noise that is too weak to fool anything, and the weaker the larger it is."""

    name = "cheat-static"
    access = "nothing"
    eps: float = param(0.2, min=0, help="budget")

    def run(self, model, images, labels, rng):
        step = self.eps if self.eps < 0.15 else 0.0
        return (images + step * sign(guessed, images, labels)).clamp(0, 1)


@dataclass(frozen=True)
class Medley(Budgeted):
    """Has a part with gradients, which does nothing, and one without, which fools."""

    name = "cheat-medley"
    blind: bool = param(True, help="whether the part that fools goes without gradients")
    eps: float = param(0.2, min=0, help="budget")

    def component_names(self):
        return ("idle", "luck")

    def component_access(self):
        return ("gradients", "nothing" if self.blind else "gradients")

    def run(self, model, images, labels, rng):
        return self.run_with_notes(model, images, labels, rng)[0]

    def run_with_notes(self, model, images, labels, rng):
        crafted = (images + self.eps * sign(model, images, labels)).clamp(0, 1)
        fooled = (model(images).argmax(dim=1) == labels) & (model(crafted).argmax(dim=1) != labels)
        return crafted, {"component": torch.where(fooled, 1, -1)}


class Plain(Defense):
    """Leaves images as they are, but for what its subclasses do."""

    def apply(self, images, rng):
        return images


@dataclass(frozen=True)
class Secret(Plain):
    """Draws random numbers and says that it does not."""

    name = "cheat-secret"

    def apply(self, images, rng):
        return images + rng.uniform(*SHAPE, high=0.1)


@dataclass(frozen=True)
class Wild(Plain):
    """Draws from torch's global generator."""

    name = "cheat-wild"
    stochastic = True

    def apply(self, images, rng):
        return images + 0.1 * torch.rand(images.shape)


@dataclass(frozen=True)
class Fixed(Plain):
    """Says that it is stochastic, and has a seed of its own."""

    name = "cheat-fixed"
    stochastic = True

    def apply(self, images, rng):
        return images + 0.1 * torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Steady(Plain):
    """Draws where it begins, and ends at the same image, as k-means with few clusters does."""

    name = "cheat-steady"
    stochastic = True

    def apply(self, images, rng):
        begun = rng.derive("start").uniform(*SHAPE)
        return torch.where(begun < 2, images, begun)


@dataclass(frozen=True)
class Batchy(Plain):
    """Subtracts half of the mean of the batch."""

    name = "cheat-batchy"

    def apply(self, images, rng):
        return images - 0.5 * images.mean(dim=0, keepdim=True)


@dataclass(frozen=True)
class Flat(Plain):
    """Has a stand-in whose gradient is zero."""

    name = "cheat-flat"

    def approximation(self, images, rng):
        return images * 0


@dataclass(frozen=True)
class Backwards(Plain):
    """Has a stand-in whose gradient points the wrong way."""

    name = "cheat-backwards"

    def approximation(self, images, rng):
        return -images


class Linear(torch.nn.Module):
    """The toy model's classifier, and what the subclasses make of its logits."""

    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.randn(3, 16, generator=torch.Generator().manual_seed(3)))

    def forward(self, images):
        return self.of((images.flatten(1) - 0.5) @ self.weights.T)

    def of(self, logits):
        return logits


class Rounded(Linear):
    def of(self, logits):
        return (logits * 10).round() / 10


class Detached(Linear):
    def of(self, logits):
        return logits.detach()


class Softmax(Linear):
    def of(self, logits):
        return logits.softmax(dim=1)


class Renumbered(Linear):
    """Counts its classes from one, as it were."""

    def of(self, logits):
        return logits.roll(1, dims=1)


class Constant(Linear):
    """Answers the third class, as a network does whose pixels are scaled otherwise than in its training."""

    def of(self, logits):
        return 0.01 * logits + torch.tensor([0.0, 0.0, 1.0])


class Classifier(Model):
    """A linear classifier that spoils its gradients."""

    image_shape = SHAPE
    num_classes = 3
    network = Linear

    def load(self):
        return self.network()

    def weights_digest(self):
        return self.name


@dataclass(frozen=True)
class RoundedModel(Classifier):
    """Rounds its logits."""

    name = "cheat-rounded"
    network = Rounded


@dataclass(frozen=True)
class DetachedModel(Classifier):
    """Gives no gradient."""

    name = "cheat-detached"
    network = Detached


@dataclass(frozen=True)
class SoftmaxModel(Classifier):
    """Returns probabilities."""

    name = "cheat-softmax"
    network = Softmax


@dataclass(frozen=True)
class RenumberedModel(Classifier):
    """Knows the classes by other numbers."""

    name = "cheat-renumbered"
    network = Renumbered


@dataclass(frozen=True)
class ConstantModel(Classifier):
    """Answers one class."""

    name = "cheat-constant"
    network = Constant


@hookimpl
def register_attacks(register):
    for attack in (Idle, Shy, Forgetful, Hair, Slow, Luck, Static, Medley):
        register(attack)


@hookimpl
def register_defenses(register):
    for defense in (Secret, Wild, Fixed, Steady, Batchy, Flat, Backwards):
        register(defense)


@hookimpl
def register_models(register):
    for model in (RoundedModel, DetachedModel, SoftmaxModel, RenumberedModel, ConstantModel):
        register(model)
