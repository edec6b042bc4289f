"""Specs to components, checked before anything runs."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

from advbench.api import Component, Defense
from advbench.discovery.registry import Registry
from advbench.errors import ParameterError, SpecError, UsageError, describe
from advbench.specs.chain import Chain
from advbench.specs.formatting import full_spec, short_spec
from advbench.specs.grammar import expand, parse_chain
from advbench.specs.suite import Suite

__all__ = ["narrow", "resolve", "resolve_chain", "resolve_one", "select", "select_chains"]


def resolve(registry: Registry, kind: str, text: str) -> list[Component]:
    """The components that one spec stands for: several where it has a sweep.

    Raises:
        SpecError: The text is malformed, or a chain.
        UnknownNameError: Nothing of that kind has that name.
        ParameterError: A parameter is unknown or not allowed.
    """
    terms = parse_chain(text)
    if len(terms) > 1:
        raise SpecError(f"{text!r}: only defenses can be chained with '+'")
    return [_build(registry, kind, *combination[0]) for combination in expand(terms)]


def resolve_one(registry: Registry, kind: str, text: str) -> Component:
    """The one component that a spec without a sweep stands for; raises as :func:`resolve` does."""
    found = resolve(registry, kind, text)
    if len(found) > 1:
        raise SpecError(f"{text!r}: a sweep cannot be used here")
    return found[0]


def resolve_chain(registry: Registry, text: str) -> list[Chain]:
    """The chains of defenses that one spec stands for; raises as :func:`resolve` does."""
    chains = []
    for combination in expand(parse_chain(text)):
        parts = [_build(registry, "defenses", name, given) for name, given in combination]
        chains.append(Chain(tuple(part for part in parts if isinstance(part, Defense))))
    return chains


def select(registry: Registry, kind: str, texts: Sequence[str]) -> list[Component]:
    """The components of one axis of the matrix.

    Raises:
        UsageError: The axis is empty, or two of its specs are the same after defaults.
    """
    found = [(text, component) for text in texts for component in resolve(registry, kind, text)]
    _check_axis(kind, [(text, full_spec(component)) for text, component in found])
    return [component for _, component in found]


def select_chains(registry: Registry, texts: Sequence[str]) -> list[Chain]:
    """The defenses of the matrix; raises as :func:`select` does."""
    found = [(text, chain) for text in texts for chain in resolve_chain(registry, text)]
    _check_axis("defenses", [(text, full_spec(chain)) for text, chain in found])
    return [chain for _, chain in found]


def narrow(registry: Registry, suite: Suite, axis: str, texts: Sequence[str]) -> Suite:
    """The suite with only those parts that have some of these components, and there with these alone.

    Args:
        registry: Where components are found.
        suite: A suite with parts.
        axis: ``datasets`` or ``models``.
        texts: Specs of what is to be kept; it is the same component that counts, not how its spec is written.

    Raises:
        UsageError: A spec is wrong, or no part of the suite has its component; the message names what it has.
    """
    wanted = [short_spec(component) for component in select(registry, axis, texts)]
    parts, there = [], []
    for part in suite.parts:
        own = [short_spec(component) for component in select(registry, axis, getattr(part, axis))]
        there += own
        kept = tuple(spec for spec in own if spec in wanted)
        if kept:
            parts.append(dataclasses.replace(part, **{axis: kept}))
    for spec in wanted:
        if spec not in there:
            datasets = ", ".join(dict.fromkeys(dataset for part in suite.parts for dataset in part.datasets))
            known = f"it has: {', '.join(dict.fromkeys(there))}"
            what = f"dataset {spec!r}" if axis == "datasets" else f"{axis[:-1]} {spec!r} for {datasets}"
            raise UsageError(f"--{axis}: suite {suite.name!r} has no {what}; {known}")
    return dataclasses.replace(suite, parts=tuple(parts))


def _build(registry: Registry, kind: str, name: str, given: dict[str, str]) -> Component:
    registered = registry.get(kind, name)
    try:
        component = registered.component.from_text(given)
        _probe(component)
    except KeyboardInterrupt:
        raise
    except ParameterError as error:
        raise ParameterError(f"{kind[:-1]} {name!r}: {error}") from error
    except BaseException as error:
        origin = registered.plugin.provenance
        raise UsageError(f"{kind[:-1]} {name!r} of {origin} cannot be built: {describe(error)}") from error
    return component


def _probe(component: Component) -> None:
    """Does what plans do with components all the time, so that one that cannot stand it is named here."""
    hash(component)
    if component != copy.copy(component):
        raise TypeError("it does not equal its own copy; leave __eq__ to dataclass")


def _check_axis(kind: str, found: list[tuple[str, str]]) -> None:
    if not found:
        raise UsageError(f"no {kind} selected; give at least one, 'advbench list {kind}' shows what there is")
    seen: dict[str, str] = {}
    for text, spec in found:
        if spec in seen:
            raise UsageError(f"--{kind}: {seen[spec]!r} and {text!r} are the same after defaults ({spec}); remove one")
        seen[spec] = text
