"""Matching the names in a state dict to those of a network, by removing or adding the prefixes of wrappers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch

__all__ = ["match_names"]

_COMPILED = "_orig_mod."
"""Part of a name that ``torch.compile`` inserts, at any level."""

_COUNTER = "num_batches_tracked"
"""A buffer of batch normalisation that old state dicts lack and that does not affect the output in eval mode."""


def match_names(state: Mapping[str, Any], network: torch.nn.Module) -> dict[str, Any]:
    """Renames the entries of a state dict to the names that a network uses, if that is possible.

    Names may differ by ``_orig_mod.`` (``torch.compile``) and by a common prefix, such as ``module.``
    (``torch.nn.DataParallel``) or ``model.``. If there are several prefixes, as in Lightning checkpoints with entries
    of an optimiser or a metric, the one whose entries are exactly the network's is used. A tensor that the network uses
    under two names may be stored under only one of them.

    Args:
        state: The state dict.
        network: The network that is to load it.

    Returns:
        The state dict with the network's names; unchanged if the names do not match.
    """
    own = network.state_dict(keep_vars=True)
    named = dict(state)
    if not _lacking(named, own) and len(named) <= len(own):
        return named
    for file_names in _variants(named):
        for network_names in _variants({name: name for name in own}):
            matched = {network_names[name]: value for name, value in file_names.items() if name in network_names}
            if len(matched) < len(file_names):
                continue  # the file has entries that the network lacks
            matched |= _tied(matched, own)
            if not _lacking(matched, own):
                return matched
    return named | _tied(named, own)


def _variants(state: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the same values under names with one more prefix removed each time."""
    yield dict(state)
    plain = {name.replace(_COMPILED, ""): value for name, value in state.items()}
    while plain:
        yield plain
        first = {name.partition(".")[0] for name in plain}
        if len(first) > 1:
            for prefix in sorted(first):
                yield {name[len(prefix) + 1 :]: value for name, value in plain.items() if name.startswith(f"{prefix}.")}
            return
        shorter = {name.partition(".")[2]: value for name, value in plain.items()}
        if "" in shorter:
            return
        plain = shorter


def _lacking(state: Collection[str], own: Mapping[str, Any]) -> set[str]:
    """Names of the network that the state dict lacks."""
    return {name for name in own if name not in state and not name.endswith(_COUNTER)}


def _tied(state: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Entries that the state dict lacks but holds under another name of the same (tied) tensor."""
    by_tensor = {id(own[name]): value for name, value in state.items() if name in own}
    return {
        name: by_tensor[id(tensor)] for name, tensor in own.items() if name not in state and id(tensor) in by_tensor
    }
