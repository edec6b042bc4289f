"""The fits of a plan: what attacks and defenses fit to data, and the artefacts that attacks take from files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from advbench.api import Attack, Dataset, Model, artefact_file_of, sha256_file
from advbench.errors import UsageError
from advbench.evaluation.plan.cells import AttackTarget, DefenseFit, Fit, full, short
from advbench.evaluation.plan.keys import KeyContext
from advbench.evaluation.plan.samples import FitSplit, fit_form, is_fitted, is_fitted_part
from advbench.specs import Chain
from advbench.store import digest_of
from advbench.store.artefact_files import read_artefact_header

__all__ = ["Fits", "fitted_keys_of"]


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
        fitted = self.of_defense(target.defense, target.model)
        key_inputs = self.contexts[target.model].artefact(
            self.split.ids,
            form,
            target.threat,
            target.defense,
            target.draws,
            precision=target.precision,
            fitted=fitted_keys_of(target.defense, fitted),
        )
        key = digest_of(key_inputs)
        return key, Fit(key_inputs, key, form, self.split.dataset, self.split.ids)

    def of_defense(self, defense: Chain | None, model: Model) -> tuple[DefenseFit, ...]:
        """The fits of a defense's parts in front of a model, each after those of the parts behind it.

        Args:
            defense: The defense, or None.
            model: The model.
        """
        fits: list[DefenseFit] = []
        for part in reversed(range(0 if defense is None else len(defense.parts))):
            assert defense is not None
            if not is_fitted_part(defense.parts[part]):
                continue
            assert self.split is not None
            behind = fitted_keys_of(defense, fits)
            key_inputs = self.contexts[model].defense_artefact(self.split.ids, defense, part, fitted=behind)
            key = digest_of(key_inputs)
            fits.append(DefenseFit(key_inputs, key, model, defense, part, self.split.dataset, self.split.ids))
        return tuple(fits)

    def _digest_of_file(self, attack: Attack, path: Path, target: AttackTarget, context: KeyContext) -> str:
        """The digest of an artefact in a file, which must fit the attack, the dataset and the model."""
        where = f"attack {attack.name!r}, file={path}"
        try:
            header, digest = read_artefact_header(path), sha256_file(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"{where}: cannot be read: {reason}; 'advbench artefact' writes such a file") from error
        if header is None:
            raise UsageError(f"{where}: holds no artefact; give a .safetensors file that 'advbench artefact' wrote")
        wrong = _difference(header, attack, self.dataset, target.model, context.model["weights"])
        if wrong:
            raise UsageError(f"{where}: {wrong}; leave out 'file' to fit the attack anew")
        return digest


def fitted_keys_of(defense: Chain | None, fits: Sequence[DefenseFit]) -> tuple[str, ...]:
    """The key of what each part of a defense has fitted, empty for one that has not; nothing if there are no fits."""
    keys = {fit.part: fit.key for fit in fits}
    return tuple(keys.get(part, "") for part in range(len(defense.parts))) if defense is not None and keys else ()


def _difference(header: Mapping[str, Any], attack: Attack, dataset: Dataset, model: Model, weights: str) -> str:
    """How the facts of an artefact differ from what is attacked; empty if they do not."""
    expected: tuple[tuple[str, Any, Callable[[Any], str]], ...] = (
        ("attack", attack.innermost.name, lambda name: f"was fitted by attack {name!r}"),
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
        ("model", full(model), lambda name: f"was fitted on the model {name}, and this attacks {short(model)}"),
        ("weights", weights, lambda _: f"was fitted on other weights of the model {short(model)}"),
    )
    return next((say(header.get(name)) for name, value, say in expected if header.get(name) != value), "")
