"""A digest of the state of a network, for all kinds of tensors and values."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from advbench.errors import WeightsError

__all__ = ["state_digest"]


def state_digest(network: torch.nn.Module) -> str:
    """SHA-256 over the names, types, shapes and values of a network's state dict.

    Tensors may have any type and layout, may be scalars or empty, quantised or sparse. Extra state may be any value.
    For a ScriptModule, the tensors in its program are included.

    Raises:
        WeightsError: A lazy layer has no shape yet.
    """
    sha = hashlib.sha256()
    for name, value in network.state_dict(keep_vars=True).items():
        if is_lazy(value):
            raise WeightsError(
                f"{type(network).__name__}: {name} belongs to a lazy layer that has no shape yet; call the network on "
                "an image after building it"
            )
        _update(sha, name, value)
    for part in network.modules():
        if isinstance(part, torch.jit.ScriptModule):
            _update_constants(sha, part)
    return sha.hexdigest()


def _update_constants(sha: Any, network: torch.jit.ScriptModule) -> None:
    """Adds the constant tensors of a program, which hold the weights after ``torch.jit.freeze``.

    Constant numbers are left out: they are part of the code, or settings of the process that traced it.
    """
    graph = getattr(network, "inlined_graph", None)
    for node in () if graph is None else graph.findAllNodes("prim::Constant"):
        if node.hasAttribute("value") and node.kindOf("value") == "t":
            _update(sha, "constant", node.t("value"))


def _update(sha: Any, name: str, value: Any) -> None:
    """Adds a named value to the digest."""
    if isinstance(value, torch.Tensor):
        _update_tensor(sha, name, value.detach())
    elif isinstance(value, Mapping):
        sha.update(f"{name}\0{type(value).__name__} of {len(value)}\0".encode())
        for key, item in value.items():
            _update(sha, f"{name}[{key!r}]", item)
    elif isinstance(value, (list, tuple)):
        sha.update(f"{name}\0{type(value).__name__} of {len(value)}\0".encode())
        for index, item in enumerate(value):
            _update(sha, f"{name}[{index}]", item)
    elif isinstance(value, (set, frozenset)):
        _update(sha, name, sorted(repr(item) for item in value))
    elif isinstance(value, _PLAIN):
        sha.update(f"{name}\0{value!r}\0".encode())
    else:
        sha.update(f"{name}\0{type(value).__qualname__}\0".encode())
        _update_object(sha, name, value)


_PLAIN = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)


def _update_object(sha: Any, name: str, value: Any) -> None:
    """Adds an object to the digest, as an array, by its attributes or by its pickle, if it has one of these."""
    if hasattr(value, "__array__"):
        array = value.__array__()
        sha.update(f"{array.dtype}{array.shape}\0".encode())
        sha.update(repr(array.tolist()).encode() if array.dtype == object else array.tobytes())
    elif isinstance(getattr(value, "__dict__", None), dict) and vars(value):
        _update(sha, name, vars(value))
    else:
        try:
            sha.update(pickle.dumps(value, protocol=4))
        except Exception:  # an object that cannot be pickled has no state that could be compared
            return


def _update_tensor(sha: Any, name: str, tensor: torch.Tensor) -> None:
    """Adds a tensor to the digest: its type, shape and bytes."""
    if tensor.is_nested:
        _update(sha, name, tensor.unbind())
        return
    sha.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
    if tensor.is_meta:
        return
    if tensor.is_quantized:
        _update_quantised(sha, name, tensor)
    elif tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce()
        _update_tensor(sha, "indices", tensor.indices())
        _update_tensor(sha, "values", tensor.values())
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        for part in (tensor.crow_indices(), tensor.col_indices(), tensor.values()):
            _update_tensor(sha, "part", part)
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        for part in (tensor.ccol_indices(), tensor.row_indices(), tensor.values()):
            _update_tensor(sha, "part", part)
    elif tensor.layout != torch.strided:
        _update_tensor(sha, "dense", tensor.to_dense())
    elif tensor.numel():
        # view(torch.uint8) needs at least one dimension.
        flat = tensor.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
        sha.update(flat.view(torch.uint8).numpy())


def _update_quantised(sha: Any, name: str, tensor: torch.Tensor) -> None:
    if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        _update(sha, name, (tensor.q_scale(), tensor.q_zero_point()))
    else:
        _update(sha, name, (tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()))
    _update_tensor(sha, name, tensor.int_repr())
