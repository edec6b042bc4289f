"""Fresh processes for workers: how they start, what they see, and how they ended."""

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

__all__ = ["FreshContext", "begin_work", "how_it_ended", "visible_gpus"]


class _Fresh(SpawnProcess):
    """A fresh process that does not run the user's script: workers need nothing of it, and it would start them anew."""

    _starting = threading.Lock()

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802  multiprocessing's own name
        with _Fresh._starting:
            main: dict[str, Any] = vars(sys.modules["__main__"])
            hidden: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
            main.pop("__file__", None)
            main["__spec__"] = None
            try:
                with _ctrl_c_later():
                    return SpawnProcess._Popen(process_obj)
            finally:
                main.update(hidden)


@contextlib.contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Lets what is started in the block hear of Ctrl-C only when it says so; before, it could but tell a traceback."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class FreshContext(SpawnContext):
    """Starts such processes."""

    Process = _Fresh


def visible_gpus(number: int, gpus: int) -> dict[str, str]:
    """The environment by which a worker sees one GPU of those that this process sees."""
    if not gpus:
        return {}
    known = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    devices = known.split(",") if known else [str(device) for device in range(gpus)]
    return {"CUDA_VISIBLE_DEVICES": devices[number % gpus]}


def begin_work(environment: dict[str, str]) -> None:
    """What a worker process does first: it takes its environment, and ends with the driver."""
    os.environ.update(environment)
    # What components start, such as the workers of DataLoader, begins as it does in the driver.
    multiprocessing.set_start_method(None, force=True)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # ignored in background jobs: they go on after Ctrl-C
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # it reaches workers, too; the driver reports it
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_leave_with_driver, daemon=True).start()


def _leave_with_driver() -> None:
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def how_it_ended(code: int | None) -> WorkerLostError:
    """How a process ended, for people."""
    if code is None or code >= 0:
        return WorkerLostError(f"exit code {code}")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return WorkerLostError(f"ended by {name}", killed=-code in (signal.SIGKILL, signal.SIGTERM))
