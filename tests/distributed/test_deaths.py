"""Workers of Dask that die, of a cluster made here and of somebody's: no run hangs, and each cell tells its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Called
from tests.distributed.helpers import bits, leftovers

from advbench.api import WorkerLostError
from advbench.executors.dask import Dask, _Pool
from advbench.executors.dask_local import LocalDaskPool

pytestmark = pytest.mark.slow(minutes=2)

DEADLY = Path(__file__).parents[1] / "deadly_plugin.py"
Toy = Callable[..., tuple[Called, dict[str, Any]]]


def test_a_worker_of_somebodys_cluster_that_takes_memory_time_or_dies_costs_its_own_cell(
    toy: Toy, tmp_path: Path, cluster: Callable[..., str]
) -> None:
    address = cluster(2, ADVBENCH_DISABLE_PLUGINS="*")
    defenses = ["toy-keep", "hog", "hang", "segfault", "toy-dim"]
    flags = ("--plugin", DEADLY, "--executor", "dask", "--scheduler", address, "--cell-timeout", 15, "--memory", 0.3)
    called, results = toy(*flags, defenses=defenses)
    assert called.code == 1, called.err
    found = {cell["defense"].split(":")[0]: (cell["status"], str(cell["error"])) for cell in results["cells"]}
    assert [found[name][0] for name in defenses] == ["ok", "error", "error", "error", "ok"]
    assert "out of memory, even with one image at once" in found["hog"][1]
    assert found["hang"][1] == "it took longer than the cell timeout of 15 s"
    assert found["segfault"][1].startswith("its worker process died")
    assert "cell timeout" not in found["segfault"][1]
    assert leftovers(tmp_path / "store") == []


def test_a_run_whose_workers_have_all_gone_ends_and_says_so(
    toy: Toy, tmp_path: Path, cluster: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("advbench.executors.dask._NEXT_WORKER_TIMEOUT", 5.0)
    address = cluster(2, "--no-nanny", ADVBENCH_DISABLE_PLUGINS="*")  # so that nobody starts others
    flags = ("--plugin", DEADLY, "--executor", "dask", "--scheduler", address)
    called, results = toy(*flags, defenses=["toy-keep", "segfault"])
    assert called.code == 2
    assert results == {}
    last = called.err.strip().splitlines()[-1]
    assert f"scheduler {address}: all workers have left, and none has come in 5 s" in last
    assert "run the command again, which continues from here" in last
    assert "Traceback" not in called.err
    another = cluster(1, ADVBENCH_DISABLE_PLUGINS="*")
    called, _ = toy("--plugin", DEADLY, "--executor", "dask", "--scheduler", another, defenses=["toy-keep"])
    assert called.code == 0, called.err
    assert len(bits(tmp_path / "store")) == 1


def test_workers_are_seen_whatever_the_client_asks_meanwhile(cluster: Callable[..., str]) -> None:
    pool = Dask(scheduler=cluster(1, ADVBENCH_DISABLE_PLUGINS="*")).open(1)
    assert isinstance(pool, _Pool)
    try:
        pool.client.loop.add_callback(pool.client._periodic_callbacks["scheduler-info"].stop)

        async def asks_for_none() -> None:  # as the client does every other second
            while not pool._left.is_set():
                await pool.client._update_scheduler_info()

        pool.client.loop.add_callback(asks_for_none)
        assert [len(pool._workers()) for _ in range(50)] == [1] * 50
    finally:
        pool.leave(wait=False)


def test_a_forecast_costs_somebodys_cluster_one_worker_at_most(
    toy: Toy, tmp_path: Path, cluster: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEADLY_LOG", str(tmp_path / "log"))
    monkeypatch.setattr("advbench.session.run.run_schedule", lambda *_, **__: None)
    address = cluster(2, ADVBENCH_DISABLE_PLUGINS="*", DEADLY_LOG=str(tmp_path / "log"))
    flags = ("--plugin", DEADLY, "--executor", "dask", "--scheduler", address)
    toy(*flags, defenses=["unlucky:times=100,least=1"])
    assert (tmp_path / "log").read_text().splitlines() == ["here"]


def test_the_place_of_a_worker_that_died_is_taken_by_another(tmp_path: Path) -> None:
    pool = LocalDaskPool(1)
    try:
        first = pool.submit(os.getpid).result()
        with pytest.raises(WorkerLostError, match="exit code 3"):
            pool.submit(os._exit, 3).result()
        with pytest.raises(WorkerLostError, match="ended by SIGSEGV") as found:
            pool.submit(signal.raise_signal, signal.SIGSEGV).result()
        assert not found.value.killed
        second = pool.submit(os.getpid).result()
        os.kill(second, signal.SIGKILL)  # with nothing to do
        time.sleep(0.5)
        third = pool.submit(os.getpid).result()
        assert len({first, second, third, os.getpid()}) == 4
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 1, 0).result()
        assert pool.everywhere(os.getpid) == {"worker 0": third}
    finally:
        pool.abandon()
    until = time.monotonic() + 10
    while Path(f"/proc/{third}").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not Path(f"/proc/{third}").exists()
