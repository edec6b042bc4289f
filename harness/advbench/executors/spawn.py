"""Starts worker processes, and describes how they ended."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from advbench.api import WorkerLostError
from advbench.process.gc_tuning import tune_gc

__all__ = ["CleanSpawnContext", "start_worker", "visible_gpus", "worker_lost_error"]


class _CleanSpawnProcess(SpawnProcess):
    """A process that does not import the user's script: workers do not need it, and it might start workers again."""

    _starting = threading.Lock()

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802  multiprocessing's own name
        with _CleanSpawnProcess._starting:
            main: dict[str, Any] = vars(sys.modules["__main__"])
            hidden: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
            main.pop("__file__", None)
            main["__spec__"] = None
            try:
                with _ctrl_c_blocked():
                    return SpawnProcess._Popen(process_obj)
            finally:
                main.update(hidden)


@contextlib.contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Starts processes with Ctrl-C blocked until they unblock it: before, Ctrl-C would only print a traceback."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class CleanSpawnContext(SpawnContext):
    """A context of multiprocessing that starts such processes."""

    Process = _CleanSpawnProcess


def visible_gpus(number: int, gpus: int) -> dict[str, str]:
    """Environment variables that make one of the GPUs of this process visible to a worker."""
    if not gpus:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    devices = visible.split(",") if visible else [str(device) for device in range(gpus)]
    return {"CUDA_VISIBLE_DEVICES": devices[number % gpus]}


def start_worker(environment: dict[str, str]) -> None:
    """Prepares a worker process: sets its environment, and lets it end with the driver."""
    tune_gc()
    os.environ.update(environment)
    # Processes of components, such as the workers of DataLoader, start as they do in the driver.
    multiprocessing.set_start_method(None, force=True)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # background jobs ignore Ctrl-C and continue
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # workers also get Ctrl-C; the driver reports it
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_exit_with_driver, daemon=True).start()


def _exit_with_driver() -> None:
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def worker_lost_error(code: int | None) -> WorkerLostError:
    """Describes how a process ended."""
    if code is None or code >= 0:
        return WorkerLostError(f"exit code {code}")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return WorkerLostError(f"ended by {name}", killed=-code in (signal.SIGKILL, signal.SIGTERM))
