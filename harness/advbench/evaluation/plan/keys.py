"""Key inputs: everything that a stored result depends on. A key is their digest.

They decide whether a stored result is used again. Whatever changes a result must be a part of them. Batch size, number
of jobs and executor are not, since results do not depend on them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from advbench.api import Attack, Component, ContractError, Dataset, Defense, Model
from advbench.discovery.identity import code_digests, dependency_versions
from advbench.evaluation.plan.threats import OBLIVIOUS
from advbench.specs import FLOAT32, Chain
from advbench.store import SCHEMA, ids_digest

__all__ = [
    "KeyContext",
    "attack_identity",
    "cell_key_inputs",
    "certificate_key_inputs",
    "defense_identity",
    "fitted_keys",
]


@dataclasses.dataclass(frozen=True)
class KeyContext:
    """The key inputs that all results of one (dataset, model) pair share.

    Attributes:
        dataset: The identity of the dataset, with the digest of its content.
        model: The identity of the model, with the digest of its weights.
        seed: The seed of all randomness.
        device: The type of the device, whose arithmetic shapes the last bits.
        behaviours: Ids of the behaviour of the model, of defenses and of attacks, except those whose code, parameters
            and weights determine their outputs.
    """

    dataset: dict[str, Any]
    model: dict[str, Any]
    seed: int
    device: str
    behaviours: Mapping[Component, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, dataset: Dataset, digest: str, model: Model, seed: int, device: str) -> KeyContext:
        """Collects them; ``digest`` is that of the dataset's content.

        Raises:
            ContractError: A digest is not a string.
            WeightsError: The weights are missing or damaged.
        """
        return cls(
            dataset={**_identity(dataset), "digest": _digest(dataset, "digest", digest)},
            model={**_identity(model), "weights": _digest(model, "weights_digest", model.weights_digest())},
            seed=seed,
            device=device.partition(":")[0],
        )

    def with_behaviour(self, component: Model | Defense | Attack, behaviour_id: str) -> KeyContext:
        """A copy with the id of a component's behaviour; an empty id adds nothing."""
        if not behaviour_id:
            return self
        model = {**self.model, "answers": behaviour_id} if isinstance(component, Model) else self.model
        return dataclasses.replace(self, model=model, behaviours={**self.behaviours, component: behaviour_id})

    def adversarial(
        self,
        ids: Sequence[int],
        attack: Attack,
        threat: str,
        defense: Chain | None = None,
        draws: int = 1,
        *,
        precision: str = FLOAT32,
        max_queries: int | None = None,
        artefact: str = "",
        fitted: Sequence[str] = (),
    ) -> dict[str, Any]:
        """The key inputs of one chunk of adversarial images.

        Args:
            ids: Its samples.
            attack: The attack that makes the images.
            threat: The threat's name.
            defense: The defense, if the attack sees it.
            draws: How often a stochastic defense is drawn for a gradient.
            precision: The network's arithmetic while it is attacked.
            max_queries: The largest number of queries of a sample that count; None for any.
            artefact: The key of what the attack has fitted, or the digest of its file; empty if it fits nothing.
            fitted: The keys of what the parts of the defense have fitted, see :func:`fitted_keys`.
        """
        return {
            **self._common("adversarial", ids),
            "attack": self._with_behaviour_id(attack, attack_identity(attack)),
            **({} if attack.group_size is None else {"group_size": attack.group_size}),
            "threat": threat,
            "defense": None if defense is None else self._chain(defense),
            **_draws_entry(draws),
            **({} if precision == FLOAT32 else {"precision": precision}),
            **({} if max_queries is None else {"max_queries": max_queries}),
            **({"artefact": artefact} if artefact else {}),
            **_fitted_entry(fitted),
        }

    def artefact(
        self,
        ids: Sequence[int],
        attack: Attack,
        threat: str,
        defense: Chain | None = None,
        draws: int = 1,
        *,
        precision: str = FLOAT32,
        fitted: Sequence[str] = (),
    ) -> dict[str, Any]:
        """The key inputs of what an attack fits to these samples of the dataset.

        The arguments are those of :meth:`adversarial`. Parameters of the stages ``run`` and ``certify`` are left out.
        """
        images = self.adversarial(ids, attack, threat, defense, draws, precision=precision, fitted=fitted)
        staged = {parameter.name for parameter in attack.parameters() if parameter.stage}
        parameters = {name: value for name, value in attack.values().items() if name not in staged}
        attack_inputs = {**images["attack"], "parameters": parameters}
        return {**images, "kind": "artefacts", "attack": attack_inputs}

    def clean(
        self, ids: Sequence[int], defense: Chain, draws: int = 1, *, fitted: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The key inputs of a defended model's predictions on clean images; ``fitted`` as for :meth:`adversarial`."""
        shared = self._common("clean", ids)
        return {**shared, "defense": self._chain(defense), **_draws_entry(draws), **_fitted_entry(fitted)}

    def defense_artefact(
        self, ids: Sequence[int], defense: Chain, part: int, *, fitted: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The key inputs of what a part of a defense fits to these samples of the dataset.

        Args:
            ids: The samples.
            defense: The whole chain.
            part: The index of the part.
            fitted: The keys of what the parts after it have fitted, see :func:`fitted_keys`.
        """
        chain = self._chain(defense)
        component = defense.parts[part]
        staged = {parameter.name for parameter in component.parameters() if parameter.stage}
        parameters = {name: value for name, value in component.values().items() if name not in staged}
        chain[part] = {**chain[part], "parameters": parameters}
        shared = self._common("artefacts", ids)
        return {**shared, "defense": chain, "part": part, **_fitted_entry(fitted)}

    def _chain(self, chain: Chain) -> list[dict[str, Any]]:
        return [self._with_behaviour_id(part, defense_identity(part)) for part in chain.parts]

    def _with_behaviour_id(self, component: Component, identity: dict[str, Any]) -> dict[str, Any]:
        behaviour_id = self.behaviours.get(component, "")
        return {**identity, **({"answers": behaviour_id} if behaviour_id else {})}

    def _common(self, kind: str, ids: Sequence[int]) -> dict[str, Any]:
        import torch  # here, since plans are also built without torch

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
    """The key inputs of a cell: its adversarial images, through the clean key its model and defense, and its threat.

    Cells of two threats may share images: those crafted on the undefended model or on a surrogate.
    """
    key_inputs = {"schema": SCHEMA, "kind": "cell", "adversarial": list(adversarial_keys), "clean": clean_key}
    return key_inputs if threat == OBLIVIOUS.name else {**key_inputs, "threat": threat}


def certificate_key_inputs(clean: Mapping[str, Any], ids: Sequence[int], certifier: Model | Defense) -> dict[str, Any]:
    """The key inputs of the certificates of some samples.

    Args:
        clean: The key inputs of the defended model's predictions on clean images.
        ids: The samples.
        certifier: The model, or the part of the defense, that certifies.
    """
    values = certifier.values()
    used = {name: values[name] for name in _certify_parameters(certifier)}
    shared = {name: value for name, value in clean.items() if name != "draws"}
    return {**shared, "kind": "certificate", "ids": ids_digest(ids), **({"certify": used} if used else {})}


def fitted_keys(key_inputs: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of what the parts of a defense have fitted, from the key inputs of a result that uses them.

    Returns:
        A key for each part, empty for one that has fitted nothing; nothing if none has fitted anything.
    """
    return tuple(key_inputs.get("artefacts", ()))


def _fitted_entry(fitted: Sequence[str]) -> dict[str, Any]:
    return {"artefacts": list(fitted)} if any(fitted) else {}


def _draws_entry(draws: int) -> dict[str, int]:
    return {"draws": draws} if draws > 1 else {}


def _identity(component: Component) -> dict[str, Any]:
    unused = _certify_parameters(component)
    return {
        "name": component.name,
        "parameters": {name: value for name, value in component.values().items() if name not in unused},
        "code": code_digests(type(component), component.code_modules()),
        "versions": dependency_versions(type(component)),
        **_nested_entry(component),
    }


def _certify_parameters(component: Component) -> list[str]:
    """The names of the parameters on which certificates alone depend."""
    return [parameter.name for parameter in component.parameters() if parameter.stage == "certify"]


def _nested_entry(component: Component) -> dict[str, Any]:
    """The identities of the components in a component's parameters; nothing if there are none."""
    nested = {name: [_nested_identity(part) for part in parts] for name, parts in component.nested().items()}
    return {"components": nested} if nested else {}


def _nested_identity(part: Component) -> dict[str, Any]:
    if isinstance(part, Defense):
        return defense_identity(part)
    if isinstance(part, Model):
        return {**_identity(part), "weights": _digest(part, "weights_digest", part.weights_digest())}
    return _identity(part)


def attack_identity(attack: Attack) -> dict[str, Any]:
    """The key inputs of an attack, without its behaviour."""
    return _identity(attack)


def defense_identity(part: Defense) -> dict[str, Any]:
    """The key inputs of one part of a chain, without its behaviour."""
    return {**_identity(part), "weights": _weights(part)}


def _weights(defense: Defense) -> str | None:
    digest = defense.weights_digest()
    return None if digest is None else _digest(defense, "weights_digest", digest)


def _digest(component: Component, method: str, digest: object) -> str:
    """Checks a digest that a component returned."""
    if not isinstance(digest, str) or not digest:
        raise ContractError(
            f"{component.name!r} returned {type(digest).__name__} {digest!r} from {method}(); "
            "expected a SHA-256 as text"
        )
    return digest
