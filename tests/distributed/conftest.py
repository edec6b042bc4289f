"""A Dask cluster of somebody's."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.distributed.helpers import environment


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts a Dask scheduler and workers, each a process of its own; gives the address."""
    with clusters(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def lasting_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """The same for several tests, which leave the workers as they are."""
    with clusters(tmp_path_factory.mktemp("cluster")) as start:
        yield start


@contextlib.contextmanager
def clusters(folder: Path) -> Iterator[Callable[..., str]]:
    """Starts clusters, and ends them with the block."""
    started: list[subprocess.Popen[bytes]] = []
    dask = [sys.executable, "-m", "dask"]

    def start(workers: int, *flags: str, threads: int = 1, **variables: str) -> str:
        file = folder / f"scheduler-{len(started)}.json"
        where = ["--scheduler-file", str(file)]
        apart: dict[str, Any] = {"start_new_session": True, "cwd": folder, "env": environment(**variables)}
        apart |= {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *where]
        started.append(subprocess.Popen(scheduler, **apart))
        worker = [*dask, "worker", "--nthreads", str(threads), "--no-dashboard", *flags, *where]
        worker += ["--local-directory", str(folder)]
        started.extend(subprocess.Popen(worker, **apart) for _ in range(workers))
        until = time.monotonic() + 60
        while not file.exists() or not file.read_text().strip():
            assert time.monotonic() < until, "the scheduler does not start"
            time.sleep(0.1)
        found = re.search(r'"address": "(.*?)"', file.read_text())
        assert found is not None
        return found[1]

    try:
        yield start
    finally:
        for process in started:  # with the processes that it started; asked to end, workers take their time
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in started:
            process.wait()
