"""Key material: all that a stored result depends on.

What is in here decides whether a stored result may be used again. Whatever changes a result must be part of
it; batch size, number of jobs and executor are not, since results do not depend on them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from advbench.api import Attack, Component, ContractError, Dataset, Defense, Model
from advbench.discovery.identity import code_digests, dependency_versions
from advbench.evaluation.plan.threats import OBLIVIOUS
from advbench.specs import FLOAT32, Chain
from advbench.store import SCHEMA, ids_digest

__all__ = ["KeyContext", "attack_identity", "cell_key_inputs", "defense_identity"]


@dataclasses.dataclass(frozen=True)
class KeyContext:
    """What all keys of one (dataset, model) pair share.

    Attributes:
        dataset: Identity of the dataset with the digest of its content.
        model: Identity of the model with the digest of its weights.
        seed: Seed of all randomness.
        device: Type of the device, since its arithmetic shapes the last bits.
        behaviours: Identities of what the model, defenses and attacks answered on a few fixed images; none of
            components whose answers follow from their code, parameters and weights.
    """

    dataset: dict[str, Any]
    model: dict[str, Any]
    seed: int
    device: str
    behaviours: Mapping[Component, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, dataset: Dataset, digest: str, model: Model, seed: int, device: str) -> KeyContext:
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

    def told(self, component: Model | Defense | Attack, behaviour: str) -> KeyContext:
        """The same, where a component is known to have behaved so; nothing is added where that is empty."""
        if not behaviour:
            return self
        model = {**self.model, "answers": behaviour} if isinstance(component, Model) else self.model
        return dataclasses.replace(self, model=model, behaviours={**self.behaviours, component: behaviour})

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
            "attack": self._told_of(attack, attack_identity(attack)),
            "threat": threat,
            "defense": None if defense is None else self._chain(defense),
            **_several(draws),
            **({} if precision == FLOAT32 else {"precision": precision}),
        }

    def clean(self, ids: Sequence[int], defense: Chain, draws: int = 1) -> dict[str, Any]:
        """Material of a defended model's predictions on clean images, and on any: of how many draws."""
        return {**self._common("clean", ids), "defense": self._chain(defense), **_several(draws)}

    def _chain(self, chain: Chain) -> list[dict[str, Any]]:
        return [self._told_of(part, defense_identity(part)) for part in chain.parts]

    def _told_of(self, component: Component, identity: dict[str, Any]) -> dict[str, Any]:
        answers = self.behaviours.get(component, "")
        return {**identity, **({"answers": answers} if answers else {})}

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


def cell_key_inputs(adversarial_keys: Sequence[str], clean_key: str, threat: str) -> dict[str, Any]:
    """Material of a cell: which adversarial images, through the clean key which model and defense, and the threat.

    Cells of two threats may share their images: those of the undefended model, and a surrogate's.
    """
    key_inputs = {"schema": SCHEMA, "kind": "cell", "adversarial": list(adversarial_keys), "clean": clean_key}
    return key_inputs if threat == OBLIVIOUS.name else {**key_inputs, "threat": threat}


def _several(draws: int) -> dict[str, int]:
    return {"draws": draws} if draws > 1 else {}


def _identity(component: Component) -> dict[str, Any]:
    return {
        "name": component.name,
        "parameters": component.values(),
        "code": code_digests(type(component), component.code_modules()),
        "versions": dependency_versions(type(component)),
    }


def attack_identity(attack: Attack) -> dict[str, Any]:
    """What keys hold of an attack, beside its answers."""
    return _identity(attack)


def defense_identity(part: Defense) -> dict[str, Any]:
    """What keys hold of one part of a chain."""
    return {**_identity(part), "weights": _weights(part)}


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
