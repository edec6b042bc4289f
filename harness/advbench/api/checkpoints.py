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

from advbench.errors import WeightsError, describe

__all__ = ["fill", "read_state_dict"]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Under which keys training scripts put the weights, beside optimisers and epochs."""

_PARALLEL = "module."
"""What ``torch.nn.DataParallel`` puts before every name."""


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Reads the weights in a ``.safetensors`` file, or in what ``torch.save`` made of a state dict.

    A state dict under one of the usual keys of a training checkpoint is found, and the names that
    ``torch.nn.DataParallel`` gives lose their beginning.

    Args:
        path: The file.

    Returns:
        The tensors by name, on the CPU.

    Raises:
        WeightsError: There is no such file, it is damaged, or holds anything but tensors and plain values: a pickle
            could run code, and nothing of it is run.
    """
    if not path.is_file():
        raise WeightsError(f"weights {path}: no such file; give the path of a state dict")
    content = _safetensors(path) if path.suffix == ".safetensors" else _saved(path)
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"weights {path} hold {type(content).__name__}, no state dict; {_REMEDY}")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise WeightsError(f"weights {path}: {name!r} is no tensor, so that this is no state dict; {_REMEDY}")
    if all(name.startswith(_PARALLEL) for name in content):
        return {name.removeprefix(_PARALLEL): tensor for name, tensor in content.items()}
    return dict(content)


_REMEDY = "save torch.save(network.state_dict(), FILE), or a .safetensors file"


def fill(network: torch.nn.Module, path: Path) -> torch.nn.Module:
    """Gives a network the weights of a file; takes and raises as :func:`read_state_dict`.

    Raises:
        WeightsError: The weights are another network's, too.
    """
    state = read_state_dict(path)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = describe(error).partition(": ")[2]
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
        raise WeightsError(f"weights {path} cannot be read ({describe(error)}); {_REMEDY}") from error
