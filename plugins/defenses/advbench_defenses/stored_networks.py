"""Networks of defenses whose parameter ``weights`` is ``shipped`` or the path of a .safetensors file."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from advbench.api import ParameterError, WeightsError, load_weights

__all__ = ["SHIPPED", "SHIPPED_FOLDER", "check_weights", "load_network"]

SHIPPED = "shipped"
SHIPPED_FOLDER = Path(__file__).parent / "weights"

Network = TypeVar("Network", bound=nn.Module)


def check_weights(weights: str) -> None:
    """Validates the parameter ``weights``.

    Raises:
        ParameterError: It is neither ``shipped`` nor the path of a .safetensors file.
    """
    if weights != SHIPPED and Path(weights).suffix != ".safetensors":
        raise ParameterError(f"weights={weights}: must be {SHIPPED!r} or the path of a .safetensors file")


def load_network(
    build: Callable[..., Network],
    arguments: tuple[int, ...],
    path: Path,
    device: torch.device,
    *,
    owner: str,
    remedy: str,
    memory_format: torch.memory_format = torch.channels_last,
) -> Network:
    """Returns a network with its weights, frozen and in eval mode; kept until the file changes, as each batch needs it.

    Args:
        build: Builds the network.
        arguments: The arguments of ``build``.
        path: The weights file.
        device: The device of the network.
        owner: What the weights should be of, for messages, such as ``a denoiser``.
        remedy: What to do if the weights are missing or damaged.
        memory_format: The memory format of the weights of convolutions.

    Raises:
        WeightsError: The weights are missing, damaged or another network's.
    """
    state = path.stat() if path.is_file() else None
    version = (0, 0) if state is None else (state.st_mtime_ns, state.st_size)
    messages = owner, remedy
    return _load(build, arguments, (path, *version), (device, memory_format), messages)  # type: ignore[return-value]


@functools.lru_cache(maxsize=16)
def _load(
    build: Callable[..., nn.Module],
    arguments: tuple[int, ...],
    file: tuple[Path, int, int],
    place: tuple[torch.device, torch.memory_format],
    messages: tuple[str, str],
) -> nn.Module:
    (path, *_), (device, memory_format), (owner, remedy) = file, place, messages  # a changed file is another network
    with torch.inference_mode(mode=False):  # tensors of inference mode have no gradients
        network = build(*arguments)
        try:
            network.load_state_dict(load_weights(path, remedy))
        except RuntimeError as error:
            raise WeightsError(f"weights {path} are not those of {owner} ({error}); {remedy}") from error
        network.to(device, memory_format=memory_format)  # type: ignore[call-overload]
        return network.eval().requires_grad_(False)
