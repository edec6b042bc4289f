"""Checks of the views of defenses that attacks ask for. Imports no torch."""

from __future__ import annotations

from advbench.api import AdaptiveView, Attack, ContractError

__all__ = ["check_view"]


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
