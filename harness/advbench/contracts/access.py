"""What attacks and defenses need of a model, and what models give: the same words. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from advbench.api import Access, Attack, ContractError, Defense, Model

if TYPE_CHECKING:
    import torch

__all__ = ["check_access", "lacking_access", "restricted", "restricted_score"]

_WORDS: tuple[Access, ...] = get_args(Access)  # from the most to the least
_ATTRIBUTES = ((Attack, "access"), (Model, "gives"), (Defense, "needs"))


def check_access(component: Attack | Model | Defense) -> Access:
    """Returns what an attack or a defense needs of the model, or what a model gives.

    Raises:
        ContractError: It is none of :data:`advbench.api.Access`.
    """
    attribute = next(name for base, name in _ATTRIBUTES if isinstance(component, base))
    value: Access = getattr(component, attribute)
    if value not in _WORDS:
        raise ContractError(f"{component.name!r} has {attribute} = {value!r}; expected one of {', '.join(_WORDS)}")
    return value


def lacking_access(needy: Attack | Defense, model: Model) -> str:
    """Why an attack or a defense cannot use a model that gives less than it needs; "" if it can.

    Raises:
        ContractError: One of them declares no valid access.
    """
    needed, given = check_access(needy), check_access(model)
    if _WORDS.index(needed) >= _WORDS.index(given):
        return ""
    kind = "attack" if isinstance(needy, Attack) else "defense"
    return f"{kind} {needy.name!r} needs {needed}, and model {model.name!r} gives only {given}"


def restricted(attack: str, access: Access, logits: torch.Tensor) -> torch.Tensor:
    """What an attack with this access gets of a classifier's answer.

    Args:
        attack: What messages call the attack.
        access: Its access.
        logits: Shape (batch, classes). Anything else is returned as it is, for others to refuse.

    Raises:
        ContractError: The attack has access to nothing.
    """
    if access == "nothing":
        raise ContractError(
            f"{attack} called the model, but declares access = 'nothing'; declare what it needs: 'labels', 'scores' "
            "or 'gradients'"
        )
    if access == "gradients" or getattr(logits, "ndim", 0) != 2:
        return logits
    if access == "scores":
        return logits.detach()
    import torch

    return torch.nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1]).to(torch.float32)


def restricted_score(access: Access, score: torch.Tensor | None) -> torch.Tensor | None:
    """What an attack with this access gets of a detector's score, shape (batch,): with ``labels``, its sign alone."""
    if access == "gradients" or score is None:
        return score
    if access == "scores":
        return score.detach()
    import torch

    return torch.where(score > 0, 1.0, -1.0)
