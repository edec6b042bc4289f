"""Advice for making an attack stronger, from the parameters that it has."""

from __future__ import annotations

from advbench.analysis.sanity.finding import FinishedCell

__all__ = ["ITERATIVE", "more_draws", "stronger"]

ITERATIVE = ("steps", "restarts", "queries")
"""Parameters that make an attack stronger if they are larger."""

_ENSEMBLE, _ENSEMBLE_NORMS = "autoattack", ("linf", "l2")


def stronger(cell: FinishedCell) -> str:
    """How to make a cell's attack stronger: more draws, larger parameters, or another attack.

    AutoAttack is suggested if the attack is another one and has a budget in a norm that AutoAttack supports.
    """
    ways = []
    draws = more_draws(cell)
    if draws:
        ways.append(draws)
    has = [name for name in ITERATIVE if name in cell["parameters"]]
    if has:
        ways.append(f"give it more {' or '.join(has)}")
    budget, name = cell.budget, cell.described["attack"].partition(":")[0]
    if budget is not None and budget[0] in _ENSEMBLE_NORMS and name != _ENSEMBLE:
        ways.append(f"use {_ENSEMBLE}")
    return ", or ".join(ways) or "use another attack"


def more_draws(cell: FinishedCell) -> str:
    """The option that averages the gradient over more draws; empty if no stochastic classifier was attacked."""
    draws = cell["draws_a_gradient"]
    if not cell.attack_draws or cell["attack_access"] == "nothing" or not draws:
        return ""
    drawn = "model" if cell.draws_model else "defense"
    return f"average over more draws of the {drawn}, with eot set to {max(10, 2 * draws)}"
