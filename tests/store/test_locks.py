"""Other processes see locks; locks end with their process, and leave no file open."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from advbench.store import Store

HOLD = """
import sys, time
from pathlib import Path
from advbench.store import Store
store = Store(Path(sys.argv[1]))
with store.claim("a"), store.locks.writing():
    (store.root / "tmp").mkdir(exist_ok=True)
    (store.root / "tmp" / f"{store.locks.writer}.data.tmp").write_text("half")
    print(store.locks.writer, flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_claim_lasts_until_its_process_dies(tmp_path: Path) -> None:
    store = Store(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    writer = process.stdout.readline().strip()
    left = tmp_path / "tmp" / f"{writer}.data.tmp"
    with store.claim("a") as acquired, store.claim("b") as free:
        assert (acquired, free) == (False, True)
    assert store.locks.writer_is_gone(writer) is False
    store.remove_leftovers()
    assert left.exists()
    process.kill()
    process.communicate()
    with store.claim("a") as acquired:
        assert acquired
    assert store.locks.writer_is_gone(writer) is True
    store.remove_leftovers()
    assert not left.exists()


def test_a_process_can_claim_a_name_only_once_and_leaves_no_file_open(tmp_path: Path) -> None:
    store, other = Store(tmp_path), Store(tmp_path / "." / "")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with store.claim("a") as acquired, other.claim("a") as twice, store.locks.writing(), other.locks.writing():
        assert (acquired, twice) == (True, False)
        assert other.locks.writer_is_gone(store.locks.writer) is False
    with store.claim("a") as acquired:
        assert acquired
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_without_locks_every_claim_succeeds_and_only_old_files_are_removed(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    store = Store(tmp_path)
    with store.claim("a") as acquired:
        assert acquired
    assert store.locks.writer_is_gone("0" * 15) is None
    files = [tmp_path / "tmp" / f"{'0' * 15}.{name}.tmp" for name in ("young", "old")]
    files[0].parent.mkdir()
    for file in files:
        file.write_text("half")
    os.utime(files[1], (0, time.time() - 7200))
    store.remove_leftovers()
    assert [file.exists() for file in files] == [True, False]


MARK = """
import faulthandler, os, sys, time
from pathlib import Path
from advbench.store import Store
with Store(Path(sys.argv[1])).timeout_marker("ab12") as marker:
    if sys.argv[2] == "up":
        faulthandler.dump_traceback_later(0.2, exit=True, file=marker)
    elif sys.argv[2] == "crash":
        os.kill(os.getpid(), 9)
    print("under way", flush=True)
    sys.stdin.read()
"""


def marker(folder: Path, how: str) -> subprocess.Popen[str]:
    """A process with a running task; it dies by itself, or exits when its input is closed."""
    return subprocess.Popen(
        [sys.executable, "-c", MARK, str(folder), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_ended_attempts_reports_only_processes_that_have_died(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.ended_attempts("ab12", certain=True) == []
    for how in ("crash", "up"):
        with marker(tmp_path, how) as process:
            process.wait()
    with marker(tmp_path, "live") as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert sorted(store.ended_attempts("ab12")) == [False, True]
        assert store.ended_attempts("cd34") == []
        store.forget_attempts("ab12")
        assert store.ended_attempts("ab12") == []
        assert len(list((tmp_path / "tmp").iterdir())) == 1, "the marker of the running process is kept"
        process.communicate()
    assert list((tmp_path / "tmp").iterdir()) == []
