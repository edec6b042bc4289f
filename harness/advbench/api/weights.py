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

__all__ = ["load_weights", "save_weights", "sidecar_path", "verified_digest"]


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


def verified_digest(path: Path, remedy: str) -> str:
    """The weights' SHA-256, after checking the file against its sidecar.

    Args:
        path: The weights file.
        remedy: What to do when they are missing or damaged, such as the command that trains them.

    Raises:
        WeightsError: The weights are missing, truncated or not the recorded ones.
    """
    return _verified(path, remedy)[1]


def load_weights(path: Path, remedy: str) -> dict[str, torch.Tensor]:
    """Reads a state dict after checking the file against its sidecar; takes and raises as :func:`verified_digest`."""
    content, _ = _verified(path, remedy)
    try:
        return load(content)
    except SafetensorError as error:
        raise WeightsError(f"weights {path} are not readable as safetensors ({error}); {remedy}") from error


def _verified(path: Path, remedy: str) -> tuple[bytes, str]:
    """The file's content and its SHA-256, which is the recorded one."""
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
        raise WeightsError(f"{sidecar}, which records the weights' digest, is missing; {remedy}") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{sidecar} is not readable ({error}); {remedy}") from error
    if not isinstance(record, dict) or not isinstance(record.get("sha256"), str):
        raise WeightsError(f"{sidecar} records no sha256; {remedy}")
    return str(record["sha256"])
