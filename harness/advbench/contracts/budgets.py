"""What an attack declares about itself, held to its contract. Imports no torch."""

from __future__ import annotations

import math
from typing import get_args

from advbench.api import AdaptiveView, Attack, Budget, ContractError, LpBall, Norm, PerturbationSet
from advbench.api.perturbation import SetKind

__all__ = ["check_budget", "check_group_size", "check_norm", "check_perturbation", "check_view", "is_minimal"]


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
        raise ContractError(
            f"attack {attack.name!r} has the budget {budget!r}; expected None or a Budget(norm, eps) with a finite eps "
            f"of at least 0 and one of the norms {', '.join(get_args(Norm))}"
        )
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


def check_perturbation(attack: Attack) -> PerturbationSet:
    """Returns the attack's perturbation set.

    Raises:
        ContractError: It is no perturbation set, contradicts the attack's budget or norm, or is a corruption of an
            attack that uses the model.
    """
    budget, norm = check_budget(attack), check_norm(attack)
    declared = LpBall(norm) if budget is None else LpBall(budget.norm, budget.eps)
    found = attack.perturbation()
    label = f"attack {attack.name!r} has the perturbation set {found!r}"
    if not isinstance(found, PerturbationSet) or getattr(found, "kind", None) not in get_args(SetKind):
        raise ContractError(f"{label}; expected one of advbench.api, such as Patch(area=0.05)")
    if found.kind == "lp" and found != declared:
        raise ContractError(f"{label}, but budget() and minimized_norm() give {declared!r}; override these alone")
    if found.kind != "lp" and (budget is not None or norm is not None):
        raise ContractError(f"{label} and the Lp ball {declared.label()!r}; an attack has one set")
    if found.kind == "corruption" and attack.access != "nothing":
        raise ContractError(f"{label}, but its access is {attack.access!r}; a corruption does not use the model")
    text = found.label()
    if not isinstance(text, str) or not text or text != " ".join(text.split()):
        raise ContractError(f"{label}, whose label() is {text!r}; expected one line of text")
    return found


def is_minimal(attack: Attack) -> bool:
    """Whether the attack searches for the smallest perturbation in a norm, without a bound."""
    return attack.budget() is None and attack.perturbation().kind == "lp"


def check_view(attack: Attack) -> AdaptiveView:
    """Returns the view that an attack asks for; that of the run if it asks for none.

    Raises:
        ContractError: It is no valid view.
    """
    view: object = attack.view
    if view is None:
        return AdaptiveView()
    if not isinstance(view, AdaptiveView):
        raise ContractError(f"attack {attack.name!r} has view = {view!r}; expected an AdaptiveView or None")
    for value in (*view.approximations, *(() if view.draws is None else (view.draws,))):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ContractError(f"attack {attack.name!r} has view = {view!r}; expected whole numbers from 1")
    return view
