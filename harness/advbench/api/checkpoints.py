"""State dicts from files of the user's own, of which nothing is ever run."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from advbench.api.names import fitted
from advbench.errors import WeightsError, describe

__all__ = ["fill", "read_state_dict"]

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
"""Under which keys training scripts put the weights, beside optimisers and epochs; the first that is there counts."""

_VALUES = ("_extra_state", "_packed_params", ".dtype")
"""How the names of entries end that may be no tensors: extra state, and what quantised layers keep."""


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Reads the weights in a ``.safetensors`` file, or in what ``torch.save`` made of a state dict.

    A state dict under one of the usual keys of a training checkpoint is found, and the names that
    ``torch.nn.DataParallel`` and ``torch.compile`` give lose their beginning.

    Args:
        path: The file.

    Returns:
        The tensors by name, on the CPU; of quantised layers plain values, too.

    Raises:
        WeightsError: There is no such file, it is damaged, or holds anything but tensors and plain values: a pickle
            could run code, and nothing of it is run.
    """
    state = _read(path)
    plain = {name.replace("_orig_mod.", ""): tensor for name, tensor in state.items()}
    if all(name.startswith("module.") for name in plain):
        return {name.removeprefix("module."): tensor for name, tensor in plain.items()}
    return plain


def _read(path: Path) -> Mapping[str, Any]:
    """The state dict under the names that it has."""
    if not path.is_file():
        raise WeightsError(f"weights {path}: no such file; give the path of a state dict")
    content = _safetensors(path) if path.suffix == ".safetensors" else _saved(path)
    while isinstance(content, Mapping):
        inner = [content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping) and content[key]]
        if not inner:
            break
        content = inner[0]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"weights {path} hold {type(content).__name__}, no state dict; {_REMEDY}")
    for name, value in content.items():
        known = isinstance(value, torch.Tensor) or str(name).endswith(_VALUES)
        if not isinstance(name, str) or not known:
            raise WeightsError(f"weights {path}: {name!r} is no tensor, so that this is no state dict; {_REMEDY}")
    return content


_REMEDY = "save torch.save(network.state_dict(), FILE), or a .safetensors file"


def fill(network: torch.nn.Module, path: Path) -> torch.nn.Module:
    """Gives a network the weights of a file; takes and raises as :func:`read_state_dict`.

    Names may differ from the network's by what wrappers put before them, such as ``module.`` or ``model.``.

    Raises:
        WeightsError: The weights are another network's, too.
    """
    state = _read(path)
    named: Mapping[str, Any] = fitted(state, network)
    if named.keys() == state.keys():
        named = state  # with the versions of its layers, by which old ones are read
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
        with warnings.catch_warnings():  # of old pickles, which are refused anyway
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"weights {path} hold more than tensors, or no torch.save file at all; loading them could run code, so "
            f"nothing of them was run; {_REMEDY}"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        if "TorchScript" in str(error):
            raise WeightsError(
                f"weights {path} are a whole network of torch.jit.save, whose program is not run as weights; "
                f"give it as torch-module:build={path}, or {_REMEDY}"
            ) from error
        raise WeightsError(f"weights {path} cannot be read ({describe(error)}); {_REMEDY}") from error
