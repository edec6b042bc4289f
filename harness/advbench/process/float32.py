"""Whether float32 is computed as such: by default cuDNN rounds the factors of convolutions to ten bits (TF32)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch

__all__ = ["exact_float32", "float32_settings", "set_float32"]

_PRODUCTS = "matmul precision"
_EXACT: Mapping[str, Any] = {
    # What torch has always had, and looks at still; torch 2.9 and later set the others with it.
    "cudnn.allow_tf32": False,
    _PRODUCTS: "highest",
    # Of torch 2.9 and later, from the widest to the narrowest, which prevails; "none" leaves it to the wider one.
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
    """What decides how float32 is computed, by its name below ``torch.backends``; without what torch cannot tell."""
    found = {}
    for name in _names():
        # torch 2.9 and later raise RuntimeError where an old setting no longer sums up the new ones.
        with contextlib.suppress(RuntimeError):
            found[name] = torch.get_float32_matmul_precision() if name == _PRODUCTS else getattr(*_place(name))
    return found


def set_float32(settings: Mapping[str, Any]) -> None:
    """Sets what :func:`float32_settings` told."""
    for name, value in settings.items():
        if name == _PRODUCTS:
            torch.set_float32_matmul_precision(value)
        else:
            owner, last = _place(name)
            setattr(owner, last, value)


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Lets float32 be computed in float32 within the block, and cuDNN choose what gives the same bits each time.

    In TF32 logits are off by a thousandth, and of an image at a class boundary less than that decides.

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
    """The settings that this torch has."""
    new = hasattr(torch.backends.cudnn, "conv")
    return [name for name in _EXACT if new or not name.endswith("fp32_precision")]


def _place(name: str) -> tuple[Any, str]:
    """What has a setting, and the setting's own name."""
    owner: Any = torch.backends
    *parts, last = name.split(".")
    for part in parts:
        owner = getattr(owner, part)
    return owner, last
