"""The cells of one dataset and model, with the keys under which their results are stored."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

from advbench.api import Attack, ContractError, Dataset, DataSources, Defense, Model
from advbench.api.goal import UNTARGETED, goal_of
from advbench.contracts.access import lacking_access
from advbench.contracts.budgets import check_budget, check_group_size, check_norm, check_perturbation
from advbench.errors import UsageError, describe
from advbench.evaluation.plan.behaviours import BehaviourIds, is_self_contained
from advbench.evaluation.plan.cells import NEEDS_NOTES, AttackTarget, Axes, Cell, Chunk, chunk_size, full, short
from advbench.evaluation.plan.fits import Fits, fitted_keys_of
from advbench.evaluation.plan.keys import KeyContext, attack_identity, cell_key_inputs, defense_identity
from advbench.evaluation.plan.samples import fit_form, fit_split, is_fitted, is_fitted_part
from advbench.evaluation.plan.threats import NO_ATTACKER, OBLIVIOUS, Threat, view_obstacle, with_view
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
    """Builds a cell for every combination of attack, threat and defense on a dataset and model.

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
    incompatible = _attempt(lambda: {"skipped": _pair_incompatibility(axes, dataset, model)})
    contexts = _attempt(
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
) -> tuple[KeyContext, KeyContext | None, Fits]:
    """What the keys of a dataset and model share, the same for the surrogate if there is one, and the fits."""
    dataset_digest = cache(lambda dataset: dataset.digest(sources))

    def context_of(model: Model, dataset: Dataset = dataset) -> KeyContext:
        context = KeyContext.of(dataset, dataset_digest(dataset), model, axes.seed, device)
        if behaviours is None or _class_incompatibility(dataset, model):
            return context
        # A model that only gets images of another shape, through a defense, cannot be run on those of the dataset.
        if not _shape_incompatibility(dataset, model) and not is_self_contained(model):
            behaviour_id = behaviours.id_of(model, context.model, dataset, context.dataset)
            context = context.with_behaviour(model, behaviour_id)
        for part in dict.fromkeys(part for chain in axes.defenses for part in chain.parts):
            result = _attempt(partial(_defense_behaviour, part, dataset, context, behaviours))
            if not isinstance(result, str):  # its own cells report what it raised
                context = context.with_behaviour(part, result["id"])
        for attack in dict.fromkeys([*axes.attacks, *(fit_form(one) for one in axes.attacks if is_fitted(one))]):
            result = _attempt(partial(_attack_behaviour, attack, dataset, behaviours))
            if not isinstance(result, str):
                context = context.with_behaviour(attack, result["id"])
        return context

    contexts = {one: context_of(one) for one in (model, axes.surrogate) if one is not None}
    fits = Fits(dataset)
    fitted = _fitted_component(axes, dataset, model)
    if fitted:
        split = fit_split(axes, dataset, ids, fitted)
        same = full(split.dataset) == full(dataset)
        fits = Fits(dataset, split, contexts if same else {one: context_of(one, split.dataset) for one in contexts})
    return contexts[model], None if axes.surrogate is None else contexts[axes.surrogate], fits


def _fitted_component(axes: Axes, dataset: Dataset, model: Model) -> str:
    """What messages call the first attack or defense that is fitted to data; empty if none is."""
    for attack in () if _incompatibility(dataset, model) else axes.attacks:
        if is_fitted(attack) and _can_attack(attack, dataset):
            return f"attack {short(attack)!r}"
    for chain in axes.defenses:
        part = next((part for part in chain.parts if is_fitted_part(part)), None)
        if part is not None and not _chain_obstacle(chain, dataset, model):
            return f"defense {short(part)!r}"
    return ""


def _can_attack(attack: Attack, dataset: Dataset) -> bool:
    """Whether an attack can attack a dataset, and says so without raising an exception."""
    return isinstance(_attempt(partial(_attack_kind, attack, dataset)), dict)


def _defense_behaviour(
    part: Defense, dataset: Dataset, context: KeyContext, behaviours: BehaviourIds
) -> dict[str, str]:
    """The id of a defense's behaviour; empty if its behaviour is not observed."""
    if not behaviours.observes(part) or _is_incompatible(part, dataset):
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
        for (attack, threat), defense in itertools.product(_under_threats(self.axes), self.axes.defenses):
            yield self._cell(attack, threat, defense, skipped=skipped, failed=failed)

    def cells(self, context: KeyContext, surrogate_context: KeyContext | None, fits: Fits) -> Iterator[Cell]:
        """Cells with their keys; skipped if a defense is incompatible, failed if a component raises an exception.

        Args:
            context: What all keys share.
            surrogate_context: The same for images crafted on the surrogate, if there is one.
            fits: What attacks are fitted to.
        """
        defenses = [self._prepared(context, fits, defense) for defense in self.axes.defenses]
        undefended = _shape_incompatibility(self.dataset, self.model)
        for attack, threat in _under_threats(self.axes):
            kind = _attempt(partial(_attack_kind, attack, self.dataset))
            if isinstance(kind, _Misfit):
                for defense in self.axes.defenses:
                    yield self._cell(attack, threat, defense, skipped=kind.reason)
                continue
            unusable = _obstacle(partial(self._unusable, attack, threat))
            craft_context = context if threat.sees_model or surrogate_context is None else surrogate_context
            chunks_of: dict[AttackTarget, Any] = {}
            for defense, incompatible, defense_kind, clean in defenses:
                unknown = _undefended_reason(undefended, threat, attack)
                reason = incompatible or unusable or ({"skipped": unknown} if unknown else {})
                reason = reason or view_obstacle(attack, threat, defense)
                if reason:
                    yield self._cell(attack, threat, defense, **reason)
                    continue
                if isinstance(defense_kind, str):
                    yield self._cell(attack, threat, defense, failed=defense_kind)
                    continue
                target = self._target(threat, defense)
                if target not in chunks_of:
                    chunks_of[target] = _attempt(partial(_chunks, craft_context, fits, self.ids, attack, target))
                chunks = chunks_of[target]
                errors = [result for result in (kind, chunks, clean) if isinstance(result, str)]
                if errors:
                    yield self._cell(attack, threat, defense, failed=errors[0])
                else:
                    key = _cell_key(chunks, clean["clean_key"], threat)
                    yield self._cell(attack, threat, defense, key=key, chunks=chunks, **kind, **clean, **defense_kind)

    def _prepared(self, context: KeyContext, fits: Fits, defense: Chain) -> tuple[Chain, dict[str, str], Any, Any]:
        """A defense with why it cannot be used, its kind, and the attributes of cells about its clean predictions."""
        incompatible = _chain_obstacle(defense, self.dataset, self.model)
        if incompatible:
            return defense, incompatible, "", ""
        return (
            defense,
            {},
            _attempt(partial(_defense_kind, defense)),
            _attempt(partial(self._clean, context, fits, defense)),
        )

    def _target(self, threat: Threat, defense: Chain) -> AttackTarget:
        """What the images of a threat are crafted on; all threats that see the model share the undefended one."""
        settings: dict[str, Any] = {"precision": self.axes.precision, "max_queries": self.axes.max_queries}
        if not threat.sees_model:
            assert self.axes.surrogate is not None
            return AttackTarget(self.axes.surrogate, OBLIVIOUS.name, **settings)
        if not threat.sees_defense or defense.identity:
            return AttackTarget(self.model, OBLIVIOUS.name, **settings)
        draws = self.axes.eot if defense.stochastic else 1
        return AttackTarget(self.model, threat.name, defense, draws, **settings)

    def _clean(self, context: KeyContext, fits: Fits, defense: Chain) -> dict[str, Any]:
        draws = self.axes.score_draws if defense.stochastic else 1
        fitted = fits.of_defense(defense, self.model)
        inputs = context.clean(self.ids, defense, draws, fitted=fitted_keys_of(defense, fitted))
        return {"clean_key_inputs": inputs, "clean_key": digest_of(inputs), "draws": draws, "defense_fits": fitted}

    def _unusable(self, attack: Attack, threat: Threat) -> str:
        """Why an attack cannot be used under a threat, or ""."""
        if self.axes.max_queries is not None and attack.perturbation().notes:
            return f"attack {attack.name!r} cannot have a limit of queries: {NEEDS_NOTES}"
        if threat.sees_model:
            return lacking_access(attack, self.model)
        assert self.axes.surrogate is not None
        return self._surrogate_incompatibility() or lacking_access(attack, self.axes.surrogate)

    def _surrogate_incompatibility(self) -> str:
        """Why images cannot be crafted on the surrogate, or ""."""
        assert self.axes.surrogate is not None
        if self.axes.surrogate == self.model:
            return f"the surrogate {short(self.model)} is the model itself, which is the threat 'oblivious'"
        return _incompatibility(self.dataset, self.axes.surrogate)

    def _cell(self, attack: Attack, threat: Threat, defense: Chain, **rest: Any) -> Cell:
        return Cell(self.dataset, self.model, attack, threat, defense, self.axes.seed, ids=self.ids, **rest)


def _under_threats(axes: Axes) -> Iterator[tuple[Attack, Threat]]:
    """The attacks under all threats; a corruption, which has no attacker, once."""
    for attack in axes.attacks:
        for threat in (NO_ATTACKER,) if _is_corruption(attack) else axes.threats:
            yield attack, threat


def _is_corruption(attack: Attack) -> bool:
    """Whether an attack is a corruption; False if it fails to say, which its cells report."""
    try:
        return attack.perturbation().kind == "corruption"
    except (Exception, SystemExit):
        return False


def _defense_kind(defense: Chain) -> dict[str, bool]:
    """The attributes of a cell about its defense."""
    return {"identity": defense.identity, "stochastic": defense.stochastic}


@dataclasses.dataclass(frozen=True)
class _Misfit:
    """Why an attack cannot attack a dataset."""

    reason: str


def _attack_kind(attack: Attack, dataset: Dataset) -> dict[str, Any] | _Misfit:
    """The attributes of a cell about its attack, or why it cannot attack the dataset."""
    reason = attack.misfit(dataset.image_shape, dataset.num_classes)
    if not isinstance(reason, str):
        raise ContractError(f"attack {attack.name!r} returned {reason!r} from misfit(); expected a text")
    if reason:
        return _Misfit(" ".join(f"attack {short(attack)!r}: {reason}".split()))
    return {
        "budget": check_budget(attack),
        "norm": check_norm(attack),
        "perturbation": check_perturbation(attack),
        "group_size": check_group_size(attack),
    }


def _cell_key(chunks: tuple[Chunk, ...], clean_key: str, threat: Threat) -> str:
    return digest_of(cell_key_inputs([chunk.key for chunk in chunks], clean_key, threat.name))


def _attempt(call: Callable[[], Any]) -> Any:
    """What a component returns, or its exception in one line; errors that the user can fix are raised."""
    try:
        return call()
    except UsageError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return describe(error)


def _obstacle(ask: Callable[[], str]) -> dict[str, str]:
    """A reason as the cells' ``skipped``, or an exception as their ``failed``; empty if there is neither."""
    answer = _attempt(lambda: (ask(),))
    if isinstance(answer, str):
        return {"failed": answer}
    return {"skipped": answer[0]} if answer[0] else {}


def _chunks(
    context: KeyContext, fits: Fits, ids: tuple[int, ...], attack: Attack, target: AttackTarget
) -> tuple[Chunk, ...]:
    target = with_view(target, attack)
    artefact, fit = fits.of(attack, target, context)
    fitted = fitted_keys_of(target.defense, fits.of_defense(target.defense, target.model))
    chunks, size = [], chunk_size(check_group_size(attack))
    for start in range(0, len(ids), size):
        part = ids[start : start + size]
        aim = (attack, target.threat, target.defense, target.draws)
        settings: dict[str, Any] = {"precision": target.precision, "max_queries": target.max_queries}
        key_inputs = context.adversarial(part, *aim, **settings, artefact=artefact, fitted=fitted)
        chunks.append(Chunk(key_inputs, digest_of(key_inputs), part, target, artefact, fit))
    return tuple(chunks)


def _incompatibility(dataset: Dataset, model: Model) -> str:
    """Why a model cannot classify the images of a dataset, or ""."""
    return _shape_incompatibility(dataset, model) or _class_incompatibility(dataset, model)


def _shape_incompatibility(dataset: Dataset, model: Model) -> str:
    if model.image_shape in (None, dataset.image_shape):
        return ""
    return f"{model.name} takes images of {model.image_shape}, {dataset.name} has {dataset.image_shape}"


def _class_incompatibility(dataset: Dataset, model: Model) -> str:
    if model.num_classes is None or model.num_classes >= dataset.num_classes:
        return ""
    return f"{model.name} knows {model.num_classes} classes, {dataset.name} has {dataset.num_classes}"


def _pair_incompatibility(axes: Axes, dataset: Dataset, model: Model) -> str:
    """Why a model cannot classify a dataset behind any of the defenses, or ""."""
    reason, shape = _shape_incompatibility(dataset, model), dataset.image_shape
    changes_shape = reason and any(_attempt(partial(_changes_shape, chain, shape)) for chain in axes.defenses)
    return ("" if changes_shape else reason) or _class_incompatibility(dataset, model)


def _changes_shape(chain: Chain, image_shape: tuple[int, int, int]) -> bool:
    return not chain.incompatibility(image_shape) and chain.output_shape(image_shape) != image_shape


def _undefended_reason(incompatible: str, threat: Threat, attack: Attack) -> str:
    """Why a cell cannot be run without the undefended model, which does not take the dataset's images; "" if it can."""
    if not incompatible or not threat.sees_model:
        return ""
    if not threat.sees_defense:
        return f"{incompatible}, so the undefended model cannot be attacked"
    if goal_of(attack) != UNTARGETED:
        return f"{incompatible}, so the undefended model cannot choose target classes"
    return ""


def _is_incompatible(part: Defense, dataset: Dataset) -> bool:
    """Whether a defense cannot take a dataset's images, or raises an exception when it is asked."""
    answer = _attempt(lambda: (part.incompatibility(dataset.image_shape),))
    return isinstance(answer, str) or bool(answer[0])


def _chain_obstacle(defense: Chain, dataset: Dataset, model: Model) -> dict[str, str]:
    """Why a defense cannot be used between a dataset and a model, as its cells' ``skipped`` or ``failed``."""
    return _chain_incompatibility(defense, dataset, model) or _obstacle(
        lambda: next((reason for part in defense.parts if (reason := lacking_access(part, model))), "")
    )


def _chain_incompatibility(defense: Chain, dataset: Dataset, model: Model) -> dict[str, str]:
    """Why a defense cannot stand between a dataset and a model, as its cells' ``skipped`` or ``failed``; else empty."""
    image_shape = dataset.image_shape
    answer = _attempt(lambda: (defense.incompatibility(image_shape),))
    if isinstance(answer, str):
        return {"failed": answer}
    if not isinstance(answer[0], str):
        return {"failed": f"defense {short(defense)!r} returned {answer[0]!r} from incompatibility(); expected a text"}
    reason = " ".join(answer[0].split())
    if reason:
        return {"skipped": reason}
    shape = _attempt(lambda: defense.output_shape(image_shape))
    if isinstance(shape, str):
        return {"failed": shape}
    if model.image_shape in (None, shape):
        return {}
    if shape == image_shape:
        return {"skipped": _shape_incompatibility(dataset, model)}
    reason = f"{model.name} takes images of {model.image_shape}, defense {short(defense)!r} returns {shape}"
    return {"skipped": f"{reason} for {dataset.name}"}
