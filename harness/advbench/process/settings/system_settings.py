"""Settings of Python and of the operating system that a component may change for all others."""

from __future__ import annotations

import gc
import locale
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from advbench.process.settings.setting import Setting, describe_nothing, never_matters

if sys.platform != "win32":
    import resource

__all__ = ["system_settings"]

_VARIABLES = (
    "ADVBENCH_DISABLE_PLUGINS", "ADVBENCH_PLUGINS", "ATEN_CPU_CAPABILITY", "BLIS_NUM_THREADS",
    "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "DNNL_DEFAULT_FPMATH_MODE", "DNNL_MAX_CPU_ISA",
    "LD_LIBRARY_PATH", "LD_PRELOAD", "MKL_CBWR", "MKL_NUM_THREADS", "NVIDIA_TF32_OVERRIDE", "OMP_DYNAMIC",
    "OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "ONEDNN_DEFAULT_FPMATH_MODE", "ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS", "PYTHONHASHSEED", "PYTHONHOME", "PYTHONPATH", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip
"""Environment variables that change how libraries compute, or what new processes load."""

_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGPIPE", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
]

_TIMERS = [getattr(signal, name) for name in ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF") if hasattr(signal, name)]

_LIMITS = [] if sys.platform == "win32" else sorted(name for name in dir(resource) if name.startswith("RLIMIT_"))


def _set_environment(before: dict[str, str]) -> None:
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _variables_changed(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """The changed variables that matter; the others only affect the component itself, and are restored."""
    return [name for name in _VARIABLES if before.get(name) != now.get(name)]


def _describe_variables(before: dict[str, str], now: dict[str, str]) -> str:
    changed = _variables_changed(before, now)
    return ", ".join(f"{name} to {now[name]}" if name in now else f"{name} removed" for name in changed)


def _folder() -> str | None:
    """The working directory; None if it has been removed."""
    try:
        return os.getcwd()  # noqa: PTH109  as text, for comparison
    except OSError:
        return None


def _enter(folder: str | None) -> None:
    if folder is not None:
        os.chdir(folder)


def _in_main_thread() -> bool:
    """Only the main thread can set signal handlers, so that no other thread can have changed them."""
    return threading.current_thread() is threading.main_thread()


def _handler(number: int) -> Callable[[], Any]:
    return lambda: signal.getsignal(number) if _in_main_thread() else None


def _set_handler(number: int) -> Callable[[Any], object]:
    return lambda handler: signal.signal(number, handler or signal.SIG_DFL) if _in_main_thread() else None


def _timers() -> tuple[bool, ...]:
    """Whether each of the timers that send signals is running."""
    return tuple(signal.getitimer(timer)[0] > 0 for timer in _TIMERS)


def _stop_timers(were_running: tuple[bool, ...]) -> None:
    for timer, was_running in zip(_TIMERS, were_running, strict=True):
        if not was_running:
            signal.setitimer(timer, 0)


def _limits() -> tuple[tuple[int, int], ...]:
    return tuple(resource.getrlimit(getattr(resource, name)) for name in _LIMITS)


def _set_limits(limits: tuple[tuple[int, int], ...]) -> None:
    for name, (soft, hard) in zip(_LIMITS, limits, strict=True):
        number = getattr(resource, name)
        now = resource.getrlimit(number)
        if now != (soft, hard):
            try:
                resource.setrlimit(number, (soft, hard))
            except (ValueError, OSError):  # a lowered hard limit cannot be raised again
                resource.setrlimit(number, (_lower(soft, now[1]), now[1]))


def _lower(one: int, other: int) -> int:
    return min((one, other), key=_comparable)


def _comparable(limit: int) -> float:
    return float("inf") if limit == resource.RLIM_INFINITY else limit


def _changed_limits(before: tuple[tuple[int, int], ...], now: tuple[tuple[int, int], ...]) -> list[str]:
    """Lowered limits, and the limit of memory if it has changed; raising other limits does no harm."""
    changed = []
    for name, old, new in zip(_LIMITS, before, now, strict=True):
        lowered = any(_comparable(new_one) < _comparable(old_one) for old_one, new_one in zip(old, new, strict=True))
        if lowered or (name == "RLIMIT_DATA" and old != new):
            changed.append(f"{name} to {'no limit' if new[0] == resource.RLIM_INFINITY else new[0]}")
    return changed


def _umask() -> int:
    mask = os.umask(0o077)  # there is no other way to read it
    os.umask(mask)
    return mask


def _describe_umask(_before: int, now: int) -> str:
    return f"umask to {now:03o}"


def _streams() -> tuple[tuple[int, int] | None, ...]:
    """The files of stdin, stdout and stderr of the process; None if closed."""
    return tuple(map(_file, range(3)))


def _file(descriptor: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _describe_streams(before: tuple[Any, ...], now: tuple[Any, ...]) -> str:
    rows = zip(("stdin", "stdout", "stderr"), before, now, strict=True)
    return ", ".join(f"{name} {'closed' if new is None else 'replaced'}" for name, old, new in rows if old != new)


def _python_streams() -> tuple[Any, ...]:
    return sys.stdin, sys.stdout, sys.stderr


def _set_python_streams(streams: tuple[Any, ...]) -> None:
    sys.stdin, sys.stdout, sys.stderr = streams


def _strict_filters() -> list[Any]:
    """The filters that turn warnings into exceptions."""
    return [entry for entry in warnings.filters if entry[0] == "error"]


def _set_strict_filters(strict: list[Any]) -> None:
    kept = [entry for entry in warnings.filters if entry[0] != "error" or entry in strict]
    warnings.filters[:] = [entry for entry in strict if entry not in kept] + kept  # type: ignore[index]
    warnings.simplefilter("default", append=True)  # makes Python notice that the filters have changed
    del warnings.filters[-1]  # type: ignore[attr-defined]


def _set_path(before: list[str]) -> None:
    sys.path[:] = [*before, *(folder for folder in sys.path if folder not in before)]


def _operating_system() -> Iterator[Setting]:
    yield Setting("the working directory", _folder, _enter)
    yield Setting(
        "the handler of Ctrl-C", _handler(signal.SIGINT), _set_handler(signal.SIGINT), describe=describe_nothing
    )
    for number in _SIGNALS:
        name = signal.Signals(number).name
        yield Setting(f"the handler of {name}", _handler(number), _set_handler(number), describe=describe_nothing)
    if _TIMERS:
        yield Setting("the timers that send signals", _timers, _stop_timers, describe=describe_nothing)
    if _LIMITS:
        yield Setting(
            "the limits of the process",
            _limits,
            _set_limits,
            describe=lambda before, now: ", ".join(_changed_limits(before, now)),
            matters=lambda before, now: bool(_changed_limits(before, now)),
        )
    yield Setting(
        "environment variables",
        os.environ.copy,
        _set_environment,
        describe=_describe_variables,
        matters=lambda before, now: bool(_variables_changed(before, now)),
    )
    yield Setting("the mode of new files", _umask, os.umask, describe=_describe_umask)
    yield Setting(
        "the locale", lambda: locale.setlocale(locale.LC_ALL), lambda old: locale.setlocale(locale.LC_ALL, old)
    )
    yield Setting("the streams of the process", _streams, describe=_describe_streams)


def _python() -> Iterator[Setting]:
    yield Setting(
        "the recursion limit",
        sys.getrecursionlimit,
        sys.setrecursionlimit,
        matters=lambda before, now: now < before,  # torch.compile raises it
    )
    yield Setting("garbage collection", gc.isenabled, lambda before: gc.enable() if before else gc.disable())
    yield Setting(
        "sys.path",
        lambda: list(sys.path),
        _set_path,
        describe=lambda before, now: f"without {', '.join(folder for folder in before if folder not in now)}",
        matters=lambda before, now: not set(before) <= set(now),
    )
    yield Setting("the warning filters", _strict_filters, _set_strict_filters, describe=describe_nothing)
    yield Setting("sys.stdin, sys.stdout or sys.stderr", _python_streams, _set_python_streams, matters=never_matters)


def system_settings() -> tuple[Setting, ...]:
    """All settings of Python and of the operating system."""
    return *_python(), *_operating_system()
