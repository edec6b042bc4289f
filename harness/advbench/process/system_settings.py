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

from advbench.process.setting import Setting, never, nothing_told

if sys.platform != "win32":
    import resource

__all__ = ["settings_of_the_system"]

_VARIABLES = (
    "ADVBENCH_DISABLE_PLUGINS", "ADVBENCH_PLUGINS", "ATEN_CPU_CAPABILITY", "BLIS_NUM_THREADS",
    "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "DNNL_DEFAULT_FPMATH_MODE", "DNNL_MAX_CPU_ISA",
    "LD_LIBRARY_PATH", "LD_PRELOAD", "MKL_CBWR", "MKL_NUM_THREADS", "NVIDIA_TF32_OVERRIDE", "OMP_DYNAMIC",
    "OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "ONEDNN_DEFAULT_FPMATH_MODE", "ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS", "PYTHONHASHSEED", "PYTHONHOME", "PYTHONPATH", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip
"""Environment variables by which libraries choose how they compute, and new processes what they load."""

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
    """Those that are a fault; a component reads the others itself, and they are put back."""
    return [name for name in _VARIABLES if before.get(name) != now.get(name)]


def _variables_told(before: dict[str, str], now: dict[str, str]) -> str:
    changed = _variables_changed(before, now)
    return ", ".join(f"{name} to {now[name]}" if name in now else f"{name} removed" for name in changed)


def _folder() -> str | None:
    """The working folder; None where it has been removed."""
    try:
        return os.getcwd()  # noqa: PTH109  as text, to be compared
    except OSError:
        return None


def _enter(folder: str | None) -> None:
    if folder is not None:
        os.chdir(folder)


def _in_main_thread() -> bool:
    """Only the main thread may set what a signal does, so that no other can have changed it."""
    return threading.current_thread() is threading.main_thread()


def _handler(number: int) -> Callable[[], Any]:
    return lambda: signal.getsignal(number) if _in_main_thread() else None


def _set_handler(number: int) -> Callable[[Any], object]:
    return lambda handler: signal.signal(number, handler or signal.SIG_DFL) if _in_main_thread() else None


def _timers() -> tuple[bool, ...]:
    """Whether each of the timers that send signals runs."""
    return tuple(signal.getitimer(timer)[0] > 0 for timer in _TIMERS)


def _stop_timers(ran: tuple[bool, ...]) -> None:
    for timer, before in zip(_TIMERS, ran, strict=True):
        if not before:
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
            except (ValueError, OSError):  # who has lowered a hard limit cannot raise it again
                resource.setrlimit(number, (_least(soft, now[1]), now[1]))


def _least(one: int, other: int) -> int:
    return min((one, other), key=_height)


def _height(limit: int) -> float:
    return float("inf") if limit == resource.RLIM_INFINITY else limit


def _lowered(before: tuple[tuple[int, int], ...], now: tuple[tuple[int, int], ...]) -> list[str]:
    """The limits that are lower, and that of memory where it is another at all; what raises others limits nobody."""
    found = []
    for name, old, new in zip(_LIMITS, before, now, strict=True):
        lower = any(_height(to) < _height(of) for of, to in zip(old, new, strict=True))
        if lower or (name == "RLIMIT_DATA" and old != new):
            found.append(f"{name} to {'no limit' if new[0] == resource.RLIM_INFINITY else new[0]}")
    return found


def _umask() -> int:
    mask = os.umask(0o077)  # nothing else tells it
    os.umask(mask)
    return mask


def _umask_told(_before: int, now: int) -> str:
    return f"umask to {now:03o}"


def _streams() -> tuple[tuple[int, int] | None, ...]:
    """Which files stdin, stdout and stderr of the process are; None of one that is closed."""
    return tuple(map(_file, range(3)))


def _file(descriptor: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _streams_told(before: tuple[Any, ...], now: tuple[Any, ...]) -> str:
    rows = zip(("stdin", "stdout", "stderr"), before, now, strict=True)
    return ", ".join(f"{name} {'closed' if to is None else 'replaced'}" for name, of, to in rows if of != to)


def _python_streams() -> tuple[Any, ...]:
    return sys.stdin, sys.stdout, sys.stderr


def _set_python_streams(streams: tuple[Any, ...]) -> None:
    sys.stdin, sys.stdout, sys.stderr = streams


def _strict_filters() -> list[Any]:
    """The filters that make of a warning an exception."""
    return [one for one in warnings.filters if one[0] == "error"]


def _set_strict_filters(strict: list[Any]) -> None:
    kept = [one for one in warnings.filters if one[0] != "error" or one in strict]
    warnings.filters[:] = [one for one in strict if one not in kept] + kept  # type: ignore[index]
    warnings.simplefilter("default", append=True)  # which lets Python see that the filters are others
    del warnings.filters[-1]  # type: ignore[attr-defined]


def _set_path(before: list[str]) -> None:
    sys.path[:] = [*before, *(folder for folder in sys.path if folder not in before)]


def _of_the_system() -> Iterator[Setting]:
    yield Setting("the working folder", _folder, _enter)
    yield Setting("what Ctrl-C does", _handler(signal.SIGINT), _set_handler(signal.SIGINT), told=nothing_told)
    for number in _SIGNALS:
        name = signal.Signals(number).name
        yield Setting(f"what {name} does", _handler(number), _set_handler(number), told=nothing_told)
    if _TIMERS:
        yield Setting("the timers that send signals", _timers, _stop_timers, told=nothing_told)
    if _LIMITS:
        yield Setting(
            "the limits of the process",
            _limits,
            _set_limits,
            told=lambda before, now: ", ".join(_lowered(before, now)),
            matters=lambda before, now: bool(_lowered(before, now)),
        )
    yield Setting(
        "environment variables",
        os.environ.copy,
        _set_environment,
        told=_variables_told,
        matters=lambda before, now: bool(_variables_changed(before, now)),
    )
    yield Setting("the mode of new files", _umask, os.umask, told=_umask_told)
    yield Setting(
        "the locale", lambda: locale.setlocale(locale.LC_ALL), lambda old: locale.setlocale(locale.LC_ALL, old)
    )
    yield Setting("the streams of the process", _streams, told=_streams_told)


def _of_python() -> Iterator[Setting]:
    yield Setting(
        "how deep Python may recurse",
        sys.getrecursionlimit,
        sys.setrecursionlimit,
        matters=lambda before, now: now < before,  # torch.compile raises it
    )
    yield Setting(
        "whether Python collects garbage", gc.isenabled, lambda before: gc.enable() if before else gc.disable()
    )
    yield Setting(
        "sys.path",
        lambda: list(sys.path),
        _set_path,
        told=lambda before, now: f"without {', '.join(folder for folder in before if folder not in now)}",
        matters=lambda before, now: not set(before) <= set(now),
    )
    yield Setting("which warnings are errors", _strict_filters, _set_strict_filters, told=nothing_told)
    yield Setting("sys.stdin, sys.stdout or sys.stderr", _python_streams, _set_python_streams, matters=never)


def settings_of_the_system() -> tuple[Setting, ...]:
    """All of them."""
    return *_of_python(), *_of_the_system()
