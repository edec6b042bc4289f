"""What the layers of a network compute by, beside their weights."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["wiring"]

_PLAIN = (bool, int, float, str, tuple, type(None))


def wiring(network: torch.nn.Module) -> list[Any]:
    """The layers of a network with their classes, hooks, replaced methods, and the settings of torch's own layers.

    Attributes that the user's own layers keep, such as counters, are not part of it.

    Returns:
        A list that equals an earlier one where none of these has changed.
    """
    found: list[Any] = []
    for name, layer in network.named_modules():
        kind, own = type(layer), vars(layer)
        settings = _settings(kind)
        found.append((name, kind))
        for key, value in own.items():
            if key.endswith("_hooks"):
                found += [(key, *value.values())] if value else []
            elif (callable(value) and callable(getattr(kind, key, None))) or (
                key in settings and isinstance(value, _PLAIN)
            ):
                found.append((key, value))
    return found


def _settings(kind: type[torch.nn.Module]) -> frozenset[str]:
    """The arguments that a layer of torch takes when it is made; none for those of others."""
    if not kind.__module__.startswith("torch.nn."):
        return frozenset()
    return _arguments(kind.__init__)


@functools.lru_cache(maxsize=1024)
def _arguments(function: Callable[..., None]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)
