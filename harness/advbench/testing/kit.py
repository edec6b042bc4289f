"""Checks components against the contracts of their kinds."""

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

_CHECKED_KINDS = (Attack, Defense, Model, Dataset)


def check(
    component: Component | str, *, registry: Registry | None = None, sources: DataSources | None = None
) -> list[Finding]:
    """Checks a component against its contract.

    Args:
        component: An attack, defense, model or dataset, or its spec. If components of several kinds match the spec, all
            of them are checked.
        registry: Registry to resolve specs and to find a dataset for a model; by default, that of installed plugins.
        sources: Data sources of datasets; by default, bundled data only.

    Returns:
        A finding for each rule of the contract.

    Raises:
        UsageError: The spec matches nothing, or a kind without a contract.
    """
    registry = discover() if registry is None else registry
    sources = _no_sources() if sources is None else sources
    components = resolve_all(registry, component) if isinstance(component, str) else [component]
    return [finding for each in components for finding in examine(_rules(each, registry, sources))]


def assert_conforms(component: Component | str, **options: Any) -> None:
    """Raises AssertionError with every rule that a component violates; a test in one line.

    Args:
        component: As for :func:`check`.
        **options: As for :func:`check`.
    """
    broken = [str(finding) for finding in check(component, **options) if finding.passed is False]
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
        datasets, classes = _data_for(component, registry, sources)
        return model_rules(component, datasets, classes)
    raise UsageError(f"{component!r} is no attack, defense, model or dataset; it has no contract to check")


def resolve_all(registry: Registry, spec: str) -> list[Component]:
    """Returns the components that match a spec, of all kinds with a contract, in the order of the kinds.

    Raises:
        UsageError: There is no component with a contract of this name, or none accepts these parameters.
    """
    components: list[Component] = []
    errors: list[UsageError] = []
    for registered in registry.find(spec.partition(":")[0]):
        try:
            components.append(resolve_one(registry, registered.kind, spec))
        except UsageError as error:  # noqa: PERF203  one per kind
            errors.append(error)
    checkable: list[Component] = [component for component in components if isinstance(component, _CHECKED_KINDS)]
    if not components:
        raise errors[0]
    if not checkable:
        _rules(components[0], registry, _no_sources())  # raises the error for a kind without a contract
    return checkable


def _data_for(model: Model, registry: Registry, sources: DataSources) -> tuple[list[LabelledImages], int | None]:
    """Returns the images of the available datasets that fit the model, the largest first, and their number of classes.

    For a model that does not say its number of classes, it is that of the largest dataset.
    """
    candidates: list[tuple[LabelledImages, int]] = []
    if model.image_shape is None:
        return [], model.num_classes
    for registered in registry.all("datasets"):
        kind: Callable[[], Component] = registered.component
        if any(parameter.required for parameter in registered.component.parameters()):
            continue
        dataset = kind()
        assert isinstance(dataset, Dataset)
        compatible = dataset.image_shape == model.image_shape and model.num_classes in (None, dataset.num_classes)
        if compatible and dataset.location(sources) is not None:
            candidates.append((dataset.load(sources), dataset.num_classes))
    candidates.sort(key=lambda candidate: -len(candidate[0]))
    classes = candidates[0][1] if candidates else model.num_classes
    return [data for data, count in candidates if count == classes], classes


def _no_sources() -> DataSources:
    from pathlib import Path

    return DataSources(Path("/nonexistent"), download=False)
