"""Artefacts in files of their own, which users keep and hand on: safetensors with a description of what was fitted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advbench.api.files import replace_atomically
from advbench.store.digests import canonical_json

if TYPE_CHECKING:
    import torch

__all__ = ["read_artefact_file", "read_artefact_header", "write_artefact_file"]

_VERSION = 1
_LONGEST_HEADER = 1 << 20
"""The length limit of the header of a file, in bytes."""


def write_artefact_file(
    path: Path, tensors: Mapping[str, torch.Tensor], values: Mapping[str, float | str], facts: Mapping[str, Any]
) -> None:
    """Writes an artefact.

    Args:
        path: The file.
        tensors: Its tensors by name.
        values: Its numbers and texts by name.
        facts: What it is of: ``attack``, ``spec``, ``model``, ``weights``, ``image_shape`` and ``num_classes``.

    Raises:
        OSError: The file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    header = {**facts, "artefact": _VERSION, "values": dict(values)}
    try:
        with replace_atomically(path) as temporary:
            save_file(dict(tensors), temporary, metadata={"advbench": canonical_json(header).decode()})
    except SafetensorError as error:
        raise OSError(str(error)) from error


def read_artefact_header(path: Path) -> dict[str, Any] | None:
    """The facts of an artefact, with its ``values``, without its tensors; None if the file holds no artefact.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        content = file.read(length) if length <= _LONGEST_HEADER else b""
    try:
        header = json.loads(json.loads(content)["__metadata__"]["advbench"])
        return header if isinstance(header, dict) and header.get("artefact") == _VERSION else None
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def read_artefact_file(path: Path) -> dict[str, torch.Tensor | float | str]:
    """The tensors, numbers and texts of an artefact by name.

    Raises:
        OSError: The file cannot be read, or holds no artefact.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    header = read_artefact_header(path)
    if header is None:
        raise OSError("it holds no artefact")
    try:
        return {**load_file(path), **header["values"]}
    except SafetensorError as error:
        raise OSError(str(error)) from error
