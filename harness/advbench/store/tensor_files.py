"""Entries of the store that hold tensors: safetensors files whose header has the key inputs and a checksum."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advbench.store.digests import canonical_json, digest_of
from advbench.store.entries import tensors_digest

if TYPE_CHECKING:
    import torch

__all__ = ["read_tensor_file", "write_tensor_file"]


def read_tensor_file(
    path: Path, key: str, part: tuple[int, int] | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Reads the tensors of an entry and its record; None if the file is damaged or holds another entry.

    Raises:
        FileNotFoundError: There is no such file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for a writer
            return None
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["advbench"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError):
        return None
    record, stored_part = header.get("record"), header.get("part")
    valid = digest_of(header.get("material")) == key and (stored_part or None) == (part and list(part))
    if not valid or header.get("sha256") != tensors_digest(tensors, record):
        return None
    return tensors, record


def write_tensor_file(
    path: Path,
    key_inputs: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    record: Mapping[str, Any],
    part: tuple[int, int] | None = None,
) -> None:
    """Writes what :func:`read_tensor_file` reads.

    Raises:
        OSError: The file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    header: dict[str, Any] = {"sha256": tensors_digest(tensors, record), "material": key_inputs, "record": record}
    if part is not None:
        header["part"] = list(part)
    try:
        # An attack may return images with the channels last in memory, which safetensors refuses.
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, path, metadata={"advbench": canonical_json(header).decode()})
    except SafetensorError as error:
        raise OSError(str(error)) from error
