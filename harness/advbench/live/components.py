"""Live objects as components: what the user holds in memory takes its place in the matrix beside what plugins have."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch

from advbench.api import Component, Defense, Model, SampleRandom
from advbench.discovery.identity import note_state
from advbench.discovery.registry import KINDS, Plugin, Registry
from advbench.errors import UnknownNameError, UsageError
from advbench.live.data import EXPECTED, is_data, live_dataset
from advbench.live.fingerprint import Fingerprint, fingerprint
from advbench.specs import short_spec

__all__ = ["LiveObjects"]


class LiveObjects:
    """Registers live objects in a registry and gives each a spec.

    Args:
        registry: Where they are registered, beside what plugins have.

    Attributes:
        names: The names under which they are.
        unkept: Why results with some cannot be kept for another session, a sentence each.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.plugin = Plugin("session", "this Python session", "", "__main__")
        self.names: list[str] = []
        self.unkept: list[str] = []

    def specs(self, axis: str, given: Any) -> list[str] | None:
        """The specs of what was given for an axis: one thing, several, or a dictionary of names to things.

        Raises:
            UsageError: A thing cannot stand there.
        """
        if given is None:
            return None
        if isinstance(given, Mapping):
            return [self._named(axis, str(name), thing) for name, thing in given.items()]
        several = isinstance(given, Sequence) and not isinstance(given, str) and not is_data(given)
        return [self._spec(axis, thing) for thing in (given if several else [given])]

    def _spec(self, axis: str, thing: Any) -> str:
        if isinstance(thing, str):
            return thing
        if isinstance(thing, type) and issubclass(thing, Component):
            self._register_class(axis, thing)
            return thing.name
        if isinstance(thing, Component):
            self._register_class(axis, type(thing))
            return short_spec(thing)
        name = getattr(thing, "__name__", None) or type(thing).__name__
        return self._named(axis, "data" if axis == "datasets" and is_data(thing) else _slug(name), thing)

    def _named(self, axis: str, name: str, thing: Any) -> str:
        """Registers a thing that is no component under a name."""
        if isinstance(thing, (str, Component)):
            raise UsageError(f"{axis}={{{name!r}: …}}: {thing!r} has a name of its own; give it without another")
        made = _component(axis, name, thing)
        if name in self.names or self._is_taken(axis, name):
            raise UsageError(f"{axis}: the name {name!r} is taken; give a dictionary with other names")
        self.names.append(name)
        if made.unknown:
            self.unkept.append(f"{axis[:-1]} {name!r}: {made.unknown}")
        self._register(axis, made.component)
        return name

    def _register_class(self, axis: str, component: type[Component]) -> None:
        """Registers a component's class, unless a plugin did."""
        if not issubclass(component, KINDS[axis]):
            raise UsageError(f"{axis}: {component.__name__} is no {KINDS[axis].__name__}")
        name = getattr(component, "name", "")
        try:
            known = self.registry.get(axis, name).component
        except UnknownNameError:
            known = None
        if known is component:
            return
        if known is not None:
            raise UsageError(f"{axis}: the name {name!r} of {component.__name__} is taken; give the class another")
        self.names.append(name)
        made = fingerprint(component.__name__, component)
        if made.unknown:
            self.unkept.append(f"{axis[:-1]} {name!r}: {made.unknown}")
        note_state(component, made.digest)  # two classes of one file may have one name, and other values
        self._register(axis, component)

    def _register(self, axis: str, component: type[Component]) -> None:
        before = len(self.registry.problems)
        if self.plugin not in self.registry.plugins:
            self.registry.plugins.append(self.plugin)
        self.registry.register(axis, component, self.plugin)
        if len(self.registry.problems) > before:
            raise UsageError(f"{axis}: {self.registry.problems.pop().message}")

    def _is_taken(self, axis: str, name: str) -> bool:
        return any(registered.component.name == name for registered in self.registry.all(axis))


@dataclasses.dataclass(frozen=True)
class _Made:
    component: type[Component]
    unknown: str = ""


def _component(axis: str, name: str, thing: Any) -> _Made:
    """A component class, without parameters, that stands for a thing."""
    if axis == "datasets":
        if not is_data(thing):
            raise UsageError(f"datasets: {_kind(thing)} is no dataset; give {EXPECTED}")
        return _Made(live_dataset(name, thing))
    if isinstance(thing, type):
        raise UsageError(f"{axis}: {thing.__name__} is a class; give an object of it")
    if axis == "models" and (isinstance(thing, torch.nn.Module) or callable(thing)):
        made = fingerprint(name, thing)
        return _Made(_live(name, LiveModel, thing, made), made.unknown)
    if axis == "defenses" and callable(thing):
        made = fingerprint(name, thing)
        return _Made(_live(name, LiveDefense, thing, made), made.unknown)
    wanted = {
        "models": "a spec, a Model, an nn.Module, or a function of images to logits",
        "defenses": "a spec, a Defense, or a function of images to images",
        "attacks": "a spec or an Attack",
    }[axis]
    raise UsageError(f"{axis}: {_kind(thing)} cannot stand here; give {wanted}")


def _live(name: str, base: type[Component], thing: Any, made: Fingerprint) -> type[Component]:
    body = {"name": name, "thing": staticmethod(thing), "digest": made.digest, "modules": tuple(sorted(made.modules))}
    return type(f"Live{name.title()}", (base,), {"__doc__": f"{_kind(thing)} of this session.", **body})


@dataclasses.dataclass(frozen=True)
class LiveModel(Model):
    """A network, or a function of images to logits, that the user holds in memory."""

    image_shape: ClassVar[None] = None
    num_classes: ClassVar[None] = None
    thing: ClassVar[Any]
    digest: ClassVar[str]
    modules: ClassVar[tuple[str, ...]]

    def load(self) -> torch.nn.Module:
        """A copy, so that the user's own network keeps its mode, device and gradients."""
        thing = self.thing
        return _copied(thing) if isinstance(thing, torch.nn.Module) else _Function(thing)

    def weights_digest(self) -> str:
        """The digest of its weights and values."""
        return self.digest

    def code_modules(self) -> tuple[str, ...]:
        """The modules that hold its code."""
        return self.modules


@dataclasses.dataclass(frozen=True)
class LiveDefense(Defense):
    """A function of images to images that the user holds in memory."""

    thing: ClassVar[Any]
    digest: ClassVar[str]
    modules: ClassVar[tuple[str, ...]]

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Calls the function."""
        del rng
        with torch.no_grad():
            defended: torch.Tensor = self.thing(images)
        return defended

    def weights_digest(self) -> str:
        """The digest of what it uses."""
        return self.digest

    def code_modules(self) -> tuple[str, ...]:
        """The modules that hold its code."""
        return self.modules


def _copied(network: torch.nn.Module) -> torch.nn.Module:
    """A deep copy, also of networks that keep what they computed last, as ``torch.nn.utils.weight_norm`` lets them."""
    kept = (value for part in network.modules() for value in vars(part).values())
    computed = (value for value in kept if isinstance(value, torch.Tensor) and not value.is_leaf)
    memo: dict[int, Any] = {id(value): value.detach().clone() for value in computed}
    with torch.no_grad():  # else the parameters of a ScriptModule's copy are no leaves
        return copy.deepcopy(network, memo)


class _Function(torch.nn.Module):
    """A function as a network."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.function(images)


def _slug(name: str) -> str:
    """A class's or function's name as components have them: ``MyNet`` is ``my-net``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
    return re.sub(r"[^a-z0-9._-]+", "-", words).strip("-._0123456789") or "live"


def _kind(thing: Any) -> str:
    name = getattr(thing, "__name__", type(thing).__name__)
    return f"the function {name}" if hasattr(thing, "__code__") else f"an object of {type(thing).__name__}"
