"""The cells of one dataset and model, with the keys under which their results are stored."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from functools import cache, partial
from typing import Any

from advbench.api import Attack, Dataset, DataSources, Defense, Model
from advbench.contracts.access import lacking_access
from advbench.contracts.budgets import check_group_size
from advbench.evaluation.plan.behaviours import BehaviourIds, is_self_contained
from advbench.evaluation.plan.cells import NEEDS_NOTES, AttackTarget, Axes, Cell, Chunk, chunk_size, full, short
from advbench.evaluation.plan.compatibility import (
    Misfit,
    attack_kind,
    attempt,
    chain_obstacle,
    class_incompatibility,
    incompatibility,
    is_corruption,
    is_incompatible,
    obstacle,
    pair_incompatibility,
    shape_incompatibility,
    undefended_reason,
    view_obstacle,
)
from advbench.evaluation.plan.fits import Fits
from advbench.evaluation.plan.keys import KeyContext, attack_identity, cell_key_inputs, defense_identity
from advbench.evaluation.plan.samples import fit_form, fit_split, is_fitted, is_fitted_part
from advbench.evaluation.plan.threats import NO_ATTACKER, OBLIVIOUS, Threat
from advbench.specs import Chain
from advbench.store import digest_of

__all__ = ["build_cells"]


def build_cells(
    axes: Axes,
    dataset: Dataset,
    model: Model,
    ids: tuple[int, ...],
    *,
    sources: DataSources,
    device: str,
    behaviours: BehaviourIds | None = None,
) -> Iterator[Cell]:
    """Builds a cell for every combination of attack, threat, surrogate and defense on a dataset and model.

    Args:
        axes: The axes.
        dataset: One of its datasets.
        model: One of its models.
        ids: The samples.
        sources: Where the dataset may look, to compute its digest.
        device: The device that computes the cells.
        behaviours: Identifies the behaviour of components; None to leave it out of keys.
    """
    pair = _Pair(axes, dataset, model, ids)
    incompatible = attempt(lambda: {"skipped": pair_incompatibility(axes, dataset, model)})
    contexts = attempt(
        partial(_key_contexts, axes, dataset, model, ids, sources=sources, device=device, behaviours=behaviours)
    )
    if isinstance(incompatible, str):
        yield from pair.cells_without_keys(failed=incompatible)
    elif incompatible["skipped"]:
        yield from pair.cells_without_keys(**incompatible)
    elif isinstance(contexts, str):
        yield from pair.cells_without_keys(failed=contexts)
    else:
        yield from pair.cells(*contexts)


def _key_contexts(
    axes: Axes,
    dataset: Dataset,
    model: Model,
    ids: tuple[int, ...],
    *,
    sources: DataSources,
    device: str,
    behaviours: BehaviourIds | None,
) -> tuple[Mapping[Model, KeyContext], Fits]:
    """What the keys of a dataset share, for the model and for each surrogate that can classify it, and the fits."""
    dataset_digest = cache(lambda dataset: dataset.digest(sources))

    def context_of(model: Model, dataset: Dataset = dataset) -> KeyContext:
        context = KeyContext.of(dataset, dataset_digest(dataset), model, axes.seed, device)
        if behaviours is None or class_incompatibility(dataset, model):
            return context
        # A model that only gets images of another shape, through a defense, cannot be run on those of the dataset.
        if not shape_incompatibility(dataset, model) and not is_self_contained(model):
            behaviour_id = behaviours.id_of(model, context.model, dataset, context.dataset)
            context = context.with_behaviour(model, behaviour_id)
        for part in dict.fromkeys(part for chain in axes.defenses for part in chain.parts):
            result = attempt(partial(_defense_behaviour, part, dataset, context, behaviours))
            if not isinstance(result, str):  # its own cells report what it raised
                context = context.with_behaviour(part, result["id"])
        for attack in dict.fromkeys([*axes.attacks, *(fit_form(one) for one in axes.attacks if is_fitted(one))]):
            result = attempt(partial(_attack_behaviour, attack, dataset, behaviours))
            if not isinstance(result, str):
                context = context.with_behaviour(attack, result["id"])
        return context

    surrogates = [one for one in axes.surrogates if not incompatibility(dataset, one)]
    contexts = {one: context_of(one) for one in (model, *surrogates)}
    fits = Fits(dataset)
    fitted = _fitted_component(axes, dataset, model)
    if fitted:
        split = fit_split(axes, dataset, ids, fitted)
        same = full(split.dataset) == full(dataset)
        fits = Fits(dataset, split, contexts if same else {one: context_of(one, split.dataset) for one in contexts})
    return contexts, fits


def _fitted_component(axes: Axes, dataset: Dataset, model: Model) -> str:
    """What messages call the first attack or defense that is fitted to data; empty if none is."""
    for attack in () if incompatibility(dataset, model) else axes.attacks:
        if is_fitted(attack) and _can_attack(attack, dataset, model):
            return f"attack {short(attack)!r}"
    for chain in axes.defenses:
        part = next((part for part in chain.parts if is_fitted_part(part)), None)
        if part is not None and not chain_obstacle(chain, dataset, model):
            return f"defense {short(part)!r}"
    return ""


def _can_attack(attack: Attack, dataset: Dataset, model: Model) -> bool:
    """Whether an attack can attack a model on a dataset, and says so without raising an exception."""
    return isinstance(attempt(partial(attack_kind, attack, dataset, model)), dict)


def _defense_behaviour(
    part: Defense, dataset: Dataset, context: KeyContext, behaviours: BehaviourIds
) -> dict[str, str]:
    """The id of a defense's behaviour; empty if its behaviour is not observed."""
    if not behaviours.observes(part) or is_incompatible(part, dataset):
        return {"id": ""}
    return {"id": behaviours.id_of_defense(part, defense_identity(part), dataset, context.dataset)}


def _attack_behaviour(attack: Attack, dataset: Dataset, behaviours: BehaviourIds) -> dict[str, str]:
    """The same for an attack."""
    if not behaviours.observes(attack):
        return {"id": ""}
    return {"id": behaviours.id_of_attack(attack, attack_identity(attack), dataset)}


@dataclasses.dataclass(frozen=True)
class _Pair:
    """The cells of one dataset and model."""

    axes: Axes
    dataset: Dataset
    model: Model
    ids: tuple[int, ...]

    def cells_without_keys(self, *, skipped: str = "", failed: str = "") -> Iterator[Cell]:
        """Cells none of which can be run."""
        for attacked, defense in itertools.product(_under_threats(self.axes), self.axes.defenses):
            yield self._cell(*attacked, defense, skipped=skipped, failed=failed)

    def cells(self, contexts: Mapping[Model, KeyContext], fits: Fits) -> Iterator[Cell]:
        """Cells with their keys; skipped if a defense is incompatible, failed if a component raises an exception.

        Args:
            contexts: What keys share, by the model that is attacked: the model, or a surrogate.
            fits: What attacks are fitted to.
        """
        defenses = [self._prepared(contexts[self.model], fits, defense) for defense in self.axes.defenses]
        undefended = shape_incompatibility(self.dataset, self.model)
        for attack, threat, surrogate in _under_threats(self.axes):
            kind = attempt(partial(attack_kind, attack, self.dataset, surrogate or self.model))
            if isinstance(kind, Misfit):
                for defense in self.axes.defenses:
                    yield self._cell(attack, threat, surrogate, defense, skipped=kind.reason)
                continue
            unusable = obstacle(partial(self._unusable, attack, surrogate))
            chunks_of: dict[AttackTarget, Any] = {}
            for defense, incompatible, defense_kind, clean in defenses:
                unknown = undefended_reason(undefended, threat, attack)
                reason = incompatible or unusable or ({"skipped": unknown} if unknown else {})
                reason = reason or view_obstacle(attack, threat, defense)
                if reason:
                    yield self._cell(attack, threat, surrogate, defense, **reason)
                    continue
                if isinstance(defense_kind, str):
                    yield self._cell(attack, threat, surrogate, defense, failed=defense_kind)
                    continue
                target = self._target(threat, surrogate, defense)
                if target not in chunks_of:
                    context = contexts[target.model]
                    chunks_of[target] = attempt(partial(_chunks, context, fits, self.ids, attack, target))
                chunks = chunks_of[target]
                errors = [result for result in (kind, chunks, clean) if isinstance(result, str)]
                if errors:
                    yield self._cell(attack, threat, surrogate, defense, failed=errors[0])
                else:
                    facts = {**kind, **clean, **defense_kind, "key": _cell_key(chunks, clean["clean_key"], threat)}
                    yield self._cell(attack, threat, surrogate, defense, chunks=chunks, **facts)

    def _prepared(self, context: KeyContext, fits: Fits, defense: Chain) -> tuple[Chain, dict[str, str], Any, Any]:
        """A defense with why it cannot be used, its kind, and the attributes of cells about its clean predictions."""
        incompatible = chain_obstacle(defense, self.dataset, self.model)
        if incompatible:
            return defense, incompatible, "", ""
        return (
            defense,
            {},
            attempt(partial(_classifier_kind, self.model, defense)),
            attempt(partial(self._clean, context, fits, defense)),
        )

    def _target(self, threat: Threat, surrogate: Model | None, defense: Chain) -> AttackTarget:
        """What the images of a threat are crafted on; all threats that see the model share the undefended one."""
        settings: dict[str, Any] = {"precision": self.axes.precision, "max_queries": self.axes.max_queries}
        if surrogate is not None:
            return AttackTarget(surrogate, OBLIVIOUS.name, None, self.axes.gradient_draws(surrogate), **settings)
        if not threat.sees_defense or defense.identity:
            draws = 1 if threat == NO_ATTACKER else self.axes.gradient_draws(self.model)
            return AttackTarget(self.model, OBLIVIOUS.name, None, draws, **settings)
        return AttackTarget(self.model, threat.name, defense, self.axes.gradient_draws(self.model, defense), **settings)

    def _clean(self, context: KeyContext, fits: Fits, defense: Chain) -> dict[str, Any]:
        draws = self.axes.score_draws if defense.stochastic or self.model.stochastic else 1
        fitted = fits.of_defense(defense, self.model, context)
        inputs = context.clean(self.ids, defense, draws, fitted=fitted.keys)
        return {"clean_key_inputs": inputs, "clean_key": digest_of(inputs), "draws": draws, "defense_fits": fitted.fits}

    def _unusable(self, attack: Attack, surrogate: Model | None) -> str:
        """Why an attack cannot be used on the model, or on a surrogate for it, or ""."""
        if self.axes.max_queries is not None and attack.perturbation().notes:
            return f"attack {attack.name!r} cannot have a limit of queries: {NEEDS_NOTES}"
        if surrogate is None:
            return lacking_access(attack, self.model)
        return self._surrogate_incompatibility(surrogate) or lacking_access(attack, surrogate)

    def _surrogate_incompatibility(self, surrogate: Model) -> str:
        """Why images cannot be crafted on a surrogate, or ""."""
        if surrogate == self.model:
            return f"the surrogate {short(self.model)} is the model itself, which is the threat 'oblivious'"
        return incompatibility(self.dataset, surrogate)

    def _cell(self, attack: Attack, threat: Threat, surrogate: Model | None, defense: Chain, **rest: Any) -> Cell:
        several = surrogate is not None and len(self.axes.surrogates) > 1
        more = {"surrogate": surrogate, "names_surrogate": several, "ids": self.ids, **rest}
        return Cell(self.dataset, self.model, attack, threat, defense, self.axes.seed, **more)


def _under_threats(axes: Axes) -> Iterator[tuple[Attack, Threat, Model | None]]:
    """The attacks under all threats, with each surrogate; a corruption, which has no attacker, once."""
    for attack in axes.attacks:
        if is_corruption(attack):
            yield attack, NO_ATTACKER, None
        else:
            yield from ((attack, threat, surrogate) for threat, surrogate in axes.attackers)


def _classifier_kind(model: Model, defense: Chain) -> dict[str, bool]:
    """The attributes of a cell about its defended model."""
    return {"identity": defense.identity, "stochastic": defense.stochastic or model.stochastic}


def _cell_key(chunks: tuple[Chunk, ...], clean_key: str, threat: Threat) -> str:
    return digest_of(cell_key_inputs([chunk.key for chunk in chunks], clean_key, threat.name))


def _chunks(
    context: KeyContext, fits: Fits, ids: tuple[int, ...], attack: Attack, target: AttackTarget
) -> tuple[Chunk, ...]:
    target = target.seen_by(attack)
    artefact, fit = fits.of(attack, target, context)
    fitted = fits.of_defense(target.defense, target.model, context).keys
    chunks, size = [], chunk_size(check_group_size(attack))
    for start in range(0, len(ids), size):
        part = ids[start : start + size]
        aim = (attack, target.threat, target.defense, target.draws)
        settings: dict[str, Any] = {"precision": target.precision, "max_queries": target.max_queries}
        key_inputs = context.adversarial(part, *aim, **settings, artefact=artefact, fitted=fitted)
        chunks.append(Chunk(key_inputs, digest_of(key_inputs), part, target, artefact, fit))
    return tuple(chunks)
