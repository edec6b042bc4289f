"""Registers advbench's own executors."""

from __future__ import annotations

from collections.abc import Callable

from advbench.api import Executor, hookimpl
from advbench.executors.dask import Dask
from advbench.executors.processes import Processes
from advbench.executors.serial import Serial


@hookimpl
def register_executors(register: Callable[[type[Executor]], None]) -> None:
    """Registers ``serial``, ``processes`` and ``dask``."""
    register(Serial)
    register(Processes)
    register(Dask)
