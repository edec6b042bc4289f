"""The estimate takes a small part of the time of the run."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from concurrent.futures import Executor as FuturesExecutor
from importlib import import_module
from typing import Any

import pytest
import torch
from tests.conftest import Called

from advbench.api import Executor
from advbench.evaluation.work.workspace import Workspace
from advbench.executors.processes import Processes

Toy = Callable[..., tuple[Called, dict[str, Any]]]


@pytest.mark.parametrize(
    ("seconds", "flags", "batches"),
    [(0.0, (), [1, 40, 40, 40]), (0.15, (), [1, 40, 40]), (0.0, ("--limit", 7), [1, 7, 7, 7])],
    ids=["quick", "slow", "few samples"],
)
def test_a_network_is_timed_on_one_batch_and_a_slow_one_less_often(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, seconds: float, flags: tuple[Any, ...], batches: list[int]
) -> None:
    batch_sizes: list[int] = []
    load = Workspace.network

    def network(self: Workspace, spec: str) -> torch.nn.Module:
        loaded = load(self, spec)
        forward = type(loaded).forward

        def slow(images: torch.Tensor) -> torch.Tensor:
            batch_sizes.append(len(images))
            time.sleep(seconds)
            return forward(loaded, images)  # type: ignore[no-any-return]

        loaded.forward = slow
        return loaded

    monkeypatch.setattr(Workspace, "network", network)
    monkeypatch.setattr("advbench.session.run.run_schedule", lambda *_, **__: None)
    toy(*flags)
    assert batch_sizes == batches


def test_the_first_batch_may_wait_for_memory(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    load, waited = Workspace.network, []

    def network(self: Workspace, spec: str) -> torch.nn.Module:
        loaded = load(self, spec)
        forward = type(loaded).forward

        def waits_once(images: torch.Tensor) -> torch.Tensor:
            if len(images) > 1 and not waited:
                waited.append(True)
                time.sleep(1.0)
            return forward(loaded, images)  # type: ignore[no-any-return]

        loaded.forward = waits_once
        return loaded

    monkeypatch.setattr(Workspace, "network", network)
    monkeypatch.setattr("advbench.session.run.run_schedule", lambda *_, **__: None)
    called, _ = toy()
    assert waited
    assert "this will take under 1 s" in called.err, "1 s for the batch, which several jobs need, would be more"


def test_an_estimate_does_not_hold_up_the_run(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("advbench.evaluation.run.estimate"), "_TOTAL_SECONDS", 0.0)
    called, _ = toy("-v")
    assert called.code == 0
    assert "the estimate leaves out what was not measured in 0 s" in called.err
    assert "this will take very roughly" in called.err


def test_an_attack_that_knows_the_defense_takes_the_time_of_all_its_draws(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = {"pass": 0.03, "defense": 0.1}
    timer = import_module("advbench.evaluation.work.timing.components")._Timer
    monkeypatch.setattr(timer, "_seconds", lambda _, timing: taken[timing[0]])
    monkeypatch.setattr("advbench.session.run.run_schedule", lambda *_, **__: None)
    called, _ = toy("--threats", "adaptive", "--eot", 5, defenses=["toy-noise"])
    # 40 images: attacked with one pass of 5 draws each, then classified twice, clean and attacked.
    assert "this will take about 35 s" in called.err, "40 * 5 * (0.03 + 0.1) + 2 * 40 * (0.03 / 3 + 0.1)"
    called, _ = toy("--threats", "oblivious", "--eot", 5, defenses=["toy-noise"])
    assert "this will take about 10 s" in called.err, "40 * 0.03 + 2 * 40 * (0.03 / 3 + 0.1)"


class BreaksWhenTimed(FuturesExecutor):
    """A pool that breaks when a defense is timed, and accepts no task afterwards."""

    opened = 0

    def __init__(self) -> None:
        BreaksWhenTimed.opened += 1
        self.broken = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.broken:
            raise BrokenExecutor("it is broken")
        future: Future[Any] = Future()
        if fn.__name__ == "measure" and args[1][0] == "defense":
            self.broken = True
            future.set_exception(BrokenExecutor("it broke"))
        else:
            future.set_result(fn(*args, **kwargs))
        return future


@pytest.mark.usefixtures("quick_workers")
def test_a_pool_that_breaks_during_timing_is_reopened(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Processes, "open", lambda *_: BreaksWhenTimed())
    monkeypatch.setattr(Processes, "everywhere", Executor.everywhere)
    monkeypatch.setattr(Processes, "abandon", lambda *_: None)
    monkeypatch.setattr(BreaksWhenTimed, "opened", 0)
    called, results = toy("--executor", "processes")
    assert called.code == 0, called.err
    assert [cell["status"] for cell in results["cells"]] == ["ok", "ok"]
    assert BreaksWhenTimed.opened == 3, "one, and one more for each of two defenses"
