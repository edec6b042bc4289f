"""Building components from specs, with all checks before anything runs."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from advbench.api.component import Component
from advbench.api.defense import Defense
from advbench.api.detector import Detector
from advbench.api.spec_text import split_specs
from advbench.errors import ParameterError, SpecError, UsageError, describe
from advbench.option_names import option
from advbench.specs.aliases import Alias, find_aliases, split_alias
from advbench.specs.chain import Chain, transforms_images
from advbench.specs.formatting import full_spec, short_spec
from advbench.specs.grammar import MOST_SPECS, expand, parse_chain, sweep_size
from advbench.specs.suite import Suite

if TYPE_CHECKING:
    from advbench.discovery.registry import Registry

__all__ = ["narrow", "resolve", "resolve_chain", "resolve_one", "select", "select_aliases", "select_chains"]


def resolve(registry: Registry, kind: str, text: str) -> list[Component]:
    """Builds the components of one spec; several if it has a sweep.

    Args:
        registry: The registered components.
        kind: The kind of component, such as ``attacks``.
        text: The spec.

    Raises:
        SpecError: The text is malformed, or a chain.
        UnknownNameError: No component of this kind has this name.
        ParameterError: A parameter is unknown or its value is not allowed.
    """
    terms = parse_chain(text)
    if len(terms) > 1:
        if kind == "defenses":
            raise SpecError(f"{text!r}: a chain cannot be used here; give single defenses")
        raise SpecError(f"{text!r}: only defenses can be chained with '+'")
    return [_build(registry, kind, *combination[0]) for combination in expand(terms)]


def resolve_one(registry: Registry, kind: str, text: str) -> Component:
    """Builds the component of a spec without a sweep; takes and raises as :func:`resolve`."""
    components = resolve(registry, kind, text)
    if len(components) > 1:
        raise SpecError(f"{text!r}: a sweep cannot be used here")
    return components[0]


def resolve_chain(registry: Registry, text: str) -> list[Chain]:
    """Builds the chains of defenses of one spec; raises as :func:`resolve`."""
    chains = []
    for combination in expand(parse_chain(text)):
        parts = [_build(registry, "defenses", name, given) for name, given in combination]
        chain = Chain(tuple(part for part in parts if isinstance(part, Defense)))
        _check_detectors(text, chain)
        chains.append(chain)
    return chains


def _check_detectors(text: str, chain: Chain) -> None:
    """Checks that a chain has at most one detector, with parts that transform images alone before it."""
    detectors = [index for index, part in enumerate(chain.parts) if isinstance(part, Detector)]
    if len(detectors) > 1:
        one, other = (chain.parts[index].name for index in detectors[:2])
        raise SpecError(f"defense {text!r}: {one!r} and {other!r} both reject images; a chain has at most one detector")
    for part in chain.parts[: detectors[0]] if detectors else ():
        if not transforms_images(part):
            raise SpecError(
                f"defense {text!r}: {part.name!r} classifies images, so the detector "
                f"{chain.parts[detectors[0]].name!r} cannot stand behind it; put defenses that transform images alone "
                "before a detector"
            )


def select(registry: Registry, kind: str, texts: Sequence[str], *, named: str = "") -> list[Component]:
    """Builds the components of one axis of the matrix; its specs may have aliases.

    Args:
        registry: The registered components.
        kind: The kind of component, such as ``models``.
        texts: The specs.
        named: What errors call the axis, if not by its kind.

    Raises:
        UsageError: The axis is empty, or two of its specs are the same after defaults.
    """
    _check_size(named or kind, [split_alias(text)[1] for text in texts])
    selected = [(text, component) for text in texts for component in resolve(registry, kind, split_alias(text)[1])]
    _check_axis(kind, [(text, full_spec(component)) for text, component in selected], named)
    return [component for _, component in selected]


def select_chains(registry: Registry, texts: Sequence[str]) -> list[Chain]:
    """Builds the defenses of the matrix; raises as :func:`select`."""
    _check_size("defenses", [split_alias(text)[1] for text in texts])
    selected = [(text, chain) for text in texts for chain in resolve_chain(registry, split_alias(text)[1])]
    _check_axis("defenses", [(text, full_spec(chain)) for text, chain in selected])
    return [chain for _, chain in selected]


def select_aliases(registry: Registry, kind: str, texts: Sequence[str]) -> tuple[Alias, ...]:
    """The aliases of one axis of the matrix.

    Raises:
        UsageError: As :func:`select` and :func:`find_aliases`; or an alias is the name of another registered component.
    """
    if not any(split_alias(text)[0] for text in texts):
        return ()
    selected: list[tuple[str, Component | Chain]] = []
    for text in texts:
        spec = split_alias(text)[1]
        components = resolve_chain(registry, spec) if kind == "defenses" else resolve(registry, kind, spec)
        selected += [(text, component) for component in components]
    aliases = find_aliases(kind, selected)
    for alias in aliases:
        _check_not_registered(registry, kind, alias)
    return aliases


def narrow(registry: Registry, suite: Suite, axis: str, texts: Sequence[str]) -> Suite:
    """Restricts a suite to some of its datasets or models. Parts without any of them are dropped.

    Args:
        registry: The registered components.
        suite: A suite with parts.
        axis: ``datasets`` or ``models``.
        texts: Specs of the components to keep. They may be written differently from the specs in the suite.

    Raises:
        UsageError: A spec is invalid, or no part of the suite has the component; the message lists those it has.
    """
    select(registry, axis, texts)
    wanted = _aliases_by_spec(registry, axis, texts)
    parts, available = [], []
    for part in suite.parts:
        own = _aliases_by_spec(registry, axis, getattr(part, axis))
        available += list(own)
        aliases = {spec: wanted[spec] or alias for spec, alias in own.items() if spec in wanted}
        kept = tuple(f"{alias}={spec}" if alias else spec for spec, alias in aliases.items())
        if kept:
            replaced: dict[str, Any] = {axis: kept}
            parts.append(dataclasses.replace(part, **replaced))
    for spec in wanted:
        if spec not in available:
            datasets = ", ".join(dict.fromkeys(dataset for part in suite.parts for dataset in part.datasets))
            known = f"it has: {', '.join(dict.fromkeys(available))}"
            what = f"dataset {spec!r}" if axis == "datasets" else f"{axis[:-1]} {spec!r} for {datasets}"
            raise UsageError(f"{option(axis)}: suite {suite.name!r} has no {what}; {known}")
    return dataclasses.replace(suite, parts=tuple(parts))


def _aliases_by_spec(registry: Registry, kind: str, texts: Sequence[str]) -> dict[str, str]:
    """The short specs of components, each with its alias or an empty text."""
    return {
        short_spec(component): alias
        for alias, spec in map(split_alias, texts)
        for component in resolve(registry, kind, spec)
    }


def _check_not_registered(registry: Registry, kind: str, alias: Alias) -> None:
    """Raises UsageError if readers would take an alias for another component."""
    if [term.name for term in parse_chain(alias.spec)] == [alias.name]:
        return  # a component may be called by its own name, without its parameters
    if any(registered.component.name == alias.name for registered in registry.all(kind)):
        raise UsageError(f"{kind}: {alias.name!r} is the name of another {kind[:-1]}; use another alias")


def _build(registry: Registry, kind: str, name: str, given: dict[str, str]) -> Component:
    registered = registry.get(kind, name)
    try:
        component = registered.component.from_text(_with_components(registry, registered.component, given))
        _check_usable(component)
    except KeyboardInterrupt:
        raise
    except ParameterError as error:
        raise ParameterError(f"{kind[:-1]} {name!r}: {error}") from error
    except BaseException as error:
        origin = registered.plugin.provenance
        raise UsageError(f"{kind[:-1]} {name!r} of {origin} cannot be built: {describe(error)}") from error
    return component


def _with_components(registry: Registry, component: type[Component], given: dict[str, str]) -> dict[str, str]:
    """The parameters as given, with the components themselves in those that take components.

    Raises:
        ParameterError: A spec in a parameter is wrong; the message names the parameter.
    """
    kinds = {parameter.name: parameter.kind for parameter in component.parameters(given) if parameter.kind}
    built: dict[str, Any] = dict(given)
    key = ""
    try:
        for key in kinds.keys() & given.keys():
            built[key] = tuple(resolve_one(registry, kinds[key], text) for text in split_specs(given[key]))
    except UsageError as error:
        raise ParameterError(f"{key}: {error}") from error
    return built


def _check_usable(component: Component) -> None:
    """Hashes and compares a component, as plans do, so that one that fails is reported here."""
    hash(component)
    if component != copy.copy(component):
        raise TypeError("it does not equal its own copy; do not override the __eq__ of dataclass")


def _check_size(kind: str, texts: Sequence[str]) -> None:
    """Counts the specs that the sweeps of an axis stand for before any is expanded."""
    count = sum(sweep_size(parse_chain(text)) for text in texts)
    if count > MOST_SPECS:
        raise UsageError(f"{kind}: {count:,} specs, sweeps included, are more than {MOST_SPECS:,}; give fewer values")


def _check_axis(kind: str, selected: list[tuple[str, str]], named: str = "") -> None:
    if not selected:
        raise UsageError(f"no {kind} selected; give at least one ('advbench list {kind}' lists them)")
    seen: dict[str, str] = {}
    for text, spec in selected:
        if spec in seen:
            raise UsageError(
                f"{named or kind}: {seen[spec]!r} and {text!r} are the same after defaults ({spec}); remove one"
            )
        seen[spec] = text
