"""What attacks and defenses need of a model, and what models give: the same words. Imports no torch."""

from __future__ import annotations

from typing import get_args

from advbench.api import Access, Attack, ContractError, Defense, Model

__all__ = ["check_access", "lacking_access"]

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
