"""Key material: all that a stored result depends on.

What is in here decides whether a stored result may be used again. Whatever changes a result must be part of
it; batch size, number of jobs and executor are not, since results do not depend on them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from advbench.api import Attack, Component, ContractError, Dataset, Defense, Model
from advbench.discovery import code_digests, dependency_versions
from advbench.evaluation.threat import OBLIVIOUS
from advbench.specs import FLOAT32, Chain
from advbench.store import SCHEMA, ids_digest

__all__ = ["Base", "cell_material"]


@dataclasses.dataclass(frozen=True)
class Base:
    """What all keys of one (dataset, model) pair share.

    Attributes:
        dataset: Identity of the dataset with the digest of its content.
        model: Identity of the model with the digest of its weights.
        seed: Seed of all randomness.
        device: Type of the device, since its arithmetic shapes the last bits.
    """

    dataset: dict[str, Any]
    model: dict[str, Any]
    seed: int
    device: str

    @classmethod
    def of(cls, dataset: Dataset, digest: str, model: Model, seed: int, device: str) -> Base:
        """Collects it; ``digest`` is that of the dataset's content.

        Raises:
            ContractError: A digest is no text.
            WeightsError: The weights are missing or damaged.
        """
        return cls(
            dataset={**_identity(dataset), "digest": _digest(dataset, "digest", digest)},
            model={**_identity(model), "weights": _digest(model, "weights_digest", model.weights_digest())},
            seed=seed,
            device=device.partition(":")[0],
        )

    def adversarial(
        self,
        ids: Sequence[int],
        attack: Attack,
        threat: str,
        defense: Chain | None = None,
        draws: int = 1,
        *,
        precision: str = FLOAT32,
    ) -> dict[str, Any]:
        """Material of one chunk of adversarial images.

        Args:
            ids: Its samples.
            attack: What makes the images.
            threat: The threat's name.
            defense: The defense, where the threat sees it.
            draws: How often a stochastic defense is drawn for a gradient.
            precision: The network's arithmetic while it is attacked.
        """
        return {
            **self._common("adversarial", ids),
            "attack": _identity(attack),
            "threat": threat,
            "defense": None if defense is None else _chain_identity(defense),
            **_several(draws),
            **({} if precision == FLOAT32 else {"precision": precision}),
        }

    def clean(self, ids: Sequence[int], defense: Chain, draws: int = 1) -> dict[str, Any]:
        """Material of a defended model's predictions on clean images, and on any: of how many draws."""
        return {**self._common("clean", ids), "defense": _chain_identity(defense), **_several(draws)}

    def _common(self, kind: str, ids: Sequence[int]) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "kind": kind,
            "dataset": self.dataset,
            "ids": ids_digest(ids),
            "model": self.model,
            "seed": self.seed,
            "torch": torch.__version__,
            "device": self.device,
        }


def cell_material(adversarial_keys: Sequence[str], clean_key: str, threat: str) -> dict[str, Any]:
    """Material of a cell: which adversarial images, through the clean key which model and defense, and the threat.

    Cells of two threats may share their images: those of the undefended model, and a surrogate's.
    """
    material = {"schema": SCHEMA, "kind": "cell", "adversarial": list(adversarial_keys), "clean": clean_key}
    return material if threat == OBLIVIOUS.name else {**material, "threat": threat}


def _several(draws: int) -> dict[str, int]:
    return {"draws": draws} if draws > 1 else {}


def _identity(component: Component) -> dict[str, Any]:
    return {
        "name": component.name,
        "parameters": component.values(),
        "code": code_digests(type(component), component.code_modules()),
        "versions": dependency_versions(type(component)),
    }


def _chain_identity(chain: Chain) -> list[dict[str, Any]]:
    return [{**_identity(part), "weights": _weights(part)} for part in chain.parts]


def _weights(defense: Defense) -> str | None:
    told = defense.weights_digest()
    return None if told is None else _digest(defense, "weights_digest", told)


def _digest(component: Component, method: str, told: object) -> str:
    """A digest as a component tells it, if it is one."""
    if not isinstance(told, str) or not told:
        raise ContractError(
            f"{component.name!r} answers {method}() by {type(told).__name__} {told!r}; expected a SHA-256 as text"
        )
    return told
