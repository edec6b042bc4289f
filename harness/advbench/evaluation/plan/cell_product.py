"""The cells of one dataset and model, with the keys under which their results are stored."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from advbench.api import Attack, Dataset, DataSources, Defense, Model
from advbench.contracts.attacks import check_budget, check_norm
from advbench.errors import UsageError, describe
from advbench.evaluation.plan.cells import CHUNK, AttackTarget, Axes, Cell, Chunk, short
from advbench.evaluation.plan.keys import KeyContext, attack_identity, cell_key_inputs, defense_identity
from advbench.evaluation.plan.threats import OBLIVIOUS, Threat
from advbench.evaluation.work.behaviour.ask import Answers
from advbench.evaluation.work.behaviour.compare import is_self_contained
from advbench.specs import Chain
from advbench.store import digest_of

__all__ = ["cells_of"]


def cells_of(
    axes: Axes,
    dataset: Dataset,
    model: Model,
    ids: tuple[int, ...],
    *,
    sources: DataSources,
    device: str,
    answers: Answers | None = None,
) -> Iterator[Cell]:
    """Every combination of attacks, threats and defenses on a dataset and model.

    Args:
        axes: The axes.
        dataset: One of its datasets.
        model: One of its models.
        ids: The samples.
        sources: Where the dataset's digest is told from.
        device: Where the cells are to be computed.
        answers: Who asks networks what they answer; None to ask none.
    """
    pair = _Pair(axes, dataset, model, ids)
    misfit = _attempt(lambda: {"skipped": _misfit(dataset, model)})
    bases = _attempt(partial(_bases, axes, dataset, model, sources=sources, device=device, answers=answers))
    if isinstance(misfit, str):
        yield from pair.without_keys(failed=misfit)
    elif misfit["skipped"]:
        yield from pair.without_keys(**misfit)
    elif isinstance(bases, str):
        yield from pair.without_keys(failed=bases)
    else:
        yield from pair.cells(*bases)


def _bases(
    axes: Axes, dataset: Dataset, model: Model, *, sources: DataSources, device: str, answers: Answers | None
) -> tuple[KeyContext, KeyContext | None]:
    """What the keys of a dataset and model share, and those of images crafted on the surrogate where there is one."""
    digest = dataset.digest(sources)

    def base_of(model: Model) -> KeyContext:
        base = KeyContext.of(dataset, digest, model, axes.seed, device)
        if answers is None or _misfit(dataset, model):
            return base
        if not is_self_contained(model):
            base = base.told(model, answers.of(model, base.model, dataset, base.dataset))
        for part in dict.fromkeys(part for chain in axes.defenses for part in chain.parts):
            told = _attempt(partial(_answers_of, part, dataset, base, answers))
            if not isinstance(told, str):  # what it raised, its own cells tell
                base = base.told(part, told["answers"])
        for attack in axes.attacks:
            told = _attempt(partial(_answers_of_attack, attack, dataset, answers))
            if not isinstance(told, str):
                base = base.told(attack, told["answers"])
        return base

    return base_of(model), None if axes.surrogate is None else base_of(axes.surrogate)


def _answers_of(part: Defense, dataset: Dataset, base: KeyContext, answers: Answers) -> dict[str, str]:
    """The identity of a defense's behaviour; empty where nobody asks it."""
    if not answers.asks(part) or _refusal_of(part, dataset):
        return {"answers": ""}
    return {"answers": answers.of_defense(part, defense_identity(part), dataset, base.dataset)}


def _answers_of_attack(attack: Attack, dataset: Dataset, answers: Answers) -> dict[str, str]:
    """The same of an attack."""
    if not answers.asks(attack):
        return {"answers": ""}
    return {"answers": answers.of_attack(attack, attack_identity(attack), dataset)}


@dataclasses.dataclass(frozen=True)
class _Pair:
    """The cells of one dataset and model."""

    axes: Axes
    dataset: Dataset
    model: Model
    ids: tuple[int, ...]

    def without_keys(self, *, skipped: str = "", failed: str = "") -> Iterator[Cell]:
        """Cells none of which can be run."""
        for attack, threat, defense in itertools.product(self.axes.attacks, self.axes.threats, self.axes.defenses):
            yield self._cell(attack, threat, defense, skipped=skipped, failed=failed)

    def cells(self, base: KeyContext, other: KeyContext | None) -> Iterator[Cell]:
        """Cells with their keys; where a defense does not fit they are skipped, where a component raises failed.

        Args:
            base: What all keys share.
            other: The same of the surrogate, where there is one.
        """
        defended = [self._defended(base, defense) for defense in self.axes.defenses]
        for attack, threat in itertools.product(self.axes.attacks, self.axes.threats):
            kind = _attempt(partial(_kind, attack))
            unfit = "" if threat.sees_model else self._unfit_surrogate()
            source = base if threat.sees_model or other is None else other
            made: dict[AttackTarget, Any] = {}
            for defense, refused, nature, clean in defended:
                reason = refused or ({"skipped": unfit} if unfit else {})
                if reason:
                    yield self._cell(attack, threat, defense, **reason)
                    continue
                if isinstance(nature, str):
                    yield self._cell(attack, threat, defense, failed=nature)
                    continue
                aim = self._aim(threat, defense)
                if aim not in made:
                    made[aim] = _attempt(partial(_chunks, source, self.ids, attack, aim))
                faults = [found for found in (kind, made[aim], clean) if isinstance(found, str)]
                if faults:
                    yield self._cell(attack, threat, defense, failed=faults[0])
                else:
                    keys = _keys(made[aim], clean["clean_key"], threat)
                    yield self._cell(attack, threat, defense, **kind, **keys, **clean, **nature)

    def _defended(self, base: KeyContext, defense: Chain) -> tuple[Chain, dict[str, str], Any, Any]:
        """A defense with why it cannot be used, what cells say of it, and what they have of its clean predictions."""
        refused = _refusal(defense, self.dataset.image_shape)
        if refused:
            return defense, refused, "", ""
        return defense, {}, _attempt(partial(_nature, defense)), _attempt(partial(self._clean, base, defense))

    def _aim(self, threat: Threat, defense: Chain) -> AttackTarget:
        """What the images of a threat are crafted on; the undefended model is the same under any that sees it."""
        if not threat.sees_model:
            assert self.axes.surrogate is not None
            return AttackTarget(self.axes.surrogate, OBLIVIOUS.name, precision=self.axes.precision)
        if not threat.sees_defense or defense.identity:
            return AttackTarget(self.model, OBLIVIOUS.name, precision=self.axes.precision)
        draws = self.axes.eot if defense.stochastic else 1
        return AttackTarget(self.model, threat.name, defense, draws, self.axes.precision)

    def _draws(self, defense: Chain) -> int:
        return self.axes.score_draws if defense.stochastic else 1

    def _clean(self, base: KeyContext, defense: Chain) -> dict[str, Any]:
        draws = self._draws(defense)
        key_inputs = base.clean(self.ids, defense, draws)
        return {"clean_key_inputs": key_inputs, "clean_key": digest_of(key_inputs), "draws": draws}

    def _unfit_surrogate(self) -> str:
        """Why images cannot be crafted on the surrogate, or nothing."""
        assert self.axes.surrogate is not None
        if self.axes.surrogate == self.model:
            return f"the surrogate {short(self.model)} is the model itself, which is the threat 'oblivious'"
        return _misfit(self.dataset, self.axes.surrogate)

    def _cell(self, attack: Attack, threat: Threat, defense: Chain, **rest: Any) -> Cell:
        return Cell(self.dataset, self.model, attack, threat, defense, self.axes.seed, ids=self.ids, **rest)


def _nature(defense: Chain) -> dict[str, bool]:
    """What a cell says of its defense."""
    return {"identity": defense.identity, "stochastic": defense.stochastic}


def _kind(attack: Attack) -> dict[str, Any]:
    """What a cell says of its attack's kind."""
    return {"budget": check_budget(attack), "norm": check_norm(attack)}


def _keys(chunks: tuple[Chunk, ...], clean_key: str, threat: Threat) -> dict[str, Any]:
    """What a cell is made of and stored under."""
    key_inputs = cell_key_inputs([chunk.key for chunk in chunks], clean_key, threat.name)
    return {"key": digest_of(key_inputs), "chunks": chunks}


def _attempt(ask: Callable[[], Any]) -> Any:
    """What a component answers, or in one line what it raises; what the user can mend goes up."""
    try:
        return ask()
    except UsageError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return describe(error)


def _chunks(base: KeyContext, ids: tuple[int, ...], attack: Attack, aim: AttackTarget) -> tuple[Chunk, ...]:
    parts = [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
    materials = [
        base.adversarial(part, attack, aim.threat, aim.defense, aim.draws, precision=aim.precision) for part in parts
    ]
    return tuple(
        Chunk(key_inputs, digest_of(key_inputs), part, aim) for key_inputs, part in zip(materials, parts, strict=True)
    )


def _misfit(dataset: Dataset, model: Model) -> str:
    """Why a model cannot classify a dataset, or nothing."""
    if model.image_shape not in (None, dataset.image_shape):
        return f"{model.name} takes images of {model.image_shape}, {dataset.name} has {dataset.image_shape}"
    if model.num_classes is not None and model.num_classes < dataset.num_classes:
        return f"{model.name} knows {model.num_classes} classes, {dataset.name} has {dataset.num_classes}"
    return ""


def _refusal_of(part: Defense, dataset: Dataset) -> bool:
    """Whether a defense cannot take a dataset's images, or cannot say."""
    answer = _attempt(lambda: (part.misfit(dataset.image_shape),))
    return isinstance(answer, str) or bool(answer[0])


def _refusal(defense: Chain, image_shape: tuple[int, int, int]) -> dict[str, str]:
    """Why a defense cannot take images of a shape, as its cells' ``skipped`` or ``failed``; empty where it can."""
    answer = _attempt(lambda: (defense.misfit(image_shape),))
    if isinstance(answer, str):
        return {"failed": answer}
    if not isinstance(answer[0], str):
        return {"failed": f"defense {short(defense)!r} answers misfit() by {answer[0]!r}; expected a text"}
    reason = " ".join(answer[0].split())
    return {"skipped": reason} if reason else {}
