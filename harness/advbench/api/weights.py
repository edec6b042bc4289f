"""Trained weights on disk: safetensors, with a sidecar JSON that says where they come from.

The sidecar stands beside the weights under the same name with ``.json``. It records the SHA-256 of the
weights file, which is checked each time they are read. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load, save_file

from advbench.api.files import replace_atomically, sha256_file, write_atomically
from advbench.errors import WeightsError

if TYPE_CHECKING:
    import torch

__all__ = ["load_weights", "recorded_digest", "save_weights", "sidecar_path"]


def sidecar_path(weights: Path) -> Path:
    """The sidecar's path: ``mnist-cnn.safetensors`` has ``mnist-cnn.json``."""
    return weights.with_suffix(".json")


def save_weights(path: Path, tensors: Mapping[str, torch.Tensor], provenance: Mapping[str, Any]) -> str:
    """Writes weights and their sidecar, each atomically.

    Args:
        path: Where to, ending in ``.safetensors``.
        tensors: A state dict.
        provenance: What the sidecar says beside the digest: recipe, seed, data digest, accuracy, versions.

    Returns:
        SHA-256 of the weights file.
    """
    with replace_atomically(path) as temporary:
        save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, temporary)
    digest = sha256_file(path)
    sidecar = {"sha256": digest, **provenance}
    write_atomically(sidecar_path(path), (json.dumps(sidecar, indent=2) + "\n").encode())
    return digest


def recorded_digest(path: Path, remedy: str) -> str:
    """The weights' SHA-256 as their sidecar records it; :func:`load_weights` holds the file to it.

    Args:
        path: The weights file.
        remedy: What to do when they are missing or damaged, such as the command that trains them.

    Raises:
        WeightsError: The weights or their sidecar are missing, or the sidecar is unreadable.
    """
    return str(_sidecar(path, remedy)["sha256"])


def load_weights(path: Path, remedy: str) -> dict[str, torch.Tensor]:
    """Reads a state dict after checking the file against its sidecar.

    Raises:
        WeightsError: The weights are missing, truncated or not the recorded ones.
    """
    recorded = _sidecar(path, remedy)["sha256"]
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != recorded:
        raise WeightsError(
            f"weights {path} do not match the SHA-256 in {sidecar_path(path).name}: truncated or altered; {remedy}"
        )
    try:
        return load(content)
    except SafetensorError as error:
        raise WeightsError(f"weights {path} are not readable as safetensors ({error}); {remedy}") from error


def _sidecar(path: Path, remedy: str) -> dict[str, Any]:
    if not path.is_file():
        raise WeightsError(f"weights {path} are missing; {remedy}")
    sidecar = sidecar_path(path)
    try:
        record = json.loads(sidecar.read_text())
    except FileNotFoundError:
        raise WeightsError(f"{sidecar}, which records the weights' digest, is missing; {remedy}") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{sidecar} is not readable ({error}); {remedy}") from error
    if not isinstance(record, dict) or not isinstance(record.get("sha256"), str):
        raise WeightsError(f"{sidecar} records no sha256; {remedy}")
    return record
