"""Why components cannot be combined: reasons why cells are skipped, and errors of components for which cells fail."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from advbench.api import Attack, ContractError, Dataset, Defense, Model
from advbench.api.goal import UNTARGETED, goal_of
from advbench.contracts.access import lacking_access
from advbench.contracts.budgets import check_budget, check_group_size, check_norm, check_perturbation, check_view
from advbench.errors import UsageError, describe
from advbench.evaluation.plan.cells import Axes, short
from advbench.evaluation.plan.threats import Threat
from advbench.specs import Chain, transforms_images

__all__ = [
    "Misfit",
    "attack_kind",
    "attempt",
    "chain_obstacle",
    "class_incompatibility",
    "incompatibility",
    "is_corruption",
    "is_incompatible",
    "obstacle",
    "pair_incompatibility",
    "shape_incompatibility",
    "undefended_reason",
    "view_obstacle",
]


def attempt(call: Callable[[], Any]) -> Any:
    """What a component returns, or its exception in one line; errors that the user can fix are raised."""
    try:
        return call()
    except UsageError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return describe(error)


def obstacle(find_reason: Callable[[], str]) -> dict[str, str]:
    """A reason as the cells' ``skipped``, or an exception as their ``failed``; empty if there is neither."""
    answer = attempt(lambda: (find_reason(),))
    if isinstance(answer, str):
        return {"failed": answer}
    return {"skipped": answer[0]} if answer[0] else {}


def is_corruption(attack: Attack) -> bool:
    """Whether an attack is a corruption; False if it fails to say, which its cells report."""
    try:
        return attack.perturbation().kind == "corruption"
    except (Exception, SystemExit):
        return False


@dataclasses.dataclass(frozen=True)
class Misfit:
    """Why an attack cannot attack a dataset."""

    reason: str


def attack_kind(attack: Attack, dataset: Dataset, model: Model) -> dict[str, Any] | Misfit:
    """The attributes of a cell about its attack, or why it cannot attack the model on the dataset."""
    reason = attack.misfit(dataset.image_shape, _classes(attack, dataset, model))
    if not isinstance(reason, str):
        raise ContractError(f"attack {attack.name!r} returned {reason!r} from misfit(); expected a text")
    if reason:
        return Misfit(" ".join(f"attack {short(attack)!r}: {reason}".split()))
    return {
        "budget": check_budget(attack),
        "norm": check_norm(attack),
        "perturbation": check_perturbation(attack),
        "group_size": check_group_size(attack),
    }


def _classes(attack: Attack, dataset: Dataset, model: Model) -> int:
    """How many classes an attack can choose from: the model may have more than occur among the labels."""
    goal = goal_of(attack)
    named = int(goal) + 1 if model.num_classes is None and goal.isdecimal() else 0  # the model's output decides
    return max(dataset.num_classes, model.num_classes or named)


def incompatibility(dataset: Dataset, model: Model) -> str:
    """Why a model cannot classify the images of a dataset, or ""."""
    return shape_incompatibility(dataset, model) or class_incompatibility(dataset, model)


def shape_incompatibility(dataset: Dataset, model: Model) -> str:
    """Why a model does not take images of the shape of a dataset, or ""."""
    if model.image_shape in (None, dataset.image_shape):
        return ""
    reason = f"{model.name} takes images of {model.image_shape}, {dataset.name} has {dataset.image_shape}"
    same_channels = model.image_shape is not None and model.image_shape[0] == dataset.image_shape[0]
    resizable = same_channels and getattr(model, "resize", "") == "never"  # a parameter that models by name share
    return f"{reason}; with resize=auto, it resizes them" if resizable else reason


def class_incompatibility(dataset: Dataset, model: Model) -> str:
    """Why a model does not know all classes of a dataset, or ""."""
    if model.num_classes is None or model.num_classes >= dataset.num_classes:
        return ""
    return f"{model.name} knows {model.num_classes} classes, {dataset.name} has {dataset.num_classes}"


def pair_incompatibility(axes: Axes, dataset: Dataset, model: Model) -> str:
    """Why a model cannot classify a dataset behind any of the defenses, or ""."""
    reason, shape = shape_incompatibility(dataset, model), dataset.image_shape
    changes_shape = reason and any(attempt(partial(_changes_shape, chain, shape)) for chain in axes.defenses)
    return ("" if changes_shape else reason) or class_incompatibility(dataset, model)


def _changes_shape(chain: Chain, image_shape: tuple[int, int, int]) -> bool:
    return not chain.incompatibility(image_shape) and chain.output_shape(image_shape) != image_shape


def undefended_reason(incompatible: str, threat: Threat, attack: Attack) -> str:
    """Why a cell cannot be run without the undefended model, which does not take the dataset's images; "" if it can."""
    if not incompatible or not threat.sees_model:
        return ""
    if not threat.sees_defense:
        return f"{incompatible}, so the undefended model cannot be attacked"
    if goal_of(attack) != UNTARGETED:
        return f"{incompatible}, so the undefended model cannot choose target classes"
    return ""


def is_incompatible(part: Defense, dataset: Dataset) -> bool:
    """Whether a defense cannot take a dataset's images, or raises an exception when it is asked."""
    answer = attempt(lambda: (part.incompatibility(dataset.image_shape),))
    return isinstance(answer, str) or bool(answer[0])


def chain_obstacle(defense: Chain, dataset: Dataset, model: Model) -> dict[str, str]:
    """Why a defense cannot be used between a dataset and a model, as its cells' ``skipped`` or ``failed``."""
    return _chain_incompatibility(defense, dataset, model) or obstacle(
        lambda: next((reason for part in defense.parts if (reason := lacking_access(part, model))), "")
    )


def _chain_incompatibility(defense: Chain, dataset: Dataset, model: Model) -> dict[str, str]:
    """Why a defense cannot stand between a dataset and a model, as its cells' ``skipped`` or ``failed``; else empty."""
    image_shape = dataset.image_shape
    answer = attempt(lambda: (defense.incompatibility(image_shape),))
    if isinstance(answer, str):
        return {"failed": answer}
    if not isinstance(answer[0], str):
        return {"failed": f"defense {short(defense)!r} returned {answer[0]!r} from incompatibility(); expected a text"}
    reason = " ".join(answer[0].split())
    if reason:
        return {"skipped": reason}
    shape = attempt(lambda: defense.output_shape(image_shape))
    if isinstance(shape, str):
        return {"failed": shape}
    if model.image_shape in (None, shape):
        return {}
    if shape == image_shape:
        return {"skipped": shape_incompatibility(dataset, model)}
    reason = f"{model.name} takes images of {model.image_shape}, defense {short(defense)!r} returns {shape}"
    return {"skipped": f"{reason} for {dataset.name}"}


def view_obstacle(attack: Attack, threat: Threat, defense: Chain) -> dict[str, str]:
    """Why a defense lacks the approximations that an attack asks for: ``skipped`` or ``failed`` of its cells."""
    if not threat.sees_defense or defense.identity:
        return {}
    return obstacle(partial(_lacking_approximation, attack, defense))


def _lacking_approximation(attack: Attack, defense: Chain) -> str:
    wanted = check_view(attack).approximations
    count = _count(defense) if wanted else 0
    missing = next((number for number in wanted if number > count), None)
    if not count or missing is None:
        return ""
    has = f"{count} approximations" if count > 1 else "one approximation"
    return f"{short(attack)} uses approximation {missing}, and defense {short(defense)!r} has {has}"


def _count(defense: Chain) -> int:
    """How many approximations a defense has; 0 if autograd follows all of its parts."""
    from advbench.contracts.defenses import check_approximations  # imports torch

    counts = [len(check_approximations(part)) for part in defense.parts if not _is_followed(part)]
    return max(counts, default=0)


def _is_followed(part: Defense) -> bool:
    """Whether autograd follows a part of a defense, and there is no choice between views of it."""
    return part.differentiable if transforms_images(part) else len(part.attacked_views()) == 1
