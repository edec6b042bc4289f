"""What defines a network besides its weights, to check that no component changes it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["network_snapshot"]

_PLAIN = (bool, int, float, str, tuple, type(None))


def network_snapshot(network: torch.nn.Module) -> list[Any]:
    """The layers of a network: their classes, hooks, replaced methods, and the settings of torch's own layers.

    Attributes that the user's own layers keep, such as counters, are left out.

    Returns:
        A list that equals an earlier snapshot if none of these has changed.
    """
    snapshot: list[Any] = []
    for name, layer in network.named_modules():
        layer_class, attributes = type(layer), vars(layer)
        settings = _settings(layer_class)
        snapshot.append((name, layer_class))
        for key, value in attributes.items():
            if key.endswith("_hooks"):
                snapshot += [(key, *value.values())] if value else []
            elif (callable(value) and callable(getattr(layer_class, key, None))) or (
                key in settings and isinstance(value, _PLAIN)
            ):
                snapshot.append((key, value))
    return snapshot


def _settings(layer_class: type[torch.nn.Module]) -> frozenset[str]:
    """The names of the constructor's arguments of a layer of torch; none for other layers."""
    if not layer_class.__module__.startswith("torch.nn."):
        return frozenset()
    return _arguments(layer_class.__init__)


@functools.lru_cache(maxsize=1024)
def _arguments(function: Callable[..., None]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)
