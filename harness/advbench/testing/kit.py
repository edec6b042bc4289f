"""Components held to the contracts that the harness relies upon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from advbench.api import Attack, Component, Dataset, DataSources, Defense, LabelledImages, Model
from advbench.discovery.loading import discover
from advbench.discovery.registry import Registry
from advbench.errors import UsageError
from advbench.specs import resolve_one
from advbench.testing.attacks import attack_rules
from advbench.testing.datasets import dataset_rules
from advbench.testing.defenses import defense_rules
from advbench.testing.finding import Finding, Rule, examine
from advbench.testing.models import model_rules

__all__ = ["assert_conforms", "check", "resolve_all"]

_WITH_CONTRACT = (Attack, Defense, Model, Dataset)


def check(
    component: Component | str, *, registry: Registry | None = None, sources: DataSources | None = None
) -> list[Finding]:
    """Holds a component to its contract.

    Args:
        component: An attack, defense, model or dataset; or its spec. Where components of several kinds have its name
            and take its parameters, each of them is held to its contract, one after another.
        registry: Where a spec is looked up, and a dataset for a model is found; without one, what is installed.
        sources: Where datasets may look; without them, only what is bundled is at hand.

    Returns:
        A finding for each rule of the contract.

    Raises:
        UsageError: The spec names nothing, or a kind that has no contract to check.
    """
    registry = discover() if registry is None else registry
    sources = _nowhere() if sources is None else sources
    components = resolve_all(registry, component) if isinstance(component, str) else [component]
    return [finding for one in components for finding in examine(_rules(one, registry, sources))]


def assert_conforms(component: Component | str, **more: Any) -> None:
    """Raises AssertionError with every rule that a component breaks; a test in one line.

    Args:
        component: As for :func:`check`.
        **more: As for :func:`check`.
    """
    broken = [str(finding) for finding in check(component, **more) if finding.passed is False]
    name = component if isinstance(component, str) else component.name
    assert not broken, "\n".join([f"{name} breaks its contract:", *broken])


def _rules(component: Component, registry: Registry, sources: DataSources) -> Iterator[Rule]:
    if isinstance(component, Defense):
        return defense_rules(component)
    if isinstance(component, Attack):
        return attack_rules(component)
    if isinstance(component, Dataset):
        return dataset_rules(component, sources)
    if isinstance(component, Model):
        data, classes = _data_for(component, registry, sources)
        return model_rules(component, data, classes)
    raise UsageError(f"{component!r} is no attack, defense, model or dataset, and has no contract to check")


def resolve_all(registry: Registry, spec: str) -> list[Component]:
    """The components of a spec, of whatever kind that has a contract, in the order of the kinds.

    Raises:
        UsageError: Nothing that has a contract has that name, or none of that name takes these parameters.
    """
    components: list[Component] = []
    errors: list[UsageError] = []
    for registered in registry.find(spec.partition(":")[0]):
        try:
            components.append(resolve_one(registry, registered.kind, spec))
        except UsageError as error:  # noqa: PERF203  one a kind
            errors.append(error)
    checked: list[Component] = [component for component in components if isinstance(component, _WITH_CONTRACT)]
    if not components:
        raise errors[0]
    if not checked:
        _rules(components[0], registry, _nowhere())  # says that it has no contract
    return checked


def _data_for(model: Model, registry: Registry, sources: DataSources) -> tuple[LabelledImages | None, int | None]:
    """Images of a dataset that the model is for, the largest that is at hand."""
    found: list[tuple[LabelledImages, int]] = []
    if model.image_shape is None:
        return None, model.num_classes
    for registered in registry.all("datasets"):
        kind: Callable[[], Component] = registered.component
        if any(parameter.required for parameter in registered.component.parameters()):
            continue
        dataset = kind()
        assert isinstance(dataset, Dataset)
        fits = dataset.image_shape == model.image_shape and model.num_classes in (None, dataset.num_classes)
        if fits and dataset.location(sources) is not None:
            found.append((dataset.load(sources), dataset.num_classes))
    return max(found, key=lambda one: len(one[0]), default=(None, model.num_classes))


def _nowhere() -> DataSources:
    from pathlib import Path

    return DataSources(Path("/nonexistent"), download=False)
