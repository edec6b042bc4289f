"""The registry: which components there are, and which plugin each comes from."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any

from advbench.api import Attack, Component, Dataset, Defense, Executor, Model, Reporter
from advbench.api.component import closest
from advbench.discovery.plugins import Plugin, PluginLog, Problem
from advbench.discovery.studies import Studies
from advbench.errors import ParameterError, UnknownNameError, describe

__all__ = ["KINDS", "Plugin", "Problem", "Registered", "Registry"]

KINDS: dict[str, type[Component]] = {
    "attacks": Attack,
    "defenses": Defense,
    "models": Model,
    "datasets": Dataset,
    "executors": Executor,
    "reporters": Reporter,
}
"""The kinds of component, as in ``register_<kind>`` and ``advbench list <kind>``, with their base classes."""

_NAME = re.compile(r"[a-z][a-z0-9._-]*")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]+")


@dataclasses.dataclass(frozen=True)
class Registered:
    """A component class with the plugin that registered it."""

    kind: str
    component: type[Component]
    plugin: Plugin


class Registry(PluginLog):
    """All components by kind and name.

    A name that two plugins register for one kind belongs to neither: using it is an error that names both.

    Attributes:
        withdrawn: Why plugins that were loaded are not used, by their names.
        studies: The suites and commands that plugins register.
    """

    def __init__(self) -> None:
        super().__init__()
        self.studies = Studies(self)
        self.withdrawn: dict[str, str] = {}
        self._withdrawn: dict[tuple[str, str], Plugin] = {}
        self._components: dict[str, dict[str, list[Registered]]] = {kind: {} for kind in KINDS}

    def register(self, kind: str, component: type[Component], plugin: Plugin) -> None:
        """Adds a component; what is wrong with it becomes a problem of the plugin."""
        fault = _fault(kind, component)
        if fault is not None:
            self.report(plugin, fault)
            return
        holders = self._components[kind].setdefault(component.name, [])
        if any(holder.component is component for holder in holders):
            return
        holders.append(Registered(kind, component, plugin))
        plugin.components.append((kind, component.name))
        if len(holders) > 1:
            self.report(plugin, self._ambiguity(kind, component.name))

    def withdraw(self, plugin: Plugin, reason: str) -> None:
        """Takes back all that a plugin has registered."""
        self.withdrawn[plugin.name] = reason
        for kind, name in plugin.components:
            holders = self._components[kind]
            holders[name] = [holder for holder in holders[name] if holder.plugin is not plugin]
            if not holders[name]:
                del holders[name]
                self._withdrawn[kind, name] = plugin
        plugin.components.clear()
        self.studies.withdraw(plugin)

    def packages(self) -> frozenset[str]:
        """The top-level packages, or single modules, that define components."""
        everything = [holder for found in self._components.values() for holders in found.values() for holder in holders]
        return frozenset(holder.component.__module__.partition(".")[0] for holder in everything)

    def get(self, kind: str, name: str) -> Registered:
        """The component of this kind and name.

        Raises:
            UnknownNameError: There is none, or more than one.
        """
        holders = self._components[kind].get(name, [])
        if len(holders) == 1:
            return holders[0]
        if holders:
            raise UnknownNameError(self._ambiguity(kind, name))
        if (kind, name) in self._withdrawn:
            plugin = self._withdrawn[kind, name]
            raise UnknownNameError(
                f"the {kind[:-1]} {name!r} is not used: plugin {plugin.name!r}, which registers it, "
                f"{self.withdrawn[plugin.name]}; mend the plugin"
            )
        raise UnknownNameError(f"unknown {kind[:-1]} {name!r}; {self._hint(kind, name)}")

    def all(self, kind: str) -> list[Registered]:
        """All usable components of a kind, by name."""
        found = self._components[kind]
        return [found[name][0] for name in sorted(found) if len(found[name]) == 1]

    def holds(self, name: str) -> bool:
        """Whether there is a component of this name, of whatever kind."""
        return any(name in known for known in self._components.values())

    def find(self, name: str) -> list[Registered]:
        """The components of this name, of whatever kind.

        Raises:
            UnknownNameError: There is none.
        """
        found = [self.get(kind, name) for kind in KINDS if name in self._components[kind]]
        if not found:
            everything = [known for names in self._components.values() for known in names]
            raise UnknownNameError(
                f"nothing is named {name!r}; {closest(name, everything) or 'advbench list shows what there is'}"
            )
        return found

    def _hint(self, kind: str, name: str) -> str:
        names = [registered.component.name for registered in self.all(kind)]
        if not names:
            return f"no plugin registers any {kind}; 'advbench plugins' shows what was found"
        return closest(name, names) or f"there are: {', '.join(names)}"

    def _ambiguity(self, kind: str, name: str) -> str:
        holders = [holder.plugin for holder in self._components[kind][name]]
        places = " and ".join(f"{plugin.provenance} (plugin {plugin.name!r})" for plugin in holders)
        last = holders[-1]
        without = f"leave out --plugin {last.name}" if last.from_file else f"give --no-plugin {last.name}"
        return (
            f"the {kind[:-1]} name {name!r} is registered by {places}, so it is used from neither; rename one, "
            f"or {without}"
        )


def _shown(thing: object) -> str:
    """A thing on one line, cut where it is long."""
    return " ".join(repr(thing).split())[:200]


def _fault(kind: str, component: Any) -> str | None:
    """What makes a class unfit to be a component of this kind, or None."""
    base = KINDS[kind]
    if not (isinstance(component, type) and issubclass(component, base)):
        return f"register_{kind} was given {_shown(component)}, which is not a subclass of advbench.api.{base.__name__}"
    where = f"{component.__module__}.{component.__qualname__}"
    name = getattr(component, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return f"{where}: name = {name!r} must be text such as 'my-{kind[:-1]}': lower case, digits, '-', '_', '.'"
    own = {key for key in inspect.get_annotations(component) if not key.startswith("_")}
    if own and "__dataclass_params__" not in component.__dict__:
        return f"{where}: decorate it with @dataclass(frozen=True), its fields being its parameters"
    if not component.__dataclass_params__.eq:  # type: ignore[attr-defined]
        return f"{where}: components are equal when their parameters are; leave eq=False out of @dataclass"
    if not component.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return f"{where}: components are frozen; decorate it with @dataclass(frozen=True)"
    missing = sorted(getattr(component, "__abstractmethods__", ()))
    if missing:
        return f"{where}: does not define {', '.join(missing)}"
    try:
        wrong = _wrong_parameter(base, component)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        wrong = describe(error)
    if wrong:
        return f"{where}: {wrong}"
    for attribute, wanted, holds in _attributes(kind, component):
        if not holds:
            return f"{where}: {attribute} = {getattr(component, attribute, None)!r} must be {wanted}"
    return None


def _wrong_parameter(base: type[Component], component: type[Component]) -> str:
    """What is wrong with the first wrong one of a component's parameters, or nothing."""
    for parameter in component.parameters():
        if parameter.name == "name" or hasattr(base, parameter.name):
            return f"the parameter {parameter.name!r} hides what {base.__name__} has under that name; rename it"
        if not parameter.required:
            try:
                parameter.check(parameter.default)
            except ParameterError as error:
                return f"the default of a parameter is not allowed: {error}"
    return ""


def _attributes(kind: str, component: Any) -> Iterator[tuple[str, str, bool]]:
    """The attributes that a component must have beside its methods: name, what it must be, whether it is."""
    source, depends_on = component.source, component.depends_on
    yield "source", "text", isinstance(source, str)
    named = isinstance(depends_on, tuple) and all(isinstance(name, str) for name in depends_on)
    yield "depends_on", "a tuple of names of distributions", named
    if kind in ("models", "datasets"):
        shape, classes = getattr(component, "image_shape", ()), getattr(component, "num_classes", 0)
        sized = isinstance(shape, tuple) and len(shape) == 3 and all(isinstance(size, int) for size in shape)
        counted = isinstance(classes, int) and classes > 1
        # A property tells it of each instance, and a model may take any dataset's.
        yield "image_shape", "a tuple (channels, height, width)", sized or _left_open(kind, shape)
        yield "num_classes", "a whole number", counted or _left_open(kind, classes)
    if kind == "reporters":
        suffix = getattr(component, "suffix", None)
        yield "suffix", "text such as '.txt'", isinstance(suffix, str) and _SUFFIX.fullmatch(suffix) is not None


def _left_open(kind: str, value: object) -> bool:
    return isinstance(value, property) or (kind == "models" and value is None)
