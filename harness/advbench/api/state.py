"""What a network's state is, whatever kinds of tensors and values it holds, as a digest."""

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

    Tensors may be of any type and layout, of no dimension or no element, quantised or sparse; extra state may be any
    value. Of a ScriptModule the tensors in its program count, too.

    Raises:
        WeightsError: A layer is lazy and has not been given its shape yet.
    """
    sha = hashlib.sha256()
    for name, value in network.state_dict(keep_vars=True).items():
        if is_lazy(value):
            raise WeightsError(
                f"{type(network).__name__}: {name} is of a lazy layer that has no shape yet; let the network classify "
                "an image where it is built"
            )
        _take(sha, name, value)
    for part in network.modules():
        if isinstance(part, torch.jit.ScriptModule):
            _constants(sha, part)
    return sha.hexdigest()


def _constants(sha: Any, network: torch.jit.ScriptModule) -> None:
    """Takes in the tensors that are constants of a program, where ``torch.jit.freeze`` puts the weights.

    Its numbers are code, and some of them settings of the process in which it was traced.
    """
    graph = getattr(network, "inlined_graph", None)
    for node in () if graph is None else graph.findAllNodes("prim::Constant"):
        if node.hasAttribute("value") and node.kindOf("value") == "t":
            _take(sha, "constant", node.t("value"))


def _take(sha: Any, name: str, value: Any) -> None:
    """Takes in a value under its name."""
    if isinstance(value, torch.Tensor):
        _tensor(sha, name, value.detach())
    elif isinstance(value, Mapping):
        sha.update(f"{name}\0{type(value).__name__} of {len(value)}\0".encode())
        for key, item in value.items():
            _take(sha, f"{name}[{key!r}]", item)
    elif isinstance(value, (list, tuple)):
        sha.update(f"{name}\0{type(value).__name__} of {len(value)}\0".encode())
        for place, item in enumerate(value):
            _take(sha, f"{name}[{place}]", item)
    elif isinstance(value, (set, frozenset)):
        _take(sha, name, sorted(repr(item) for item in value))
    elif isinstance(value, _PLAIN):
        sha.update(f"{name}\0{value!r}\0".encode())
    else:
        sha.update(f"{name}\0{type(value).__qualname__}\0".encode())
        _object(sha, name, value)


_PLAIN = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size)


def _object(sha: Any, name: str, value: Any) -> None:
    """Takes in an object: the array that it is, its attributes, or its pickle; nothing where there is none."""
    if hasattr(value, "__array__"):
        array = value.__array__()
        sha.update(f"{array.dtype}{array.shape}\0".encode())
        sha.update(repr(array.tolist()).encode() if array.dtype == object else array.tobytes())
    elif isinstance(getattr(value, "__dict__", None), dict) and vars(value):
        _take(sha, name, vars(value))
    else:
        try:
            sha.update(pickle.dumps(value, protocol=4))
        except Exception:  # what cannot be pickled has no state that could be told
            return


def _tensor(sha: Any, name: str, tensor: torch.Tensor) -> None:
    """Takes in a tensor: its type and shape, and the bytes of what it holds."""
    if tensor.is_nested:
        _take(sha, name, tensor.unbind())
        return
    sha.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
    if tensor.is_meta:
        return
    if tensor.is_quantized:
        _quantised(sha, name, tensor)
    elif tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce()
        _tensor(sha, "indices", tensor.indices())
        _tensor(sha, "values", tensor.values())
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        for part in (tensor.crow_indices(), tensor.col_indices(), tensor.values()):
            _tensor(sha, "part", part)
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        for part in (tensor.ccol_indices(), tensor.row_indices(), tensor.values()):
            _tensor(sha, "part", part)
    elif tensor.layout != torch.strided:
        _tensor(sha, "dense", tensor.to_dense())
    elif tensor.numel():
        # A tensor without dimensions has no last one to be seen as bytes.
        flat = tensor.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
        sha.update(flat.view(torch.uint8).numpy())


def _quantised(sha: Any, name: str, tensor: torch.Tensor) -> None:
    if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        _take(sha, name, (tensor.q_scale(), tensor.q_zero_point()))
    else:
        _take(sha, name, (tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()))
    _tensor(sha, name, tensor.int_repr())
