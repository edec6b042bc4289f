"""The executor that runs tasks in worker processes of this machine."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import Executor as FuturesExecutor
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from advbench.api import Executor

__all__ = ["Processes"]


@dataclasses.dataclass(frozen=True)
class Processes(Executor):
    """Runs tasks in worker processes of this machine; the default for ``--jobs`` above 1."""

    name = "processes"

    def open(self, jobs: int) -> FuturesExecutor:
        """Opens a pool of fresh processes: a forked one would inherit torch's threads in an unknown state."""
        return ProcessPoolExecutor(jobs, mp_context=_Context(), initializer=_prepare_worker)

    def abandon(self, pool: FuturesExecutor) -> None:
        """Ends the workers in the middle of what they do; what they had written is whole or not there."""
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in multiprocessing.active_children():
            worker.terminate()


class _Worker(SpawnProcess):
    """A fresh process that does not run the user's script: workers need nothing of it, and it would start them anew."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802  multiprocessing's own name
        main: dict[str, Any] = vars(sys.modules["__main__"])
        hidden: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
        main.pop("__file__", None)
        main["__spec__"] = None
        try:
            return SpawnProcess._Popen(process_obj)
        finally:
            main.update(hidden)


class _Context(SpawnContext):
    """Starts such processes."""

    Process = _Worker


def _prepare_worker() -> None:
    """Lets a worker leave with its driver: quietly on Ctrl-C, which reaches both, and when the driver has died."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    threading.Thread(target=_leave_with_driver, daemon=True).start()


def _leave_with_driver() -> None:
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)
