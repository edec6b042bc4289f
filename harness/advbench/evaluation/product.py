"""The cells of one dataset and model, with the keys under which their results are stored."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from advbench.api import Attack, Dataset, DataSources, Defense, Model
from advbench.errors import UsageError, describe
from advbench.evaluation.answers import Answers
from advbench.evaluation.behaviour import is_self_contained
from advbench.evaluation.cells import CHUNK, Aim, Axes, Cell, Chunk, short
from advbench.evaluation.contracts import check_budget, check_norm
from advbench.evaluation.keys import Base, cell_material, defense_identity
from advbench.evaluation.threat import OBLIVIOUS, Threat
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
    incompatible = _attempt(lambda: {"skipped": _incompatibility(dataset, model)})
    bases = _attempt(partial(_bases, axes, dataset, model, sources=sources, device=device, answers=answers))
    if isinstance(incompatible, str):
        yield from pair.without_keys(failed=incompatible)
    elif incompatible["skipped"]:
        yield from pair.without_keys(**incompatible)
    elif isinstance(bases, str):
        yield from pair.without_keys(failed=bases)
    else:
        yield from pair.cells(*bases)


def _bases(
    axes: Axes, dataset: Dataset, model: Model, *, sources: DataSources, device: str, answers: Answers | None
) -> tuple[Base, Base | None]:
    """What the keys of a dataset and model share, and those of images crafted on the surrogate where there is one."""
    digest = dataset.digest(sources)

    def base_of(model: Model) -> Base:
        base = Base.of(dataset, digest, model, axes.seed, device)
        if answers is None or _incompatibility(dataset, model):
            return base
        if not is_self_contained(model):
            base = base.told(model, answers.of(model, base.model, dataset, base.dataset))
        for part in dict.fromkeys(part for chain in axes.defenses for part in chain.parts):
            told = _attempt(partial(_answers_of, part, dataset, base, answers))
            if not isinstance(told, str):  # what it raised, its own cells tell
                base = base.told(part, told["answers"])
        return base

    return base_of(model), None if axes.surrogate is None else base_of(axes.surrogate)


def _answers_of(part: Defense, dataset: Dataset, base: Base, answers: Answers) -> dict[str, str]:
    """The identity of a defense's behaviour; empty where nobody asks it."""
    if not answers.asks(part) or _refusal_of(part, dataset):
        return {"answers": ""}
    return {"answers": answers.of_defense(part, defense_identity(part), dataset, base.dataset)}


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

    def cells(self, base: Base, other: Base | None) -> Iterator[Cell]:
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
            made: dict[Aim, Any] = {}
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

    def _defended(self, base: Base, defense: Chain) -> tuple[Chain, dict[str, str], Any, Any]:
        """A defense with why it cannot be used, what cells say of it, and what they have of its clean predictions."""
        refused = _refusal(defense, self.dataset.image_shape)
        if refused:
            return defense, refused, "", ""
        return defense, {}, _attempt(partial(_nature, defense)), _attempt(partial(self._clean, base, defense))

    def _aim(self, threat: Threat, defense: Chain) -> Aim:
        """What the images of a threat are crafted on; the undefended model is the same under any that sees it."""
        if not threat.sees_model:
            assert self.axes.surrogate is not None
            return Aim(self.axes.surrogate, OBLIVIOUS.name, precision=self.axes.precision)
        if not threat.sees_defense or defense.identity:
            return Aim(self.model, OBLIVIOUS.name, precision=self.axes.precision)
        draws = self.axes.eot if defense.stochastic else 1
        return Aim(self.model, threat.name, defense, draws, self.axes.precision)

    def _draws(self, defense: Chain) -> int:
        return self.axes.score_draws if defense.stochastic else 1

    def _clean(self, base: Base, defense: Chain) -> dict[str, Any]:
        draws = self._draws(defense)
        material = base.clean(self.ids, defense, draws)
        return {"clean_material": material, "clean_key": digest_of(material), "draws": draws}

    def _unfit_surrogate(self) -> str:
        """Why images cannot be crafted on the surrogate, or nothing."""
        assert self.axes.surrogate is not None
        if self.axes.surrogate == self.model:
            return f"the surrogate {short(self.model)} is the model itself, which is the threat 'oblivious'"
        return _incompatibility(self.dataset, self.axes.surrogate)

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
    material = cell_material([chunk.key for chunk in chunks], clean_key, threat.name)
    return {"key": digest_of(material), "chunks": chunks}


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


def _chunks(base: Base, ids: tuple[int, ...], attack: Attack, aim: Aim) -> tuple[Chunk, ...]:
    parts = [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
    materials = [
        base.adversarial(part, attack, aim.threat, aim.defense, aim.draws, precision=aim.precision) for part in parts
    ]
    return tuple(
        Chunk(material, digest_of(material), part, aim) for material, part in zip(materials, parts, strict=True)
    )


def _incompatibility(dataset: Dataset, model: Model) -> str:
    """Why a model cannot classify a dataset, or nothing."""
    if model.image_shape not in (None, dataset.image_shape):
        return f"{model.name} takes images of {model.image_shape}, {dataset.name} has {dataset.image_shape}"
    if model.num_classes is not None and model.num_classes < dataset.num_classes:
        return f"{model.name} knows {model.num_classes} classes, {dataset.name} has {dataset.num_classes}"
    return ""


def _refusal_of(part: Defense, dataset: Dataset) -> bool:
    """Whether a defense cannot take a dataset's images, or cannot say."""
    answer = _attempt(lambda: (part.incompatibility(dataset.image_shape),))
    return isinstance(answer, str) or bool(answer[0])


def _refusal(defense: Chain, image_shape: tuple[int, int, int]) -> dict[str, str]:
    """Why a defense cannot take images of a shape, as its cells' ``skipped`` or ``failed``; empty where it can."""
    answer = _attempt(lambda: (defense.incompatibility(image_shape),))
    if isinstance(answer, str):
        return {"failed": answer}
    if not isinstance(answer[0], str):
        return {"failed": f"defense {short(defense)!r} returned {answer[0]!r} from incompatibility(); expected a text"}
    reason = " ".join(answer[0].split())
    return {"skipped": reason} if reason else {}
