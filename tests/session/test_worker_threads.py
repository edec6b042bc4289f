"""Workers share the threads that one process would have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from advbench.evaluation.work import workspace as environment_module
from advbench.evaluation.work.workspace import THREAD_VARIABLES, Environment
from advbench.process.watching import attributes
from advbench.session.options import RunOptions
from advbench.session.session import Session


@pytest.fixture(autouse=True)
def eight_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    # Sessions watch the replaced function; the tests after these have what was watched before.
    monkeypatch.setattr(attributes, "_watched", attributes._watched)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)


def threads(tmp_path: Path, jobs: int) -> int | None:
    return Session(RunOptions(store=tmp_path, device="cpu", jobs=jobs)).environment.threads


@pytest.mark.parametrize(("jobs", "each"), [(1, None), (2, 4), (3, 2), (8, 1), (20, 1)])
def test_threads_are_divided_among_the_workers(tmp_path: Path, jobs: int, each: int | None) -> None:
    assert threads(tmp_path, jobs) == each


@pytest.mark.parametrize("name", THREAD_VARIABLES)
def test_a_number_that_the_user_has_set_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "3")
    assert threads(tmp_path, 2) is None


def test_a_worker_takes_no_more_threads_than_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.setattr(environment_module, "_current", None)
    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is as before afterwards
    environment_module.get_workspace(Environment(tmp_path, tmp_path, None, "cpu", 1, threads=3))
    assert taken == [3]
    assert {os.environ[name] for name in THREAD_VARIABLES} == {"3"}
