"""Component classes that wrap live objects."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from typing import Any, ClassVar, get_args

import torch

from advbench.api import (
    Access,
    Artefact,
    Attack,
    Budget,
    Component,
    Defense,
    FunctionNetwork,
    Goal,
    Model,
    Norm,
    SampleRandom,
)
from advbench.discovery.identity import set_session_digest
from advbench.errors import UsageError
from advbench.live.data import EXPECTED, is_data, live_dataset
from advbench.live.fingerprint import Fingerprint, fingerprint
from advbench.live.model_facts import kind_of, model_facts, takes

__all__ = ["Wrapper", "has_changed", "kind_of", "wrap"]


@dataclasses.dataclass(frozen=True)
class Wrapper:
    """A component class that wraps an object, and why results with it cannot be reused; empty if they can."""

    component: type[Component]
    unknown: str = ""


def wrap(axis: str, name: str, value: Any) -> Wrapper:
    """Makes a component class, without parameters, that wraps an object."""
    if axis == "datasets":
        if not is_data(value):
            raise UsageError(f"datasets: {kind_of(value)} is not a dataset; give {EXPECTED}")
        return Wrapper(live_dataset(name, value))
    if isinstance(value, type):
        raise UsageError(f"{axis}: {value.__name__} is a class; give an instance of it")
    if axis == "models" and (isinstance(value, torch.nn.Module) or callable(value)):
        identity = fingerprint(name, value)
        return Wrapper(_live(name, LiveModel, value, identity, **model_facts(value)), identity.unknown)
    if axis == "defenses" and callable(value):
        identity = fingerprint(name, value)
        return Wrapper(_live(name, LiveDefense, value, identity), identity.unknown)
    if axis == "attacks" and callable(value) and not isinstance(value, torch.nn.Module):
        identity = fingerprint(name, value)
        component = _live(name, LiveAttack, value, identity, **_attack_facts(value))
        set_session_digest(component, identity.digest)
        return Wrapper(component, identity.unknown)
    wanted = {
        "models": "a spec, a Model, an nn.Module, or a function of images to logits",
        "defenses": "a spec, a Defense, or a function of images to images",
        "attacks": "a spec, an Attack, or a function of (model, images, labels) to images",
    }[axis]
    raise UsageError(f"{axis}: {kind_of(value)} cannot be used here; give {wanted}")


def _live(name: str, base: type[Component], value: Any, identity: Fingerprint, **facts: Any) -> type[Component]:
    modules = tuple(sorted(identity.modules))
    body = {"name": name, "wrapped": staticmethod(value), "digest": identity.digest, "modules": modules, **facts}
    return type(f"Live{name.title()}", (base,), {"__doc__": f"{kind_of(value)} of this session.", **body})


@dataclasses.dataclass(frozen=True)
class LiveModel(Model):
    """A network, or a function of images to logits, that the user holds in memory."""

    image_shape: ClassVar[None] = None
    num_classes: ClassVar[int | None] = None
    probabilities: ClassVar[bool] = False
    tensors: ClassVar[bool] = False
    wrapped: ClassVar[Any]
    digest: ClassVar[str]
    modules: ClassVar[tuple[str, ...]]

    def load(self) -> torch.nn.Module:
        """Returns a copy, so that the user's network keeps its mode, device and gradients."""
        wrapped = self.wrapped
        if isinstance(wrapped, torch.nn.Module):
            wrapped = _copied(wrapped)
            if self.gives == "gradients":
                return wrapped
        return FunctionNetwork(
            wrapped,
            f"model {self.name!r}: {kind_of(self.wrapped)}",
            gives=self.gives,
            classes=self.num_classes,
            probabilities=self.probabilities,
            tensors=self.tensors,
        )

    def weights_digest(self) -> str:
        """The digest of its weights and values."""
        return self.digest

    def code_modules(self) -> tuple[str, ...]:
        """The modules that hold its code."""
        return self.modules


@dataclasses.dataclass(frozen=True)
class LiveDefense(Defense):
    """A function of images to images, or a network, that the user holds in memory."""

    wrapped: ClassVar[Any]
    digest: ClassVar[str]
    modules: ClassVar[tuple[str, ...]]

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Calls the function; of a network a copy in eval mode, so that the user's keeps its mode, device and state."""
        del rng
        function = self.wrapped
        if isinstance(function, torch.nn.Module):
            function = _evaluated(type(self)).to(images.device)
        with torch.no_grad():
            defended: torch.Tensor = function(images)
        return defended

    def weights_digest(self) -> str:
        """The digest of the values that it uses."""
        return self.digest

    def code_modules(self) -> tuple[str, ...]:
        """The modules that hold its code."""
        return self.modules


def has_changed(component: Component) -> bool:
    """Whether a live object is no longer as it was when it was registered, for example after more training."""
    if not isinstance(component, (LiveModel, LiveDefense, LiveAttack)):
        return False
    return fingerprint(component.name, component.wrapped).digest != component.digest


@dataclasses.dataclass(frozen=True)
class LiveAttack(Attack):
    """A function of a model, images and labels to adversarial images that the user holds in memory."""

    wrapped: ClassVar[Any]
    digest: ClassVar[str]
    modules: ClassVar[tuple[str, ...]]
    norm: ClassVar[Norm | None]
    eps: ClassVar[float | None]
    draws: ClassVar[bool]

    def craft(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        goal: Goal,
        rng: SampleRandom,
        fitted: Artefact | None = None,
    ) -> torch.Tensor:
        """Calls the function, with the random streams if it takes a fourth argument."""
        del fitted
        given = (model, images, goal.labels, rng) if self.draws else (model, images, goal.labels)
        adversarial: torch.Tensor = self.wrapped(*given)
        return adversarial

    def budget(self) -> Budget | None:
        """The budget in the function's attributes ``norm`` and ``eps``."""
        return None if self.norm is None or self.eps is None else Budget(self.norm, self.eps)

    def minimized_norm(self) -> Norm | None:
        """The function's attribute ``norm``."""
        return self.norm

    def code_modules(self) -> tuple[str, ...]:
        """The modules that hold its code."""
        return self.modules


def _attack_facts(function: Any) -> dict[str, Any]:
    """What the attributes of a function say of the attack, and whether it takes random streams.

    Raises:
        UsageError: An attribute has no valid value, or the function takes other arguments.
    """
    where = f"attacks: {kind_of(function)}"
    norm, eps = getattr(function, "norm", None), getattr(function, "eps", None)
    access = getattr(function, "access", Attack.access)
    if norm is not None and norm not in get_args(Norm):
        raise UsageError(f"{where} has the norm {norm!r}; there are: {', '.join(get_args(Norm))}")
    number = isinstance(eps, (int, float)) and not isinstance(eps, bool)
    if eps is not None and (norm is None or not number or not math.isfinite(eps) or eps < 0):
        reason = "no attribute norm, such as 'linf'" if norm is None else f"eps = {eps!r}; it must be a number from 0"
        raise UsageError(f"{where} has {'an eps but ' if norm is None else ''}{reason}")
    if access not in get_args(Access):
        raise UsageError(f"{where} has the access {access!r}; there are: {', '.join(get_args(Access))}")
    draws = takes(function, 4)
    if not draws and not takes(function, 3, unknown=True):
        raise UsageError(f"{where} takes other arguments; an attack takes (model, images, labels)")
    return {"norm": norm, "eps": None if eps is None else float(eps), "access": access, "draws": draws}


@functools.lru_cache(maxsize=16)
def _evaluated(defense: type[LiveDefense]) -> torch.nn.Module:
    """A copy in eval mode of the network that is a defense, made once for each state of it that is registered."""
    return _copied(defense.wrapped).eval()


def _copied(network: torch.nn.Module) -> torch.nn.Module:
    """A deep copy, also of networks that hold computed tensors, such as those of ``torch.nn.utils.weight_norm``."""
    kept = (value for part in network.modules() for value in vars(part).values())
    computed = (value for value in kept if isinstance(value, torch.Tensor) and not value.is_leaf)
    memo: dict[int, Any] = {id(value): value.detach().clone() for value in computed}
    with torch.no_grad():  # otherwise the parameters of a copied ScriptModule are not leaves of the graph
        return copy.deepcopy(network, memo)
