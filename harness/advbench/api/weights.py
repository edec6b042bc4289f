"""Trained weights on disk: safetensors, with a sidecar JSON that records their origin.

The sidecar has the name of the weights file with the suffix ``.json``. It records the SHA-256 of the
weights file, which is checked each time the weights are read. Nothing is ever unpickled.

A tensor may be stored in 8 bits: as integers from -127 to 127, with one scale for each index of the first
dimension in an entry whose name ends in ``:scale``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from advbench.api.files import replace_atomically, sha256_file, write_atomically
from advbench.errors import UsageError, WeightsError

__all__ = ["load_weights", "save_weights", "sidecar_path", "verified_digest"]

_SCALE = ":scale"


def sidecar_path(weights: Path) -> Path:
    """Path of the sidecar: ``mnist-cnn.json`` for ``mnist-cnn.safetensors``."""
    return weights.with_suffix(".json")


def save_weights(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    provenance: Mapping[str, Any],
    *,
    eight_bit: Collection[str] = (),
) -> str:
    """Writes weights and their sidecar, each atomically.

    Args:
        path: The file, ending in ``.safetensors``.
        tensors: A state dict.
        provenance: Further entries of the sidecar, such as recipe, seed, data digest, accuracy and versions.
        eight_bit: Names of floating-point tensors to store in 8 bits, which takes a quarter of the size. The error of a
            value is at most 1/254 of the largest absolute value at the same index of the first dimension.

    Returns:
        SHA-256 of the weights file.

    Raises:
        UsageError: The files cannot be written.
    """
    stored: dict[str, torch.Tensor] = {}
    for key, value in tensors.items():
        tensor = value.detach().cpu().contiguous()
        stored |= _quantise(key, tensor) if key in eight_bit else {key: tensor}
    try:
        with replace_atomically(path) as temporary:
            save_file(stored, temporary)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(f"weights {path} cannot be written ({reason}); fix that and repeat the command") from error
    digest = sha256_file(path)
    sidecar = {"sha256": digest, **provenance}
    write_atomically(sidecar_path(path), (json.dumps(sidecar, indent=2) + "\n").encode())
    return digest


def verified_digest(path: Path, remedy: str) -> str:
    """Checks a weights file against its sidecar and returns its SHA-256.

    Args:
        path: The weights file.
        remedy: What to do if the weights are missing or damaged, such as the command that trains them.

    Raises:
        WeightsError: The weights are missing, truncated or not the recorded ones.
    """
    return _verified(path, remedy)[1]


def load_weights(path: Path, remedy: str) -> dict[str, torch.Tensor]:
    """Checks a weights file against its sidecar and reads the state dict.

    Args:
        path: The weights file.
        remedy: As for :func:`verified_digest`.

    Returns:
        The tensors by name, on the CPU, in their original type.

    Raises:
        WeightsError: As for :func:`verified_digest`.
    """
    content, _ = _verified(path, remedy)
    try:
        return _dequantise(load(content))
    except SafetensorError as error:
        raise WeightsError(f"weights {path} are not readable as safetensors ({error}); {remedy}") from error


def _quantise(key: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    rows = tensor.flatten(1)
    scale = (rows.abs().amax(dim=1) / 127).clamp(min=torch.finfo(tensor.dtype).tiny)
    quantised = (rows / scale[:, None]).round().to(torch.int8)
    return {key: quantised.reshape(tensor.shape), key + _SCALE: scale}


def _dequantise(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    tensors = {}
    for key, value in stored.items():
        scale = stored.get(key + _SCALE)
        if scale is not None:
            tensors[key] = value.to(scale.dtype) * scale.reshape(-1, *[1] * (value.ndim - 1))
        elif not key.endswith(_SCALE):
            tensors[key] = value
    return tensors


def _verified(path: Path, remedy: str) -> tuple[bytes, str]:
    """Returns the content of the file and its SHA-256, after comparing it with the recorded one."""
    if not path.is_file():
        raise WeightsError(f"weights {path} are missing; {remedy}")
    recorded = _recorded(sidecar_path(path), remedy)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != recorded:
        sidecar = sidecar_path(path).name
        raise WeightsError(f"weights {path} do not match the SHA-256 in {sidecar}: truncated or altered; {remedy}")
    return content, digest


def _recorded(sidecar: Path, remedy: str) -> str:
    try:
        record = json.loads(sidecar.read_text())
    except FileNotFoundError:
        raise WeightsError(f"{sidecar}, which records the digest of the weights, is missing; {remedy}") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{sidecar} is not readable ({error}); {remedy}") from error
    if not isinstance(record, dict) or not isinstance(record.get("sha256"), str):
        raise WeightsError(f"{sidecar} records no sha256; {remedy}")
    return str(record["sha256"])
