"""The precision of float32 arithmetic: by default cuDNN rounds the factors of convolutions to ten bits (TF32)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch

__all__ = ["exact_float32", "float32_settings", "set_float32"]

_PRODUCTS = "matmul precision"
_EXACT: Mapping[str, Any] = {
    # The settings of all versions of torch; in torch 2.9 and later they also set the others.
    "cudnn.allow_tf32": False,
    _PRODUCTS: "highest",
    # Settings of torch 2.9 and later, from the widest to the narrowest, which prevails; "none" inherits the wider one.
    "fp32_precision": "none",
    "cudnn.fp32_precision": "none",
    "cudnn.conv.fp32_precision": "none",
    "cudnn.rnn.fp32_precision": "none",
    "mkldnn.fp32_precision": "none",
    "mkldnn.conv.fp32_precision": "none",
    "mkldnn.rnn.fp32_precision": "none",
    "mkldnn.matmul.fp32_precision": "ieee",
    "cuda.matmul.fp32_precision": "ieee",
}


def float32_settings() -> dict[str, Any]:
    """The settings of float32 arithmetic that torch can read, by their names below ``torch.backends``."""
    settings = {}
    for name in _names():
        # torch 2.9 and later raise RuntimeError if an old setting contradicts the new ones.
        with contextlib.suppress(RuntimeError):
            settings[name] = torch.get_float32_matmul_precision() if name == _PRODUCTS else getattr(*_owner(name))
    return settings


def set_float32(settings: Mapping[str, Any]) -> None:
    """Restores settings that :func:`float32_settings` returned."""
    for name, value in settings.items():
        if name == _PRODUCTS:
            torch.set_float32_matmul_precision(value)
        else:
            owner, attribute = _owner(name)
            setattr(owner, attribute, value)


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Computes float32 in full precision within the block, with deterministic algorithms of cuDNN.

    TF32 changes logits by about a thousandth, which is enough to change the class of an image near a class boundary.

    Source: PyTorch's notes on numerical accuracy and on reproducibility.
    """
    before, cudnn = float32_settings(), torch.backends.cudnn
    choice = cudnn.deterministic, cudnn.benchmark
    set_float32({name: _EXACT[name] for name in _names()})
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        set_float32(before)
        cudnn.deterministic, cudnn.benchmark = choice


def _names() -> list[str]:
    """The settings that this version of torch has."""
    new = hasattr(torch.backends.cudnn, "conv")
    return [name for name in _EXACT if new or not name.endswith("fp32_precision")]


def _owner(name: str) -> tuple[Any, str]:
    """The object that has a setting, and the name of the attribute."""
    owner: Any = torch.backends
    *parts, last = name.split(".")
    for part in parts:
        owner = getattr(owner, part)
    return owner, last
