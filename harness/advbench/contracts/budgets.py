"""The budget, the norm and the group size that an attack declares, held to its contract. Imports no torch."""

from __future__ import annotations

import math
from typing import get_args

from advbench.api import Attack, Budget, ContractError, Norm

__all__ = ["check_budget", "check_group_size", "check_norm"]


def check_budget(attack: Attack) -> Budget | None:
    """Returns the attack's budget.

    Raises:
        ContractError: It is neither None nor a budget with a known norm and a finite eps of at least 0.
    """
    budget = attack.budget()
    if budget is None:
        return None
    valid = isinstance(budget, Budget) and budget.norm in get_args(Norm) and math.isfinite(budget.eps)
    if not valid or budget.eps < 0:
        raise ContractError(f"attack {attack.name!r} has the budget {budget!r}; expected a Budget(norm, eps) or None")
    return budget


def check_group_size(attack: Attack) -> int | None:
    """Returns the attack's group size.

    Raises:
        ContractError: It is neither None nor a whole number of at least 1.
    """
    size = attack.group_size
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise ContractError(
            f"attack {attack.name!r} has the group_size {size!r}; expected a whole number above 0, or None"
        )
    return size


def check_norm(attack: Attack) -> Norm | None:
    """Returns the norm of the attack's budget, or the norm that a minimal attack minimises.

    Raises:
        ContractError: There is no such norm, or the budget is invalid.
    """
    budget = check_budget(attack)
    norm = attack.minimized_norm() if budget is None else budget.norm
    if norm is not None and norm not in get_args(Norm):
        expected = ", ".join(get_args(Norm))
        raise ContractError(
            f"attack {attack.name!r} has the minimized_norm {norm!r}; expected one of {expected}, or None"
        )
    return norm
