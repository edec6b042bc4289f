"""Advice that the attack at hand can take: parameters that it has, and draws where the defense is random."""

from __future__ import annotations

from advbench.analysis.sanity.finding import Seen

__all__ = ["ITERATIVE", "more_draws", "stronger"]

ITERATIVE = ("steps", "restarts", "queries")
"""Parameters of which an attack gets stronger the larger they are."""

_ENSEMBLE, _ITS_NORMS = "autoattack", ("linf", "l2")


def stronger(cell: Seen) -> str:
    """How to make a cell's attack stronger: what it has a parameter for, more draws where it followed few, or another.

    The last is AutoAttack, where the attack is another one and has a budget in a norm that it knows.
    """
    ways = []
    draws = more_draws(cell)
    if draws:
        ways.append(draws)
    has = [name for name in ITERATIVE if name in cell["parameters"]]
    if has:
        ways.append(f"give it more {' or '.join(has)}")
    budget, name = cell.budget, cell.told["attack"].partition(":")[0]
    if budget is not None and budget[0] in _ITS_NORMS and name != _ENSEMBLE:
        ways.append(f"use {_ENSEMBLE}")
    return ", or ".join(ways) or "use another attack"


def more_draws(cell: Seen) -> str:
    """The flag that averages the gradient over more draws, where a stochastic defense was attacked; else nothing."""
    draws = cell["draws_a_gradient"]
    if not cell["stochastic"] or cell["threat"] != "adaptive" or cell["attack_access"] == "nothing" or not draws:
        return ""
    return f"average over more draws of the defense, with --eot {max(10, 2 * draws)}"
