"""Whatever a worker process meets costs what it was at, and nothing else."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TOY, Called
from tests.distributed.helpers import command, leftovers, run

pytestmark = pytest.mark.slow(minutes=3)  # where memory is limited, workers are real: copies begin with more

DEADLY = Path(__file__).parents[1] / "deadly_plugin.py"
Toy = Callable[..., tuple[Called, dict[str, Any]]]


@pytest.fixture
def deadly(toy: Toy) -> Toy:
    """Runs a matrix of toy components and defenses that end their process."""

    def run(*flags: object, **axes: Any) -> tuple[Called, dict[str, Any]]:
        return toy("--plugin", DEADLY, *flags, **axes)

    return run


def by_defense(results: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    return {cell["defense"].split(":")[0]: (cell["status"], cell["error"]) for cell in results["cells"]}


@pytest.mark.parametrize("executor", ["processes", "dask"])
def test_what_takes_memory_time_or_the_process_is_err_and_all_else_is_done(deadly: Toy, executor: str) -> None:
    defenses = ["toy-keep", "hog", "hang", "segfault", "toy-dim"]
    flags = ("--executor", executor, "--jobs", 2, "--cell-timeout", 10, "--memory", 0.3)
    called, results = deadly(*flags, defenses=defenses)
    assert called.code == 1
    found = by_defense(results)
    assert [found[name][0] for name in defenses] == ["ok", "error", "error", "error", "ok"]
    assert "out of memory, even with one image at once" in str(found["hog"][1])
    assert "longer than the cell timeout of 10 s" in str(found["hang"][1])
    assert "its worker process died 3 times: ended by SIGSEGV" in str(found["segfault"][1])
    assert "Traceback" not in called.err


def test_a_crash_of_a_worker_that_was_long_in_starting_is_not_taken_for_a_lack_of_time(
    deadly: Toy, tmp_path: Path
) -> None:
    late = tmp_path / "late_plugin.py"
    late.write_text("import time\n\nfrom advbench.api import hookimpl\n\ntime.sleep(3)\n")
    called, results = deadly(
        "--plugin", late, "--jobs", 2, "--cell-timeout", 2.5, defenses=["toy-keep", "segfault", "hang"]
    )
    assert called.code == 1
    found = by_defense(results)
    assert "its worker process died 3 times: ended by SIGSEGV" in str(found["segfault"][1])
    assert "longer than the cell timeout of 2.5 s" in str(found["hang"][1])
    assert leftovers(tmp_path / "store") == []


def test_memory_that_does_not_suffice_in_the_drivers_own_process_is_err_too(tmp_path: Path) -> None:
    target, axes = tmp_path / "results.json", ("--datasets", "toy", "--models", "toy-linear", "--attacks", "toy-sign")
    plugins = ("--defenses", "toy-keep", "hog", "toy-dim", "--plugin", TOY, "--plugin", DEADLY, "--export", target)
    done = run(command(tmp_path / "store", "--executor", "serial", "--memory", 0.5, axes=(*axes, *plugins)))
    assert done.returncode == 1, done.stderr
    found = by_defense(json.loads(target.read_text()))
    assert [status for status, _ in found.values()] == ["ok", "error", "ok"], found


@pytest.mark.parametrize("gib", [1, 0.6])  # with the lesser not even the sixteen images of the probes go at once
def test_where_memory_does_not_suffice_fewer_images_go_at_once(deadly: Toy, gib: float) -> None:
    called, results = deadly("--executor", "processes", "--memory", gib, defenses=["toy-keep", "hungry:gib=0.05"])
    assert called.code == 0, called.err
    one, other = results["cells"]
    assert one["robust_accuracy"] == other["robust_accuracy"]
    assert re.search(r"through hungry:gib=0.05: memory suffices for batches of (10|5|2) images", called.err)


@pytest.mark.usefixtures("quick_workers")
@pytest.mark.parametrize(("times", "status"), [(2, "ok"), (3, "error")])
def test_a_task_whose_worker_dies_is_given_to_two_others_at_most(
    deadly: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, status: str
) -> None:
    monkeypatch.setenv("DEADLY_LOG", str(tmp_path / "log"))
    called, results = deadly("--jobs", 2, defenses=["toy-keep", f"unlucky:times={times}"])
    assert by_defense(results)["unlucky"][0] == status, called.err
    assert by_defense(results)["toy-keep"][0] == "ok"


def test_time_cannot_be_limited_where_no_worker_can_be_ended(call: Callable[..., Called]) -> None:
    called = call("matrix", "--executor", "serial", "--cell-timeout", 3)
    assert called.code == 2
    assert "--cell-timeout: the executor 'serial' runs tasks in this process" in called.error_line()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--cell-timeout", "0"), "--cell-timeout: 0: must be a number of seconds above 0"),
        (("--memory", "much"), "--memory: much: must be a number of GiB above 0"),
        (
            ("--scheduler", "tcp://127.0.0.1:1", "--executor", "serial"),
            "the executor 'serial' has none; use --executor dask",
        ),
        (("--scheduler", "tcp://127.0.0.1:1"), "start one with 'dask scheduler'"),
        (("--scheduler", "nonsense::"), "start one with 'dask scheduler'"),
        (("--scheduler", "tls://127.0.0.1:1"), "start one with 'dask scheduler'"),
        (("--scheduler", ""), "--scheduler is empty; give the address that 'dask scheduler' prints"),
    ],
)
def test_what_cannot_be_used_is_refused(call: Callable[..., Called], tmp_path: Path, flags: Any, message: str) -> None:
    small = ("--datasets", "mnist-20", "--attacks", "fgsm", "--defenses", "none", "--store", tmp_path)
    called = call("matrix", *flags, *small)
    assert called.code == 2
    assert message in called.err.strip().splitlines()[-1]


def test_an_address_that_is_none_is_one_line_even_when_all_is_thrown_away(tmp_path: Path) -> None:
    small = ("--datasets", "mnist-20", "--models", "mnist-cnn", "--attacks", "fgsm", "--defenses", "none")
    words = command(tmp_path, "--executor", "dask", "--scheduler", "nowhere", axes=small)
    done = run(words, ADVBENCH_DISABLE_PLUGINS="")
    assert done.returncode == 2
    assert "--scheduler nowhere: missing port number" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_worker_that_died_with_nothing_to_do_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from advbench.executors.workers import ProcessPool

    pool = ProcessPool(1)
    first = pool.submit(os.getpid).result()
    os.kill(first, 9)
    time.sleep(0.5)
    assert pool.submit(os.getpid).result() != first
    pool.shutdown()
