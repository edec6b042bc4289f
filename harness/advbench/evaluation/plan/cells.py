"""The parts of a plan: axes, cells, and the chunks of adversarial images on which cells are scored."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any, TypeVar

from advbench.api import Attack, Budget, Component, Dataset, LpBall, Model, Norm, PerturbationSet
from advbench.contracts.budgets import check_view
from advbench.evaluation.plan.keys import cell_key_inputs
from advbench.evaluation.plan.threats import Threat
from advbench.specs import FIT_SAMPLES, FLOAT32, Alias, Chain, full_spec, short_spec

__all__ = [
    "CHUNK",
    "NEEDS_NOTES",
    "AttackTarget",
    "Axes",
    "Cell",
    "Chunk",
    "DefenseFit",
    "Fit",
    "chunk_size",
    "display_name",
    "full",
    "short",
    "without_certificates",
]

NEEDS_NOTES = "its images alone do not tell whether they are in its perturbation set"
"""Why some attacks cannot have a limit of queries."""

C = TypeVar("C", bound=Component)

CHUNK = 500
"""How many samples one stored file of adversarial images holds: this bounds the memory, and the work that is lost if a
run is killed."""


def chunk_size(group_size: int | None) -> int:
    """How many samples a file of adversarial images holds: whole groups if the attack has groups."""
    return CHUNK if group_size is None else max(1, CHUNK // group_size) * group_size


@dataclasses.dataclass(frozen=True)
class Axes:
    """The axes of a matrix, or of one part of it, resolved and checked."""

    datasets: tuple[Dataset, ...]
    models: tuple[Model, ...]
    attacks: tuple[Attack, ...]
    defenses: tuple[Chain, ...]
    threats: tuple[Threat, ...]
    limit: int | None
    seed: int
    eot: int = 10
    score_draws: int = 1
    certify: bool = False
    radii: tuple[float, ...] = ()
    max_queries: int | None = None
    surrogates: tuple[Model, ...] = ()
    precision: str = FLOAT32
    aliases: tuple[Alias, ...] = ()
    fit_samples: int = FIT_SAMPLES
    fit_data: Dataset | None = None

    @property
    def attackers(self) -> tuple[tuple[Threat, Model | None], ...]:
        """The threats; the transfer threat once with each surrogate, the others with None."""
        return tuple(
            (threat, surrogate)
            for threat in self.threats
            for surrogate in ((None,) if threat.sees_model else self.surrogates)
        )

    def gradient_draws(self, *parts: Model | Chain) -> int:
        """How often a classifier with these parts is drawn for a gradient: once if none of them is stochastic."""
        return self.eot if any(part.stochastic for part in parts) else 1


@dataclasses.dataclass(frozen=True)
class AttackTarget:
    """The classifier on which adversarial images are crafted.

    Attributes:
        model: The attacked model: a surrogate under the transfer threat.
        threat: The threat as far as the images depend on it: ``adaptive``, or else ``oblivious``.
        defense: The defense that the attack sees, or None.
        draws: How often a stochastic defense or model is drawn for a gradient.
        precision: The network's arithmetic while it is attacked.
        max_queries: The largest number of queries of a sample that count; None for any.
    """

    model: Model
    threat: str
    defense: Chain | None = None
    draws: int = 1
    precision: str = FLOAT32
    max_queries: int | None = None

    def seen_by(self, attack: Attack) -> AttackTarget:
        """The target with the attack's own number of draws, if what is attacked is stochastic.

        Raises:
            ContractError: The attack's view is not valid.
        """
        draws = check_view(attack).draws
        stochastic = self.model.stochastic or (self.defense is not None and self.defense.stochastic)
        return self if draws is None or not stochastic else dataclasses.replace(self, draws=draws)


@dataclasses.dataclass(frozen=True)
class Fit:
    """An attack that is fitted to data on its target.

    Attributes:
        key_inputs: What the key of the artefact is the digest of.
        key: That key.
        attack: The attack, with the parameters that do not shape its artefact at their defaults.
        dataset: The dataset to which it is fitted.
        ids: The samples of it.
    """

    key_inputs: dict[str, Any]
    key: str
    attack: Attack
    dataset: Dataset
    ids: tuple[int, ...] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class DefenseFit:
    """A part of a defense that is fitted to data in its place in front of a model.

    Attributes:
        key_inputs: What the key of the artefact is the digest of.
        key: That key.
        model: The model.
        defense: The whole chain.
        part: The index of the part.
        dataset: The dataset to which it is fitted.
        ids: The samples of it.
    """

    key_inputs: dict[str, Any]
    key: str
    model: Model
    defense: Chain
    part: int
    dataset: Dataset
    ids: tuple[int, ...] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Adversarial images of one attack on some of the samples.

    Attributes:
        key_inputs: What the key is the digest of.
        key: The key of the images in the store.
        ids: The samples.
        target: What is attacked.
        artefact: The key of what the attack has fitted, or the digest of the file that it takes this from; empty if it
            fits nothing.
        fit: The fit; None if there is none, or if its artefact comes from a file.
    """

    key_inputs: dict[str, Any]
    key: str
    ids: tuple[int, ...]
    target: AttackTarget
    artefact: str = ""
    fit: Fit | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One (dataset, model, attack, threat, defense, surrogate): the unit of result.

    Attributes:
        surrogate: The model on which the images are crafted under the transfer threat; None under other threats.
        names_surrogate: Whether displays name the surrogate: it is one of several in the run.
        skipped: Why it cannot be run, such as incompatible shapes; empty otherwise.
        failed: The exception of a component while its key was computed; empty otherwise. If both are empty, the
            following attributes are set.
        budget: The attack's budget, or None for a minimal attack or another perturbation set.
        perturbation: The attack's perturbation set.
        norm: The norm of the budget, or the norm that a minimal attack minimises; None if it names none.
        group_size: The attack's group size; see :attr:`advbench.api.Attack.group_size`.
        key: The key of its result in the store.
        ids: Its samples.
        chunks: The adversarial images on which it is scored.
        clean_key_inputs: The key inputs of the defended model's predictions on clean images.
        clean_key: Their key.
        defense_fits: What the parts of the defense are fitted to, each after those that it needs.
        draws: How often a stochastic defense or model is drawn for the score.
        identity: Whether the defense leaves every image as it is.
        stochastic: Whether the defense or the model is stochastic.
        aliases: The aliases of the run's components.
    """

    dataset: Dataset
    model: Model
    attack: Attack
    threat: Threat
    defense: Chain
    seed: int
    surrogate: Model | None = None
    names_surrogate: bool = False
    skipped: str = ""
    failed: str = ""
    budget: Budget | None = None
    perturbation: PerturbationSet | None = None
    norm: Norm | None = None
    group_size: int | None = None
    key: str = ""
    ids: tuple[int, ...] = dataclasses.field(default=(), repr=False)
    chunks: tuple[Chunk, ...] = dataclasses.field(default=(), repr=False)
    clean_key_inputs: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    clean_key: str = ""
    defense_fits: tuple[DefenseFit, ...] = dataclasses.field(default=(), repr=False)
    draws: int = 1
    identity: bool = False
    stochastic: bool = False
    aliases: tuple[Alias, ...] = dataclasses.field(default=(), repr=False)

    @property
    def key_inputs(self) -> dict[str, Any]:
        """What the key is the digest of."""
        return cell_key_inputs([chunk.key for chunk in self.chunks], self.clean_key, self.threat.name)

    @property
    def minimal(self) -> bool:
        """Whether its attack is minimal."""
        return isinstance(self.perturbation, LpBall) and self.perturbation.eps is None

    def label(self) -> str:
        """Its coordinates for display, without parameters at their defaults; the surrogate if it is one of several."""
        names = self.short_names()
        return f"{names['dataset']} {names['model']} {names['attack']} {self.threat_label()} {names['defense']}"

    def threat_label(self) -> str:
        """Its threat for display, with the surrogate if it is one of several."""
        if self.surrogate is None or not self.names_surrogate:
            return self.threat.name
        return f"{self.threat.name} on {display_name(self.surrogate, self.aliases)}"

    def short_names(self) -> dict[str, str]:
        """Its components for display, without parameters at their defaults; a component with an alias by its alias.

        The surrogate is among them if it is one of several.
        """
        components = {"dataset": self.dataset, "model": self.model, "attack": self.attack, "defense": self.defense}
        names = {axis: short(component) for axis, component in components.items()}
        names |= {axis: name for axis, spec, name in self.aliases if spec == full(components[axis])}
        if self.surrogate is not None and self.names_surrogate:
            names["surrogate"] = display_name(self.surrogate, self.aliases)
        return names

    @property
    def coordinates(self) -> tuple[str, ...]:
        """The full specs of its six coordinates; no other cell of the run has the same. No surrogate is empty."""
        return (*self.specs().values(), "" if self.surrogate is None else full(self.surrogate))

    def named_surrogate(self) -> dict[str, str]:
        """The full spec of the surrogate as ``surrogate`` if it is one of several in the run; otherwise empty."""
        return {"surrogate": full(self.surrogate)} if self.surrogate is not None and self.names_surrogate else {}

    def specs(self) -> dict[str, str]:
        """The full specs of its coordinates without the surrogate, as in records."""
        return {
            "dataset": full(self.dataset),
            "model": full(self.model),
            "attack": full(self.attack),
            "threat": self.threat.name,
            "defense": full(self.defense),
        }

    def stored_specs(self) -> dict[str, str]:
        """The specs of :meth:`specs` as in its record: parameters of certificates have their defaults.

        Cells that differ in these alone share their results.
        """
        return {**self.specs(), "model": _stored_spec(self.model), "defense": _stored_spec(self.defense)}


@functools.cache
def _stored_spec(component: Model | Chain) -> str:
    if isinstance(component, Chain):
        return full(Chain(tuple(map(without_certificates, component.parts))))
    return full(without_certificates(component))


def without_certificates(component: C) -> C:
    """A component with the defaults of the parameters on which certificates alone depend."""
    staged = [one for one in component.parameters() if one.stage == "certify" and not one.required]
    return (
        component.from_values({**component.values(), **{one.name: one.default for one in staged}})
        if staged
        else component
    )


def display_name(model: Model, aliases: Iterable[Alias]) -> str:
    """A model for display: its alias, or its short spec."""
    names = (alias.name for alias in aliases if alias.axis == "model" and alias.spec == full(model))
    return next(names, short(model))


full = functools.lru_cache(maxsize=None)(full_spec)
short = functools.lru_cache(maxsize=None)(short_spec)
"""The full and the short spec of a component or chain, cached."""
