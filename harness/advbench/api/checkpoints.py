"""Reading state dicts from the user's own files, without running any code in them."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from advbench.api.state_dict_names import match_names
from advbench.errors import WeightsError, describe

__all__ = ["load_state", "read_state_dict"]

_WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
)
"""Keys under which training scripts store the weights, beside optimisers and epochs; the first one present is used."""

_VALUES = ("_extra_state", "_packed_params", ".dtype")
"""Name endings of entries that need not be tensors: extra state, and the values that quantised layers store."""


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Reads the weights in a ``.safetensors`` file, or in a state dict saved by ``torch.save``.

    The state dict may be stored under one of the usual keys of a training checkpoint. The prefixes that
    ``torch.nn.DataParallel`` and ``torch.compile`` add to names are removed.

    Args:
        path: The file.

    Returns:
        The tensors by name, on the CPU; for quantised layers also plain values.

    Raises:
        WeightsError: The file is missing or damaged, or contains anything but tensors and plain values. No code in the
            file is executed, even if the file is a pickle.
    """
    state = _read(path)
    plain = {name.replace("_orig_mod.", ""): tensor for name, tensor in state.items()}
    if all(name.startswith("module.") for name in plain):
        return {name.removeprefix("module."): tensor for name, tensor in plain.items()}
    return plain


def _read(path: Path) -> Mapping[str, Any]:
    """Reads the state dict with the names that the file gives."""
    if not path.is_file():
        raise WeightsError(f"weights {path}: no such file; give the path of a state dict")
    content = _safetensors(path) if path.suffix == ".safetensors" else _saved(path)
    while isinstance(content, Mapping):
        inner = [content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping) and content[key]]
        if not inner:
            break
        content = inner[0]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"weights {path} hold {type(content).__name__}, not a state dict; {_REMEDY}")
    for name, value in content.items():
        known = isinstance(value, torch.Tensor) or str(name).endswith(_VALUES)
        if not isinstance(name, str) or not known:
            raise WeightsError(f"weights {path}: {name!r} is not a tensor, so this is not a state dict; {_REMEDY}")
    return content


_REMEDY = "save torch.save(network.state_dict(), FILE), or a .safetensors file"


def load_state(network: torch.nn.Module, path: Path) -> torch.nn.Module:
    """Loads the weights of a file into a network.

    Takes the same files as :func:`read_state_dict`. Names may differ from the network's by the prefix of a wrapper,
    such as ``module.`` or ``model.``.

    Args:
        network: The network; its weights are replaced.
        path: The file.

    Returns:
        The same network.

    Raises:
        WeightsError: As for :func:`read_state_dict`, or the weights belong to another network.
    """
    state = _read(path)
    named: Mapping[str, Any] = match_names(state, network)
    if named.keys() == state.keys():
        named = state  # unlike a copy, it carries the layers' versions, which torch needs to read old state dicts
    try:
        network.load_state_dict(named)
    except Exception as error:
        text = describe(error)
        reason = text.partition(": ")[2] if isinstance(error, RuntimeError) else text
        raise WeightsError(f"weights {path} do not fit {type(network).__name__}: {reason}") from error
    return network


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"weights {path} are not readable as safetensors ({describe(error)})") from error


def _saved(path: Path) -> Any:
    try:
        with warnings.catch_warnings():  # torch warns about old pickles, which are refused anyway
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"weights {path} hold more than tensors, or are not a torch.save file; loading them could run code, so "
            f"they were not loaded; {_REMEDY}"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        if "TorchScript" in str(error):
            raise WeightsError(
                f"weights {path} are a whole network saved by torch.jit.save, not a state dict; "
                f"give it as torch-module:build={path}, or {_REMEDY}"
            ) from error
        raise WeightsError(f"weights {path} cannot be read ({describe(error)}); {_REMEDY}") from error
