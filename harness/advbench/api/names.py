"""The names in a file of weights beside those of a network: what wrappers put before them is taken off or on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch

__all__ = ["fitted"]

_COMPILED = "_orig_mod."
"""What ``torch.compile`` puts into names, at any place."""

_COUNTER = "num_batches_tracked"
"""A buffer that batch normalisation has not always had, and that no answer depends on."""


def fitted(state: Mapping[str, Any], network: torch.nn.Module) -> dict[str, Any]:
    """A state dict under the names that a network has, where that can be told.

    Names may differ by ``_orig_mod.`` (``torch.compile``) and by what stands before all of them, such as ``module.``
    (``torch.nn.DataParallel``) or ``model.``; where others stand beside those of one such beginning, as the optimiser's
    or a metric's in Lightning's checkpoints, that one is taken if it has exactly what the network has. Tensors that
    a network uses twice may have one of their names.

    Returns:
        The state dict under the network's names; as it is where they cannot be told.
    """
    own = network.state_dict(keep_vars=True)
    named = dict(state)
    if not _lacking(named, own) and len(named) <= len(own):
        return named
    for theirs in _variants(named):
        for ours in _variants({name: name for name in own}):
            found = {ours[name]: value for name, value in theirs.items() if name in ours}
            if len(found) < len(theirs):
                continue  # it has what the network has not
            found |= _tied(found, own)
            if not _lacking(found, own):
                return found
    return named | _tied(named, own)


def _variants(state: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The same values under names with ever less before them."""
    yield dict(state)
    plain = {name.replace(_COMPILED, ""): value for name, value in state.items()}
    while plain:
        yield plain
        first = {name.partition(".")[0] for name in plain}
        if len(first) > 1:
            for one in sorted(first):
                yield {name[len(one) + 1 :]: value for name, value in plain.items() if name.startswith(f"{one}.")}
            return
        shorter = {name.partition(".")[2]: value for name, value in plain.items()}
        if "" in shorter:
            return
        plain = shorter


def _lacking(state: Collection[str], own: Mapping[str, Any]) -> set[str]:
    """What the network has and the state dict has not."""
    return {name for name in own if name not in state and not name.endswith(_COUNTER)}


def _tied(state: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that a state dict lacks and has under another name of the same tensor."""
    places = {id(own[name]): value for name, value in state.items() if name in own}
    return {name: places[id(tensor)] for name, tensor in own.items() if name not in state and id(tensor) in places}
