"""The fits of a plan: what attacks and defenses fit to data, and the artefacts that attacks take from files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from advbench.api import Attack, Dataset, Model, artefact_file_of, sha256_file
from advbench.errors import UsageError
from advbench.evaluation.plan.cells import AttackTarget, DefenseFit, Fit, full, short
from advbench.evaluation.plan.keys import KeyContext
from advbench.evaluation.plan.samples import (
    FitSplit,
    fit_form,
    is_fitted,
    is_fitted_part,
    reads_artefact,
    unfitted_part,
)
from advbench.specs import Chain, parse_chain
from advbench.store import digest_of
from advbench.store.artefact_files import read_artefact_header

__all__ = ["DefenseArtefacts", "Fits"]

_Fact: TypeAlias = "tuple[str, Any, Callable[[Any], str]]"
"""A fact of an artefact: its name, the expected value, and what to say of another value."""


@dataclasses.dataclass(frozen=True)
class DefenseArtefacts:
    """What the parts of a defense have fitted.

    Attributes:
        fits: The fits, each after those of the parts behind it.
        keys: The key of each part's artefact, or the digest of its file; empty for a part without one. Nothing if no
            part has any.
    """

    fits: tuple[DefenseFit, ...] = ()
    keys: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Fits:
    """What attacks and defenses are fitted to on one dataset.

    Attributes:
        dataset: The run's dataset.
        split: The images for fits; None if nothing is fitted.
        contexts: What the keys of artefacts share, by the model that is attacked.
    """

    dataset: Dataset
    split: FitSplit | None = None
    contexts: Mapping[Model, KeyContext] = dataclasses.field(default_factory=dict)

    def of(self, attack: Attack, target: AttackTarget, context: KeyContext) -> tuple[str, Fit | None]:
        """The artefact of an attack, as in :class:`~advbench.evaluation.plan.cells.Chunk`, and its fit.

        Args:
            attack: The attack.
            target: What it attacks.
            context: What the keys of its images share.

        Raises:
            UsageError: The file from which the attack takes its artefact cannot be used.
        """
        file = artefact_file_of(attack)
        if file is not None and attack.has_fit:
            return self._digest_of_file(attack, Path(file), target, context), None
        if not is_fitted(attack):
            return "", None
        assert self.split is not None
        form = fit_form(attack)
        fitted = self.of_defense(target.defense, target.model, context)
        key_inputs = self.contexts[target.model].artefact(
            self.split.ids,
            form,
            target.threat,
            target.defense,
            target.draws,
            precision=target.precision,
            fitted=fitted.keys,
        )
        key = digest_of(key_inputs)
        return key, Fit(key_inputs, key, form, self.split.dataset, self.split.ids)

    def of_defense(self, defense: Chain | None, model: Model, context: KeyContext) -> DefenseArtefacts:
        """What a defense's parts in front of a model have fitted.

        Args:
            defense: The defense, or None.
            model: The model.
            context: What the keys of the results share.

        Raises:
            UsageError: The file from which a part takes its artefact cannot be used.
        """
        if defense is None:
            return DefenseArtefacts()
        fits: list[DefenseFit] = []
        keys = [""] * len(defense.parts)
        for part in reversed(range(len(defense.parts))):
            component = defense.parts[part]
            if reads_artefact(component):
                keys[part] = self._digest_of_part(defense, part, model, context)
            if not is_fitted_part(component):
                continue
            assert self.split is not None
            key_inputs = self.contexts[model].defense_artefact(self.split.ids, defense, part, fitted=keys)
            keys[part] = digest_of(key_inputs)
            fits.append(DefenseFit(key_inputs, keys[part], model, defense, part, self.split.dataset, self.split.ids))
        return DefenseArtefacts(tuple(fits), tuple(keys) if any(keys) else ())

    def _digest_of_file(self, attack: Attack, path: Path, target: AttackTarget, context: KeyContext) -> str:
        """The digest of an artefact in a file, which must fit the attack, the dataset and the model."""
        where = f"attack {attack.name!r}, file={path}"
        header, digest = _read_header(where, path)
        form = self._form(target.model, context, "attacks")
        wrong = _difference(header, (("attack", attack.innermost.name, lambda _: _fitted_by(header)), *form))
        if wrong:
            raise UsageError(f"{where}: {wrong}; leave out 'file' to fit the attack anew")
        return digest

    def _digest_of_part(self, defense: Chain, part: int, model: Model, context: KeyContext) -> str:
        """The digest of an artefact in a file, which must fit the part of a defense in its place."""
        component = defense.parts[part]
        path = Path(artefact_file_of(component) or "")
        where = f"defense {component.name!r}, file={path}"
        header, digest = _read_header(where, path)
        bare = Chain(tuple(map(unfitted_part, defense.parts)))
        own, spec = f"and this is {short(bare)}", full(bare.parts[part])
        place: tuple[_Fact, ...] = (
            ("defense", component.name, lambda _: _fitted_by(header)),
            ("spec", spec, lambda other: _other_parameters(other, spec)),
            ("chain", full(bare), lambda _: f"was fitted in {header.get('short')}, {own}"),
            ("part", part, lambda _: f"was fitted at another place in {short(bare)}"),
        )
        wrong = _difference(header, (*place, *self._form(model, context, "defends")))
        if wrong:
            raise UsageError(f"{where}: {wrong}; leave out 'file' to fit the defense anew")
        return digest

    def _form(self, model: Model, context: KeyContext, does: str) -> tuple[_Fact, ...]:
        """What the facts of an artefact must say about images and model; ``does`` is a verb for messages."""
        dataset, weights = self.dataset, context.model["weights"]
        return (
            (
                "image_shape",
                list(dataset.image_shape),
                lambda shape: (
                    f"was fitted to images of shape {shape}, and {short(dataset)} has {list(dataset.image_shape)}"
                ),
            ),
            (
                "num_classes",
                dataset.num_classes,
                lambda count: f"was fitted to {count} classes, and {short(dataset)} has {dataset.num_classes}",
            ),
            ("model", full(model), lambda name: f"was fitted on the model {name}, and this {does} {short(model)}"),
            ("weights", weights, lambda _: f"was fitted on other weights of the model {short(model)}"),
        )


def _read_header(where: str, path: Path) -> tuple[Mapping[str, Any], str]:
    """The facts of an artefact in a file, and the file's digest; messages begin with ``where``."""
    try:
        header, digest = read_artefact_header(path), sha256_file(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{where}: cannot be read: {reason}; 'advbench artefact' writes such a file") from error
    if header is None:
        raise UsageError(f"{where}: holds no artefact; give a .safetensors file that 'advbench artefact' wrote")
    return header, digest


def _fitted_by(header: Mapping[str, Any]) -> str:
    kind = "attack" if "attack" in header else "defense"
    return f"was fitted by {kind} {header.get(kind)!r}"


def _other_parameters(other: object, spec: str) -> str:
    """What differs in the parameters with which a defense was fitted."""
    before, now = (dict(parse_chain(text)[0].items) for text in (str(other), spec))
    names = [name for name in now if before.get(name) != now[name]]
    values = [", ".join(f"{name}={one.get(name, ('?',))[0]}" for name in names) for one in (before, now)]
    return f"was fitted with {values[0]}, and this has {values[1]}"


def _difference(header: Mapping[str, Any], expected: Sequence[_Fact]) -> str:
    """How the facts of an artefact differ from what is expected; empty if they do not."""
    return next((say(header.get(name)) for name, value, say in expected if header.get(name) != value), "")
