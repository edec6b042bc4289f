"""Using live Python objects as components: models, defenses and data that the user holds in memory."""

from __future__ import annotations

import itertools
import re
import types
from collections.abc import Mapping, Sequence
from typing import Any

from advbench.api import Component
from advbench.discovery.identity import set_session_digest
from advbench.discovery.registry import KINDS, Plugin, Registry
from advbench.errors import UnknownNameError, UsageError, shorten_words
from advbench.live.data import is_data
from advbench.live.fingerprint import fingerprint
from advbench.live.wrappers import kind_of, wrap
from advbench.specs import is_alias, short_spec, similar_alias

__all__ = ["LiveObjects"]


class LiveObjects:
    """Registers live objects in a registry and returns a spec for each.

    Args:
        registry: The registry, which also holds the components of plugins.

    Attributes:
        names: The names of the registered objects.
        not_reusable: Why results with some objects cannot be reused in another session, one sentence each.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.plugin = Plugin("session", "this Python session", "", "__main__")
        self.names: list[str] = []
        self._live: dict[tuple[str, str], Any] = {}
        self.not_reusable: list[str] = []

    def specs(self, axis: str, given: Any) -> list[str] | None:
        """Registers the arguments for an axis and returns their specs.

        Args:
            axis: The axis, such as ``models``.
            given: One object, a sequence of objects, or a dictionary of names to objects or specs; None for none.

        Raises:
            UsageError: An object cannot be used on this axis.
        """
        if given is None:
            return None
        if isinstance(given, Mapping):
            return [self._entry(axis, name, value) for name, value in given.items()]
        several = isinstance(given, Sequence) and not isinstance(given, str) and not is_data(given)
        return [self._spec(axis, value) for value in (given if several else [given])]

    def surrogate(self, given: Any) -> list[str] | None:
        """Registers the surrogates, which may also be among the models, and returns their specs.

        Args:
            given: A model, a sequence of models, or a dictionary of names to models; None for none.

        Raises:
            UsageError: One of them is no model, or there is none.
        """
        if given is None:
            return None
        if isinstance(given, Mapping):
            each = [({name: value}, value) for name, value in given.items()]
        else:
            several = isinstance(given, Sequence) and not isinstance(given, str)
            each = [(value, value) for value in (given if several else [given])]
        if not each:
            raise UsageError("surrogate: is empty; give at least one model, or leave it out")
        try:
            # A model that was already given has its name, whatever a dictionary calls it here.
            specs = [self.names_of("models", value)[:1] or self.specs("models", entry) or [] for entry, value in each]
        except UsageError as error:
            raise UsageError(f"surrogate: {error}") from error
        return [spec for of_one in specs for spec in of_one]

    def fit_data(self, given: Any) -> str | None:
        """Registers the data to which components are fitted, and returns its spec.

        Args:
            given: A dataset, or a dictionary of one name to a dataset; None for none.

        Raises:
            UsageError: It is not one dataset.
        """
        value = next(iter(given.values())) if isinstance(given, Mapping) and len(given) == 1 else given
        known = None if value is None else self.names_of("datasets", value)[:1]
        if known:  # it is evaluated, too, and has its name already
            return known[0]
        try:
            specs = self.specs("datasets", given)
        except UsageError as error:
            raise UsageError(f"fit_data: {str(error).removeprefix('datasets: ')}") from error
        if specs is not None and len(specs) != 1:
            raise UsageError("fit_data: give one dataset")
        return specs[0] if specs else None

    def names_of(self, axis: str, value: Any) -> list[str]:
        """The names under which an object that is no component was given on an axis; empty if it was not."""
        return [name for (on, name), known in self._live.items() if on == axis and _is_same(known, value)]

    def _entry(self, axis: str, name: Any, value: Any) -> str:
        """The spec of an entry of a dictionary, with the name as its alias if the spec does not begin with it."""
        kind = axis[:-1]
        if not isinstance(name, str) or not is_alias(name):
            similar = similar_alias(str(name) if isinstance(name, (str, int)) else "", kind)
            raise UsageError(
                f"{axis}: name {shorten_words(repr(name))}: must be text such as {similar!r}: a letter, then letters, "
                "digits, '.', '_' or '-', at most 40 characters"
            )
        if not _has_spec(value):
            return self._named(axis, name, value)
        spec = self._spec(axis, value)
        return spec if name == spec else f"{name}={spec}"

    def _spec(self, axis: str, value: Any) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, type) and issubclass(value, Component):
            self._register_class(axis, value)
            return value.name
        if isinstance(value, Component):
            self._register_class(axis, type(value))
            return short_spec(value)
        name = getattr(value, "__name__", None) or type(value).__name__
        name = "data" if axis == "datasets" and is_data(value) else _slug(name)
        return self._named(axis, self._numbered(axis, name, value), value)

    def _numbered(self, axis: str, name: str, value: Any) -> str:
        """The name with a number behind it if another live object of this axis has it."""
        if (axis, name) not in self._live:
            return name
        if self.names_of(axis, value):
            raise UsageError(f"{axis}: {kind_of(value)} is given twice; remove one")
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        return next(free for free in numbered if not self._is_taken(axis, free))

    def _named(self, axis: str, name: str, value: Any) -> str:
        """Registers an object that is not a component under a name."""
        wrapper = wrap(axis, name, value)
        if self._is_taken(axis, name):
            kind = axis[:-1]
            other = similar_alias(f"my-{name}", kind)
            raise UsageError(
                f"{axis}: {name!r} is the name of another {kind}; give a dictionary with another name, such as "
                f"{{{other!r}: …}}"
            )
        self.names.append(name)
        if wrapper.unknown:
            self.not_reusable.append(f"{axis[:-1]} {name!r}: {wrapper.unknown}")
        self._register(axis, wrapper.component, any_case=True)
        self._live[axis, name] = value
        return name

    def _register_class(self, axis: str, component: type[Component]) -> None:
        """Registers a component class, unless a plugin has registered it."""
        if not issubclass(component, KINDS[axis]):
            raise UsageError(f"{axis}: {component.__name__} is not a {KINDS[axis].__name__}")
        name = getattr(component, "name", "")
        try:
            known = self.registry.get(axis, name).component
        except UnknownNameError:
            known = None
        if known is component:
            return
        if known is not None:
            raise UsageError(f"{axis}: the name {name!r} of {component.__name__} is taken; rename the class attribute")
        self.names.append(name)
        identity = fingerprint(component.__name__, component)
        if identity.unknown:
            self.not_reusable.append(f"{axis[:-1]} {name!r}: {identity.unknown}")
        # Two classes with the same name in the same file may still differ in the values that they use.
        set_session_digest(component, identity.digest)
        self._register(axis, component)

    def _register(self, axis: str, component: type[Component], *, any_case: bool = False) -> None:
        before = len(self.registry.problems)
        if self.plugin not in self.registry.plugins:
            self.registry.plugins.append(self.plugin)
        self.registry.register(axis, component, self.plugin, any_case=any_case)
        if len(self.registry.problems) > before:
            raise UsageError(f"{axis}: {self.registry.problems.pop().message}")

    def _is_taken(self, axis: str, name: str) -> bool:
        return any(registered.component.name == name for registered in self.registry.all(axis))


def _has_spec(value: Any) -> bool:
    """Whether a value is a spec, or a component that has one."""
    return isinstance(value, (str, Component)) or (isinstance(value, type) and issubclass(value, Component))


def _is_same(known: Any, value: Any) -> bool:
    """Whether two values are one object: also a method that is read again, or a new tuple of the same arrays."""
    if isinstance(known, types.MethodType) and isinstance(value, types.MethodType):
        return known.__self__ is value.__self__ and known.__func__ is value.__func__
    if isinstance(known, (list, tuple)) and isinstance(value, (list, tuple)):
        return len(known) == len(value) and all(one is other for one, other in zip(known, value, strict=True))
    return known is value


def _slug(name: str) -> str:
    """Converts the name of a class or function to a component's name: ``MyNet`` becomes ``my-net``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
    return re.sub(r"[^a-z0-9._-]+", "-", words).strip("-._0123456789") or "live"
