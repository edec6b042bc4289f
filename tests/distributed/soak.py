"""Kills runs and workers, again and again at random moments: ``python -m tests.distributed.soak --kills 50``.

The moments are spread over the time that a whole run takes on this machine; drivers and workers are killed in turn.
After each kill of a driver the run is begun again by the same command, until it ends. What must hold then: the cells
are those of a run that nobody disturbed, bit for bit; no cell that was finished was made again; nothing is left behind;
and ``advbench cache verify`` finds every entry whole.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.distributed.helpers import bits, command, environment, leftovers, run

__all__ = ["soak"]


def soak(folder: Path, kills: int, seed: int = 0, *, jobs: int = 2) -> dict[str, int]:
    """Kills so many times, runs to the end after each full store, and checks.

    Returns:
        How many drivers and workers were killed; how many of the drivers when some cells were done and some were not;
        and how many runs came to their end.
    """
    chance = random.Random(seed)
    began = time.monotonic()
    whole = run(command(folder / "whole", "--jobs", jobs))
    seconds = time.monotonic() - began
    assert whole.returncode == 0, whole.stderr
    expected = bits(folder / "whole")
    counts = {"drivers": 0, "workers": 0, "halfway": 0, "runs": 0}
    while counts["drivers"] + counts["workers"] < kills:
        store = folder / f"store-{counts['runs']}"
        seen: dict[str, int] = {}
        while True:
            process = subprocess.Popen(
                command(store, "--jobs", jobs, "-q"), env=environment(), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
            )  # fmt: skip
            _disturb(process, chance, counts, kills, seconds)
            error = process.communicate(timeout=300)[1]
            _check_kept(store, seen)
            counts["halfway"] += process.returncode != 0 and 0 < len(seen) < len(expected)
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, f"exit code {process.returncode}: {error}"
        assert bits(store) == expected
        assert leftovers(store) == [], leftovers(store)
        verified = subprocess.run(
            [sys.executable, "-m", "advbench", "cache", "verify", "--store", str(store)],
            env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert verified.returncode == 0, verified.stdout + verified.stderr
        shutil.rmtree(store)
        counts["runs"] += 1
    return counts


def _disturb(
    process: subprocess.Popen[str], chance: random.Random, counts: dict[str, int], kills: int, seconds: float
) -> None:
    """Kills workers of the driver, and then itself, at random moments, as long as there are kills left."""
    while counts["drivers"] + counts["workers"] < kills:
        of_worker = counts["workers"] <= counts["drivers"]
        until = time.monotonic() + chance.uniform(0, seconds)
        while process.poll() is None and (time.monotonic() < until or (of_worker and not _children(process.pid))):
            time.sleep(0.05)
        if process.poll() is not None:
            return
        if not of_worker:
            _kill(process.pid)
            counts["drivers"] += 1
            return
        if workers := _children(process.pid):
            _kill(chance.choice(workers))
            counts["workers"] += 1


def _check_kept(store: Path, seen: dict[str, int]) -> None:
    """A cell that was there is there still, and was not written again."""
    now = {path.stem: path.stat().st_mtime_ns for path in (store / "cells").glob("*/*.json")}
    assert {key: now.get(key) for key in seen} == seen, "a finished cell was made again, or has gone"
    seen.update(now)


def _children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "stat").read_text().rpartition(")")[2].split()
                command_line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if int(words[1]) == parent and b"spawn_main" in command_line:
                found.append(int(entry.name))
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        time.sleep(0.1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        print(soak(Path(name), options.kills, options.seed))
