"""The registry of components and of the plugins that they come from."""

from __future__ import annotations

import dataclasses
import inspect
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, get_args

from advbench.api.attack import Attack, Norm
from advbench.api.component import Component, closest
from advbench.api.dataset import Dataset
from advbench.api.defense import Defense
from advbench.api.executor import Executor
from advbench.api.model import Model
from advbench.api.reporter import Reporter
from advbench.discovery.plugins import Plugin, PluginLog, Problem
from advbench.discovery.studies import Studies
from advbench.errors import ParameterError, UnknownNameError, describe, listed
from advbench.option_names import option

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

_MOST_NAMES = 12
"""The largest number of names that a message lists."""

_NAME = re.compile(r"[a-z][a-z0-9._-]*")
_ANY_CASE = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_CONTROL = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of control and format characters. Joiners, which some scripts need, are allowed all the same."""

_JOINERS = "\u200c\u200d"
_SUFFIX = re.compile(r"\.[A-Za-z0-9]+")


@dataclasses.dataclass(frozen=True)
class Registered:
    """A component class with the plugin that registered it."""

    kind: str
    component: type[Component]
    plugin: Plugin


class Registry(PluginLog):
    """All components, by kind and name.

    If two plugins register the same name for one kind, neither component is used: looking up the name is an error that
    names both plugins.

    Attributes:
        withdrawn: Reasons why loaded plugins are not used, by their names.
        studies: The suites and commands that plugins register.
    """

    def __init__(self) -> None:
        super().__init__()
        self.studies = Studies(self)
        self.withdrawn: dict[str, str] = {}
        self._withdrawn: dict[tuple[str, str], Plugin] = {}
        self._components: dict[str, dict[str, list[Registered]]] = {kind: {} for kind in KINDS}

    def register(self, kind: str, component: type[Component], plugin: Plugin, *, any_case: bool = False) -> None:
        """Adds a component; if it is invalid, records a problem of the plugin instead.

        Args:
            kind: The kind of component, such as ``attacks``.
            component: The component's class.
            plugin: The plugin that registers it.
            any_case: Whether its name may have upper-case letters, as the names that users choose may.
        """
        fault = _fault(kind, component, _ANY_CASE if any_case else _NAME)
        if fault is not None:
            self.report(plugin, fault)
            return
        candidates = self._components[kind].setdefault(component.name, [])
        if any(candidate.component is component for candidate in candidates):
            return
        candidates.append(Registered(kind, component, plugin))
        plugin.components.append((kind, component.name))
        if len(candidates) > 1:
            self.report(plugin, self._ambiguity(kind, component.name))

    def withdraw(self, plugin: Plugin, reason: str) -> None:
        """Removes all components that a plugin has registered."""
        self.withdrawn[plugin.name] = reason
        for kind, name in plugin.components:
            candidates = self._components[kind]
            candidates[name] = [candidate for candidate in candidates[name] if candidate.plugin is not plugin]
            if not candidates[name]:
                del candidates[name]
                self._withdrawn[kind, name] = plugin
        plugin.components.clear()
        self.studies.withdraw(plugin)

    def packages(self) -> frozenset[str]:
        """The top-level packages, or single modules, that define components."""
        by_name = [candidates for names in self._components.values() for candidates in names.values()]
        modules = [candidate.component.__module__ for candidates in by_name for candidate in candidates]
        return frozenset(module.partition(".")[0] for module in modules)

    def get(self, kind: str, name: str) -> Registered:
        """The component of this kind and name.

        Raises:
            UnknownNameError: There is none, or more than one.
        """
        candidates = self._components[kind].get(name, [])
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise UnknownNameError(self._ambiguity(kind, name))
        if (kind, name) in self._withdrawn:
            plugin = self._withdrawn[kind, name]
            raise UnknownNameError(
                f"the {kind[:-1]} {name!r} is not used: plugin {plugin.name!r}, which registers it, "
                f"{self.withdrawn[plugin.name]}; fix the plugin"
            )
        raise UnknownNameError(f"unknown {kind[:-1]} {name!r}; {self._hint(kind, name)}")

    def all(self, kind: str) -> list[Registered]:
        """All usable components of a kind, sorted by name."""
        components = self._components[kind]
        return [components[name][0] for name in sorted(components) if len(components[name]) == 1]

    def holds(self, name: str) -> bool:
        """Whether there is a component of this name, of whatever kind."""
        return any(name in known for known in self._components.values())

    def find(self, name: str) -> list[Registered]:
        """The components of this name, of all kinds.

        Raises:
            UnknownNameError: There is none.
        """
        named = [self.get(kind, name) for kind in KINDS if name in self._components[kind]]
        if not named:
            known = [other for names in self._components.values() for other in names]
            hint = closest(name, known) or "'advbench list' shows all components"
            raise UnknownNameError(f"no component is named {name!r}; {hint}")
        return named

    def _hint(self, kind: str, name: str) -> str:
        names = [registered.component.name for registered in self.all(kind)]
        if not names:
            return f"no plugin registers any {kind}; 'advbench plugins' lists the plugins"
        command = f" ('advbench list {kind}' lists all)" if len(names) > _MOST_NAMES else ""
        return closest(name, names) or f"there are: {listed(names, _MOST_NAMES)}{command}"

    def _ambiguity(self, kind: str, name: str) -> str:
        plugins = [candidate.plugin for candidate in self._components[kind][name]]
        named = " and ".join(f"{plugin.provenance} (plugin {plugin.name!r})" for plugin in plugins)
        last = plugins[-1]
        without = f"omit {option('plugin', last.name)}" if last.from_file else f"use {option('no_plugin', last.name)}"
        return f"the {kind[:-1]} name {name!r} is registered by {named}, so neither is used; rename one, or {without}"


def _shown(value: object) -> str:
    """The repr of a value on one line, truncated if it is long."""
    return " ".join(repr(value).split())[:200]


def _fault(kind: str, component: Any, valid_name: re.Pattern[str]) -> str | None:
    """Why a class is not a valid component of this kind, or None if it is."""
    base = KINDS[kind]
    if not (isinstance(component, type) and issubclass(component, base)):
        return f"register_{kind} was given {_shown(component)}, which is not a subclass of advbench.api.{base.__name__}"
    where = f"{component.__module__}.{component.__qualname__}"
    name = getattr(component, "name", None)
    if not isinstance(name, str) or not valid_name.fullmatch(name):
        return f"{where}: name = {name!r} must be text such as 'my-{kind[:-1]}': lower case, digits, '-', '_', '.'"
    own = {key for key in inspect.get_annotations(component) if not key.startswith("_")}
    if own and "__dataclass_params__" not in component.__dict__:
        return f"{where}: decorate it with @dataclass(frozen=True); its fields are its parameters"
    if not component.__dataclass_params__.eq:  # type: ignore[attr-defined]
        return f"{where}: components must be equal if their parameters are; remove eq=False from @dataclass"
    if not component.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return f"{where}: components must be frozen; decorate it with @dataclass(frozen=True)"
    missing = sorted(getattr(component, "__abstractmethods__", ()))
    if missing:
        return f"{where}: does not define {', '.join(missing)}"
    if issubclass(component, Defense) and all(
        getattr(component, name) is getattr(Defense, name) for name in ("apply", "classify")
    ):
        return f"{where}: does not define apply or classify; a defense transforms images, or classifies them"
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


_DECLARATIONS = ("gives", "stochastic")
"""Attributes of models that may also be parameters."""


def _wrong_parameter(base: type[Component], component: type[Component]) -> str:
    """What is wrong with the first invalid parameter of a component; empty if all are valid."""
    fields = {field.name for field in dataclasses.fields(component)}  # a parameter may have another name in specs
    for parameter in component.parameters():
        hides = parameter.name == "name" or (hasattr(base, parameter.name) and parameter.name not in _DECLARATIONS)
        if hides and parameter.name in fields:
            return f"the parameter {parameter.name!r} hides an attribute of {base.__name__}; rename it"
        if not parameter.required:
            try:
                parameter.check(parameter.default)
            except ParameterError as error:
                return f"the default of a parameter is not allowed: {error}"
            for character in parameter.default if isinstance(parameter.default, str) else "":
                if unicodedata.category(character) in _CONTROL and character not in _JOINERS:
                    code = f"U+{ord(character):04X}"
                    return f"the default of {parameter.name!r} has the control character {code}, which no spec can have"
    return ""


def _attributes(kind: str, component: Any) -> Iterator[tuple[str, str, bool]]:
    """The class attributes that a component must have: name, description of valid values, and whether it is valid."""
    source, depends_on = component.source, component.depends_on
    yield "source", "text", isinstance(source, str)
    named = isinstance(depends_on, tuple) and all(isinstance(name, str) for name in depends_on)
    yield "depends_on", "a tuple of names of distributions", named
    for flag in ("identity", "differentiable", "stochastic", "self_contained"):
        value = getattr(component, flag, False)
        # A method or a text would count as true.
        computed = hasattr(type(value), "__get__") and not inspect.isroutine(value)
        yield flag, "True, False or a property", isinstance(value, bool) or computed
    if kind in ("models", "defenses"):
        norm, votes = getattr(component, "certified_norm", None), getattr(component, "votes", None)
        known = norm is None or norm in get_args(Norm) or isinstance(norm, property)
        yield "certified_norm", f"None or one of {', '.join(get_args(Norm))}", known
        counted = isinstance(votes, int) and not isinstance(votes, bool) and votes > 0
        yield "votes", "None or a whole number above 0", votes is None or counted or isinstance(votes, property)
    if kind in ("models", "datasets"):
        shape, classes = getattr(component, "image_shape", ()), getattr(component, "num_classes", 0)
        sized = isinstance(shape, tuple) and len(shape) == 3 and all(isinstance(size, int) for size in shape)
        counted = isinstance(classes, int) and classes > 1
        # It may be a property that depends on the parameters; a model may also accept any dataset and have None.
        yield "image_shape", "a tuple (channels, height, width)", sized or _left_open(kind, shape)
        yield "num_classes", "a whole number", counted or _left_open(kind, classes)
    if kind == "reporters":
        suffix = getattr(component, "suffix", None)
        yield "suffix", "text such as '.txt'", isinstance(suffix, str) and _SUFFIX.fullmatch(suffix) is not None


def _left_open(kind: str, value: object) -> bool:
    return isinstance(value, property) or (kind == "models" and value is None)
