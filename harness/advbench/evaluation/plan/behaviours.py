"""What a plan needs to know about the behaviour of components, which only running them shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from advbench.api import Attack, Component, Dataset, Defense, Model

__all__ = ["BehaviourIds", "is_self_contained"]


class BehaviourIds(Protocol):
    """Identifies how models, defenses and attacks behave, for their keys.

    Running a component needs torch and a store, which a plan does without:
    :class:`~advbench.evaluation.work.behaviour.stored.StoredBehaviours` implements this.
    """

    def id_of(
        self,
        component: Model | Defense | Attack,
        identity: Mapping[str, Any],
        dataset: Dataset,
        dataset_identity: Mapping[str, Any],
    ) -> str:
        """The id of a component's behaviour on a dataset.

        Args:
            component: A model, defense or attack.
            identity: What keys hold of the component besides its behaviour.
            dataset: The dataset whose images it is run on.
            dataset_identity: What keys hold of the dataset.
        """

    def id_of_defense(
        self,
        defense: Defense,
        identity: Mapping[str, Any],
        dataset: Dataset,
        dataset_identity: Mapping[str, Any],
    ) -> str:
        """The same for a defense; empty if its behaviour cannot be observed."""

    def id_of_attack(self, attack: Attack, identity: Mapping[str, Any], dataset: Dataset) -> str:
        """The same for an attack on synthetic images of the dataset's shape; empty if it cannot be observed."""

    def observes(self, component: Defense | Attack) -> bool:
        """Whether the behaviour of a defense or attack is a part of its keys."""


def is_self_contained(component: Component) -> bool:
    """Whether a component's code, parameters and weights determine its outputs, so that its behaviour needs no id.

    A class that a third party derives from a self-contained one does not inherit this.
    """
    owner = next((base for base in type(component).__mro__ if "self_contained" in vars(base)), None)
    same_package = owner is not None and _top_package(owner) == _top_package(type(component))
    return same_package and component.self_contained is True


def _top_package(component: type) -> str:
    return component.__module__.partition(".")[0]
