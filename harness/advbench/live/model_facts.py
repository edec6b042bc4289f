"""What the attributes of a live network or function say of the model."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import torch

from advbench.api import Access
from advbench.errors import UsageError

__all__ = ["kind_of", "model_facts", "takes"]


def model_facts(value: Any) -> dict[str, Any]:
    """The attributes of a live model: ``gives``, ``stochastic``, ``classes``, ``probabilities`` and ``tensors``.

    A function without ``gives`` gives gradients, and only ``stochastic`` counts beside. A network may have attributes
    of these names for other purposes: ``gives`` counts if it is a valid text, ``stochastic`` if the network takes
    ``(images, rng)``, and the others only beside ``gives``.

    Returns:
        Class variables of the component that wraps the object.

    Raises:
        UsageError: An attribute of a function has no valid value, or the function takes other arguments.
    """
    if isinstance(value, torch.nn.Module):
        return _network_facts(value)
    where = f"models: {kind_of(value)}"
    declared = hasattr(value, "gives")
    gives, classes = getattr(value, "gives", "gradients"), getattr(value, "classes", None) if declared else None
    if gives not in get_args(Access):
        raise UsageError(f"{where} has gives = {gives!r}; there are: {', '.join(get_args(Access))}")
    named = ("stochastic", "probabilities", "tensors") if declared else ("stochastic",)
    flags = {name: getattr(value, name, False) for name in named}
    wrong = next((name for name, flag in flags.items() if not isinstance(flag, bool)), None)
    if wrong:
        raise UsageError(f"{where} has {wrong} = {flags[wrong]!r}; it must be True or False")
    if classes is not None and not _is_count(classes):
        raise UsageError(f"{where} has classes = {classes!r}; it must be a whole number of at least 2")
    if flags.get("probabilities") and gives != "scores":
        raise UsageError(f"{where} has probabilities = True, which is for gives = 'scores' alone")
    wanted = "(images, rng)" if flags["stochastic"] else "(images)"
    if not takes(value, 1 + flags["stochastic"], unknown=True):
        hint = ", or (images, rng) with the attribute stochastic = True" if not flags["stochastic"] else ""
        raise UsageError(f"{where} takes other arguments; a model takes {wanted}{hint}")
    return {"gives": gives, "num_classes": classes, **flags}


def _network_facts(network: torch.nn.Module) -> dict[str, Any]:
    gives, classes = getattr(network, "gives", None), getattr(network, "classes", None)
    stochastic = getattr(network, "stochastic", None) is True and takes(network.forward, 2)
    if not isinstance(gives, str) or gives not in get_args(Access) or gives == "gradients":
        return {"stochastic": stochastic}
    probabilities = gives == "scores" and getattr(network, "probabilities", None) is True
    counted = {"num_classes": classes} if _is_count(classes) else {}
    return {"gives": gives, "stochastic": stochastic, "probabilities": probabilities, **counted}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 2


def takes(function: Any, count: int, *, unknown: bool = False) -> bool:
    """Whether a function can be called with so many arguments; ``unknown`` if it has no signature, as some in C."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:
        return unknown
    return True


def kind_of(value: Any) -> str:
    """An object's kind and name, for messages."""
    name = getattr(value, "__name__", type(value).__name__)
    return f"the function {name}" if hasattr(value, "__code__") else f"an object of {type(value).__name__}"
