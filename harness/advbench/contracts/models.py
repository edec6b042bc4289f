"""Checks of what models return."""

from __future__ import annotations

import inspect

import torch

from advbench.api import ContractError, Float32Network, FunctionNetwork, Model, are_probabilities

__all__ = ["check_logits", "check_takes_rng"]


def check_takes_rng(model: Model, network: torch.nn.Module) -> None:
    """Checks that a network takes ``(images, rng)`` if the model is stochastic, and ``(images)`` if it is not.

    Networks whose signature is unknown, such as programs of TorchScript, are not checked.

    Raises:
        ContractError: The network takes other arguments.
    """
    while isinstance(network, (Float32Network, FunctionNetwork)):  # these take both
        inside = network.network if isinstance(network, Float32Network) else network.function
        if not isinstance(inside, torch.nn.Module):
            return
        network = inside
    try:
        signature = inspect.signature(network.forward)
    except (TypeError, ValueError):
        return
    if _binds(signature, 2 if model.stochastic else 1):
        return
    label = f"model {model.name!r}"
    if model.stochastic:
        raise ContractError(
            f"{label} is declared stochastic, but its network takes {signature}; it must take (images, rng)"
        )
    if _binds(signature, 2):
        raise ContractError(
            f"{label} has a network that takes {signature}; let it take the images alone or, if it takes "
            "(images, rng), declare that the model is stochastic, for torch-module with stochastic=true"
        )


def _binds(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def check_logits(
    name: str, logits: object, count: int, classes: int, *, more: bool = False, labels_only: bool = False
) -> torch.Tensor:
    """Checks that a model's output is finite logits of shape (batch, classes), and no probabilities.

    Args:
        name: The model's name.
        logits: The model's output.
        count: How many images it was given.
        classes: How many classes it has.
        more: Whether it may have more classes.
        labels_only: Whether only the largest entry of each row matters, so that integers and probabilities are allowed.

    Returns:
        Floating-point numbers, shape (batch, classes).

    Raises:
        ContractError: A check failed.
    """
    label = f"model {name!r}"
    if not isinstance(logits, torch.Tensor):
        raise ContractError(f"{label} returned {type(logits).__name__}, not a tensor of logits")
    if logits.is_complex() or not (logits.is_floating_point() or labels_only):
        raise ContractError(f"{label} returned {logits.dtype}; logits are floating-point numbers, such as float32")
    fits = logits.ndim == 2 and len(logits) == count
    if not fits or (logits.shape[1] < classes if more else logits.shape[1] != classes):
        least = ", or more classes" if more else ""
        raise ContractError(f"{label} returned shape {tuple(logits.shape)}; expected {(count, classes)}{least}")
    if not bool(torch.isfinite(logits).all()):
        raise ContractError(f"{label} returned logits that are not finite")
    if labels_only:
        return logits if logits.is_floating_point() else logits.to(torch.float32)
    if are_probabilities(logits):
        raise ContractError(
            f"{label} returned probabilities, which hide gradients from attacks; return logits instead: "
            "leave the softmax out, or use attacks that only need labels, such as noise or "
            "foolbox:attack=HopSkipJumpAttack"
        )
    return logits
