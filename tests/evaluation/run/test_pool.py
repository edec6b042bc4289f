"""Workers are compared with the driver before any work, and broken pools are reopened."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Future
from concurrent.futures import Executor as FuturesExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TOY, Called

from advbench.api import Executor
from advbench.evaluation.run.scheduler import RETRIES
from advbench.executors.processes import Processes
from advbench.executors.workers import ProcessPool

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_workers")]

Toy = Callable[..., tuple[Called, dict[str, Any]]]


@pytest.mark.parametrize(
    ("differs", "message"),
    [
        ({"torch": "1.0"}, "worker far has another torch: 1.0, and not "),
        (
            {"attack toy-sign": "that of toys 2, code 0"},
            "worker far has another attack toy-sign: that of toys 2, code 0,",
        ),
        ({"attack toy-sign": None}, "worker far has no attack toy-sign: it is older; install it there"),
        ({"store": "another"}, "worker far does not see the store"),
        (OSError("no module"), "worker far cannot report its versions: no module; is advbench"),
    ],
    ids=["version", "code", "missing", "store", "nothing"],
)
def test_a_worker_that_has_something_else_is_refused_by_name(
    call: Callable[..., Called], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, differs: Any, message: str
) -> None:
    def answers(self: Processes, pool: Any, function: Callable[..., Any], *args: Any) -> Mapping[str, Any]:
        answer = function(*args)
        if not isinstance(differs, dict):
            return {"near": answer, "far": differs}
        changed = {**answer, **differs}
        return {"near": answer, "far": {name: value for name, value in changed.items() if value is not None}}

    monkeypatch.setattr(Processes, "everywhere", answers)
    axes = ("--datasets", "toy", "--models", "toy-linear", "--attacks", "toy-sign", "--defenses", "toy-keep")
    called = call("matrix", "--jobs", 2, "--plugin", TOY, *axes, "--store", tmp_path / "store")
    assert not list((tmp_path / "store" / "cells").glob("*/*"))
    assert called.code == 2
    assert message in called.err.strip().splitlines()[-1]


class Breaking(FuturesExecutor):
    """A pool that breaks as a whole when its third task is run, and every time that one is."""

    culprit: Any = None

    def __init__(self) -> None:
        self.pool = ProcessPool(1)
        self.count = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if fn.__name__ != "execute":
            return self.pool.submit(fn, *args, **kwargs)
        self.count += 1
        if Breaking.culprit is None and self.count == 3:
            Breaking.culprit = args[1]
        if args[1] == Breaking.culprit:
            future: Future[Any] = Future()
            future.set_exception(BrokenExecutor("it broke"))
            return future
        return self.pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.pool.abandon()


def test_a_pool_that_breaks_is_opened_anew_and_only_the_culprit_fails(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def open_pool(self: Processes, jobs: int, gpus: int = 0) -> Breaking:
        opened.append(jobs)
        return Breaking()

    monkeypatch.setattr(Processes, "open", open_pool)
    monkeypatch.setattr(Processes, "everywhere", Executor.everywhere)
    monkeypatch.setattr(Processes, "abandon", lambda self, pool: pool.shutdown())
    monkeypatch.setattr(Breaking, "culprit", None)
    called, results = toy(
        "--executor", "processes", attacks=["toy-sign", "toy-minimal"], defenses=["toy-keep", "toy-dim"]
    )
    assert called.code == 1
    assert len(opened) == 3
    statuses = [cell["status"] for cell in results["cells"]]
    assert statuses.count("error") in (1, 2), "a chunk or clean predictions serve two cells"
    assert statuses.count("ok") >= 2
    assert any("its worker process died" in str(cell["error"]) for cell in results["cells"])


def test_a_task_is_tried_as_often_as_the_guide_says() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "guides" / "many-machines.md").read_text()
    assert RETRIES == 2
    assert "another worker repeats the task; if two repetitions fail" in guide


def test_a_task_whose_key_inputs_have_changed_is_not_stored(toy: Toy, tmp_path: Path) -> None:
    from advbench.evaluation.plan.tasks import CleanTask
    from advbench.evaluation.work import workspace as current
    from advbench.evaluation.work.execute import execute
    from advbench.store import Store

    toy(defenses=["toy-keep"])
    workspace = current._current
    assert workspace is not None
    (path,) = (tmp_path / "store" / "clean").glob("*/*.json")
    key_inputs = Store(tmp_path / "store").read_key_inputs("clean", path.stem)
    assert key_inputs is not None
    ids = tuple(range(40))
    task = CleanTask({**key_inputs, "torch": "1.0"}, ids, "toy", "toy-linear", "toy-keep", 0)
    outcome = execute(workspace.environment, task)
    assert "torch changed on disk while the run was under way" in outcome.error
    assert not execute(workspace.environment, dataclasses.replace(task, key_inputs=key_inputs)).error


DIES = """
import os, sys
from pathlib import Path
from advbench.store import Store
with Store(Path(sys.argv[1])).timeout_marker(sys.argv[2]) as marker:
    marker.write(sys.argv[3])
    marker.flush()
    os._exit(1)
"""


@pytest.mark.parametrize(
    ("written", "error"),
    [
        (["Timeout"], "it took longer than the cell timeout of 60 s"),
        (["", "Timeout"], "it took longer than the cell timeout of 60 s"),
        (["", "", ""], "its worker process died 3 times"),
        (["", ""], ""),
    ],
    ids=["time", "crash and time", "three crashes", "two crashes"],
)
def test_a_worker_to_which_a_pool_gives_what_ended_others_says_what_the_driver_would(
    toy: Toy, tmp_path: Path, written: list[str], error: str
) -> None:
    from advbench.evaluation.plan.tasks import CleanTask
    from advbench.evaluation.work import workspace as current
    from advbench.evaluation.work.execute import execute, timeout_marker_name
    from advbench.store import Store

    toy(defenses=["toy-keep"])
    assert current._current is not None
    environment = dataclasses.replace(current._current.environment, timeout=60)
    (path,) = (tmp_path / "store" / "clean").glob("*/*.json")
    key_inputs = Store(tmp_path / "store").read_key_inputs("clean", path.stem)
    assert key_inputs is not None
    path.unlink()
    ids = tuple(current._current.images("toy").ids.tolist())
    task = CleanTask(key_inputs, ids, "toy", "toy-linear", "toy-keep", 0)
    for text in written:
        words = [sys.executable, "-c", DIES, str(tmp_path / "store"), timeout_marker_name(environment, task), text]
        assert subprocess.run(words, check=False).returncode == 1
    assert execute(environment, task).error == error
    assert list((tmp_path / "store" / "tmp").iterdir()) == []
    assert not execute(environment, task).error, "another run tries it again"
