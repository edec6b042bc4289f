"""Settings of torch and numpy that a component may change for all others."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.backends import opt_einsum  # which torch 2.6 does not import by itself
from torch.nn.modules import module as modules

from advbench.process.float32 import float32_settings, set_float32
from advbench.process.settings.setting import Setting, describe_nothing

__all__ = ["torch_settings"]

_HOOKS = [name for name, value in vars(modules).items() if name.startswith("_global_") and isinstance(value, dict)]


def _raises(before: dict[str, str], now: dict[str, str]) -> bool:
    return any(before[kind] != then and then in ("raise", "call") for kind, then in now.items())


def _flushes() -> bool:
    """Whether the processor flushes denormal numbers to zero; see ``torch.set_flush_denormal``."""
    smallest, two = sys.float_info.min, 2.0
    return smallest / two == 0


def _hooks() -> tuple[tuple[Any, ...], ...]:
    return tuple(tuple(vars(modules)[name]) for name in _HOOKS)


def _set_hooks(before: tuple[tuple[Any, ...], ...]) -> None:
    for name, keys in zip(_HOOKS, before, strict=True):
        hooks = vars(modules)[name]
        for key in [key for key in hooks if key not in keys]:
            del hooks[key]


_known_kernels: tuple[int, frozenset[str]] = (-1, frozenset())


def _kernels() -> frozenset[str]:
    """Operators of torch itself with an implementation in Python."""
    global _known_kernels  # noqa: PLW0603  a cache, since there are thousands of other entries
    known: set[str] = getattr(torch.library, "_impls", set())
    if len(known) != _known_kernels[0]:
        ends = ("/CPU", "/CUDA", "/Autograd", "/AutogradCPU", "/AutogradCUDA", "/CompositeImplicitAutograd")
        _known_kernels = len(known), frozenset(k for k in known if k.startswith("aten/") and k.endswith(ends))
    return _known_kernels[1]


def _describe_kernels(before: frozenset[str], now: frozenset[str]) -> str:
    return ", ".join(sorted(before ^ now)[:3])


def _pop(length: Callable[[], int], pop: Callable[[], object]) -> Callable[[int], None]:
    def write(before: int) -> None:
        for _ in itertools.repeat(None, max(0, length() - before)):
            pop()

    return write


def _leave_inference(_: bool) -> None:
    torch.inference_mode(False).__enter__()


def _backends() -> tuple[Any, ...]:
    values: list[Any] = []
    for owner, name in _SWITCHES:
        with contextlib.suppress(RuntimeError):
            values.append(getattr(owner, name))
            continue
        values.append(None)
    return tuple(values)


def _set_backends(before: tuple[Any, ...]) -> None:
    for (owner, name), value in zip(_SWITCHES, before, strict=True):
        if value is not None:
            setattr(owner, name, value)


def _describe_backends(before: tuple[Any, ...], now: tuple[Any, ...]) -> str:
    rows = zip(_SWITCHES, before, now, strict=True)
    named = [(f"{owner.__name__.removeprefix('torch.')}.{name}", old, new) for (owner, name), old, new in rows]
    return ", ".join(f"{name} to {new}" for name, old, new in named if old != new)


_SWITCHES = [
    (owner, name)
    for owner, name in (
        (torch.backends.cudnn, "enabled"),
        (torch.backends.mkldnn, "enabled"),
        (torch.backends.mkldnn, "deterministic"),
        (opt_einsum, "enabled"),
    )
    if hasattr(owner, name)
]


def _describe_float32(before: dict[str, Any], now: dict[str, Any]) -> str:
    changes = (f"{name} to {value}" for name, value in now.items() if before.get(name) != value)
    return next(changes, "its settings contradict one another")


def _modes() -> Iterator[Setting]:
    """Modes of torch that code may enter and not leave, as far as this version of torch has them."""
    c, autograd = torch._C, torch._C._autograd
    for name, length, pop in (
        ("function", getattr(c, "_len_torch_function_stack", None), getattr(c, "_pop_torch_function_stack", None)),
        ("dispatch", getattr(c, "_len_torch_dispatch_stack", None), lambda: c._pop_torch_dispatch_stack(None)),
    ):
        if length is not None and pop is not None:
            label = f"torch's {name} modes"
            yield Setting(label, length, _pop(length, pop), lambda before, now: f"from {before} to {now}")
    yield Setting("torch's inference mode", torch.is_inference_mode_enabled, _leave_inference)
    anomalies: Callable[[], Any] = lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled())  # noqa: E731
    yield Setting("anomaly detection", anomalies, lambda before: torch.set_anomaly_enabled(*before))
    yield Setting("autocast", _autocast, _set_autocast)
    for name, read, write in (
        ("torch's profiler", getattr(autograd, "_profiler_enabled", None), None),
        ("torch's handling of __torch_function__", getattr(c, "_is_torch_function_enabled", None), None),
        (
            "autograd's threads",
            getattr(c, "_is_multithreading_enabled", None),
            getattr(c, "_set_multithreading_enabled", None),
        ),
    ):
        if read is not None:
            yield Setting(name, read, write)


_AUTOCAST = ("cpu", "cuda")


def _autocast() -> tuple[Any, ...]:
    return tuple((torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in _AUTOCAST)


def _set_autocast(before: tuple[Any, ...]) -> None:
    for kind, (enabled, dtype) in zip(_AUTOCAST, before, strict=True):
        torch.set_autocast_enabled(kind, enabled)
        torch.set_autocast_dtype(kind, dtype)


def _arithmetic() -> Iterator[Setting]:
    yield Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype)
    yield Setting(
        "torch's default device",
        torch.get_default_device,
        lambda before: torch.set_default_device(None if before.type == "cpu" else before),
    )
    yield Setting("torch's gradient mode", torch.is_grad_enabled, torch.set_grad_enabled)
    yield Setting(
        "torch's choice of deterministic algorithms",
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    )
    yield Setting("torch's float32 precision", float32_settings, set_float32, describe=_describe_float32)
    yield Setting("torch's backends", _backends, _set_backends, describe=_describe_backends)
    yield Setting("torch's number of threads", torch.get_num_threads, torch.set_num_threads)
    yield Setting("torch's number of inter-op threads", torch.get_num_interop_threads)
    yield Setting("the flushing of denormal numbers", _flushes, torch.set_flush_denormal)
    yield Setting("numpy's handling of floating-point errors", np.geterr, lambda old: np.seterr(**old), matters=_raises)
    yield Setting("global module hooks", _hooks, _set_hooks, describe=describe_nothing)
    yield Setting("operators of torch", _kernels, describe=_describe_kernels)


def torch_settings() -> tuple[Setting, ...]:
    """All settings of torch and numpy; modes come first, since they affect the others."""
    return *_modes(), *_arithmetic()
