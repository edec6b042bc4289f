"""What tests share: the command line called in this process, the toy plugin, distributions made on the spot."""

from __future__ import annotations

import gc
import importlib
import json
import logging
import multiprocessing.spawn
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from advbench.cli.main import main
from tests.forking import Programs

TOY = Path(__file__).with_name("toy_plugin.py")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    # A shell that has no job control starts background jobs (`pytest &`) with SIGINT ignored, and the processes that
    # tests start and interrupt would inherit that. So would pytest-xdist's workers, which read this file, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported, and for the processes that tests start
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a second thread would only take the core of the tests beside it


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """A process for each core that this one may use, and one for when tests wait for processes that they started.

    pytest-xdist would count the machine's cores.
    """
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ or not hasattr(os, "sched_getaffinity"):
        return None
    return len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    """Nothing is garbage while tests are collected, and torch imported: no pass looks for any."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Passes during tests leave out what has been imported and collected."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a test that takes minutes come first, so that no process is left with one of them at the end."""
    minutes: dict[Path, float] = {}
    for item in items:
        for marker in item.iter_markers("slow"):
            minutes[item.path] = max(minutes.get(item.path, 0), marker.kwargs.get("minutes", 0))
    items.sort(key=lambda item: -minutes.get(item.path, 0))


@dataclass(frozen=True)
class Called:
    """What a call of the command line left."""

    code: int
    out: str
    err: str

    def error_line(self) -> str:
        """The one line on stderr that a usage error is."""
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, so that no test sees the user's results."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.delenv("COLUMNS", raising=False)  # tests rely on the width of tables in pipes
    return cache


@pytest.fixture(autouse=True)
def own_logging() -> None:
    """No test inherits what commands of earlier ones, or of fixtures of wider scope, did to the log."""
    logger = logging.getLogger("advbench")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test inherits that a component of another has changed this process, which they share."""
    monkeypatch.setattr("advbench.api.executor._taint", "")


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Fills a folder once for all the processes that run tests side by side: whichever asks first does it."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def filled(name: str, fill: Callable[[Path], object]) -> Path:
        import fcntl  # here, so that other tests run where there is none

        folder, filled = shared / name, shared / f"{name}.filled"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not filled.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of one who failed
                folder.mkdir()
                fill(folder)
                filled.touch()
        return folder

    return filled


@pytest.fixture(scope="session")
def _programs() -> Iterator[Programs]:
    started = Programs()
    yield started
    started.close()


@pytest.fixture(scope="session")
def programs(_programs: Programs) -> Mapping[str, str]:
    """Variables with which `advbench` and `python` start at once: as copies of a process that has imported torch."""
    return {"PATH": _programs.path}


@pytest.fixture
def quick_workers(_programs: Programs, request: pytest.FixtureRequest) -> None:
    """Worker processes that start at once, in the same way."""
    before = multiprocessing.spawn.get_executable()
    multiprocessing.set_executable(_programs.python)
    request.addfinalizer(lambda: multiprocessing.set_executable(before))


@pytest.fixture(scope="session")
def real_run(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The folder of a real run: its store, and its board in every format. It is only read."""
    from tests.report.real_run import run_for_reports

    return once("real-run", run_for_reports)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Called]:
    """Calls the command line in this process."""

    def run(*words: object) -> Called:
        capsys.readouterr()
        code = main([str(word) for word in words])
        logging.getLogger("advbench").handlers.clear()
        captured = capsys.readouterr()
        return Called(code, captured.out, captured.err)

    return run


@pytest.fixture
def toy(
    call: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Called, dict[str, Any]]]:
    """Runs a matrix of the toy plugin, every built-in plugin disabled; returns the call and its results."""
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")

    def run(
        *flags: object,
        attacks: Sequence[str] = ("toy-sign",),
        defenses: Sequence[str] = ("toy-keep", "toy-dim"),
        datasets: Sequence[str] = ("toy",),
        models: Sequence[str] = ("toy-linear",),
        store: str = "store",
    ) -> tuple[Called, dict[str, Any]]:
        target = tmp_path / "results.json"
        target.unlink(missing_ok=True)
        axes = ("--datasets", *datasets, "--models", *models, "--attacks", *attacks, "--defenses", *defenses)
        files = ("--plugin", TOY, "--store", tmp_path / store, "--export", target)
        called = call("matrix", *axes, *files, *flags)
        return called, json.loads(target.read_text()) if target.exists() else {}

    return run


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a distribution with one plugin module on the path, as pip would leave it."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def make(distribution: str, source: str, version: str = "1.0") -> None:
        module = distribution.replace("-", "_")
        (site / f"{module}.py").write_text(source)
        info = site / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[advbench]\n{module} = {module}\n")
        monkeypatch.delitem(sys.modules, module, raising=False)
        importlib.invalidate_caches()

    return make
