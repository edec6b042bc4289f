"""Whoever runs the tasks, the cells are the same, bit for bit."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.conftest import TOY, Called
from tests.distributed.helpers import bits, command, environment, leftovers, run

pytestmark = pytest.mark.slow(minutes=2)

REAL = (
    "--datasets", "mnist-5k", "--limit", 30, "--models", "mnist-cnn", "--batch-size", 12,
    "--attacks", "fgsm:eps=0.1", "pgd:eps=0.1,steps=5", "deepfool:steps=10",
    "--defenses", "none", "jpeg", "kmeans", "tvm", "--threats", "oblivious", "adaptive", "--eot", 2,
)  # fmt: skip


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory, programs: Mapping[str, str]) -> Path:
    """The store of a run in one process."""
    store = tmp_path_factory.mktemp("serial") / "store"
    done = run(command(store, axes=REAL), ADVBENCH_DISABLE_PLUGINS="", **programs)
    assert done.returncode == 0, done.stderr
    return store


def test_two_processes_give_every_bit_of_one(serial: Path, tmp_path: Path) -> None:
    done = run(command(tmp_path, "--jobs", 2, axes=REAL), ADVBENCH_DISABLE_PLUGINS="")
    assert done.returncode == 0, done.stderr
    assert len(bits(serial)) == 24
    assert bits(tmp_path) == bits(serial)
    assert leftovers(tmp_path) == leftovers(serial) == []


def test_a_dask_cluster_gives_every_bit_of_one_process(
    serial: Path, tmp_path: Path, cluster: Callable[..., str]
) -> None:
    address = cluster(2, ADVBENCH_DISABLE_PLUGINS="")
    store = tmp_path / "store"
    done = run(command(store, "--executor", "dask", "--scheduler", address, axes=REAL), ADVBENCH_DISABLE_PLUGINS="")
    assert done.returncode == 0, done.stderr
    assert bits(store) == bits(serial)
    assert leftovers(store) == []
    assert "distributed" not in done.stderr


@pytest.fixture(scope="module")
def worker(lasting_cluster: Callable[..., str]) -> str:
    """The address of a cluster of one worker as users start it."""
    return lasting_cluster(1)


@pytest.fixture(scope="module")
def worker_with_options(lasting_cluster: Callable[..., str]) -> str:
    """The address of one whose worker has three threads, and offers a GPU that it does not see."""
    return lasting_cluster(1, "--resources", "GPU=1", threads=3, CUDA_VISIBLE_DEVICES="")


def test_a_worker_with_another_plugin_is_refused_by_name(
    tmp_path: Path, worker: str, programs: Mapping[str, str]
) -> None:
    file = tmp_path / "toy_plugin.py"
    file.write_text(f"{TOY.read_text()}\nVERSION = 1\n")
    flags = ("--executor", "dask", "--scheduler", worker)
    words = command(tmp_path / "store", *flags, axes=(*TINY, "--plugin", file))
    done = run(words, **programs)
    assert done.returncode == 0, done.stderr
    file.write_text(f"{TOY.read_text()}\nVERSION = 2\n")  # the worker goes on with what it has loaded
    done = run(words, **programs)
    assert done.returncode == 2
    error = done.stderr.strip().splitlines()[-1]
    assert re.search(r"worker tcp://127.0.0.1:\d+ has another dataset toy: that of file toy_plugin.py, code", error), (
        error
    )
    assert "install the same there, and restart it" in error


TINY = ("--datasets", "toy", "--models", "toy-linear", "--attacks", "toy-sign", "--defenses", "toy-keep")


@pytest.fixture
def tiny(call: Callable[..., Called], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Called]:
    """Runs a matrix of one cell from this process on a cluster."""
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    on = ("--plugin", TOY, "--executor", "dask", "--scheduler")
    return lambda address, store, *flags: call("matrix", *TINY, *on, address, "--store", store, *flags)


def test_gpus_that_workers_do_not_offer_or_see_are_missed_by_name(
    tiny: Callable[..., Called], tmp_path: Path, worker: str
) -> None:
    # This machine need not have a GPU either, as a login node.
    done = tiny(worker, tmp_path / "store", "--device", "cuda")
    assert done.code == 2, done.err
    assert f"none of its workers offers a GPU; start them with 'dask worker {worker} --resources \"GPU=1\"'" in done.err


def test_a_worker_that_offers_a_gpu_and_sees_none_is_refused(
    tiny: Callable[..., Called], tmp_path: Path, worker_with_options: str
) -> None:
    done = tiny(worker_with_options, tmp_path / "store", "--device", "cuda")
    assert done.code == 2, done.err
    last = done.err.strip().splitlines()[-1]
    assert re.search(r"worker tcp://127.0.0.1:\d+ sees no cuda:0; start it where there is a GPU", last), last
    (manifest,) = (tmp_path / "store" / "runs").glob("*.json")
    assert json.loads(manifest.read_text())["manifest"]["device"].startswith("cuda:0")


def test_the_manifest_tells_the_threads_of_the_workers(
    tiny: Callable[..., Called], tmp_path: Path, worker_with_options: str
) -> None:
    done = tiny(worker_with_options, tmp_path / "store", "--export", tmp_path / "results.json")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "results.json").read_text())["run"]["threads"] == 3
    (manifest,) = (tmp_path / "store" / "runs").glob("*.json")
    assert json.loads(manifest.read_text())["manifest"]["threads"] == 3


def test_workers_find_a_store_that_was_named_from_another_folder(
    tiny: Callable[..., Called], tmp_path: Path, worker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    done = tiny(worker, "store")
    assert done.code == 0, done.err
    assert len(bits(folder / "store")) == 1
    assert not (tmp_path / "store").exists()


def test_a_cluster_made_here_ends_with_the_run_on_ctrl_c(tmp_path: Path) -> None:
    log = tmp_path / "log"
    axes = ("--datasets", "toy", "--models", "toy-linear", "--attacks", "toy-sign:delay=60", "--defenses", "toy-keep")
    process = subprocess.Popen(
        command(tmp_path / "store", "--executor", "dask", "--jobs", 2, axes=(*axes, "--plugin", TOY)),
        env=environment(TOY_LOG=str(log)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 60
    while not log.exists() and time.monotonic() < until:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "cells are finished and stored" in err
    assert "Traceback" not in err
    until = time.monotonic() + 15
    while time.monotonic() < until:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.2)
    raise AssertionError("workers outlive the run")
