"""A finished command ends, whatever a plugin has left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.conftest import TOY

ATEXIT = "import atexit, time\natexit.register(time.sleep, 600)\n"
THREAD = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\n"
FORK = """
import os, time
from dataclasses import dataclass
from advbench.api import Defense, hookimpl

@dataclass(frozen=True)
class Forking(Defense):
    \"\"\"Forks a child that does not end.\"\"\"
    name = "forking"
    self_contained = True

    def apply(self, images, rng):
        if os.fork() == 0:
            time.sleep(600)
        return images

@hookimpl
def register_defenses(register):
    register(Forking)
"""
HOOK = "from advbench.api import hookimpl\n@hookimpl\ndef register_defenses(register): pass\n"


def _run(tmp_path: Path, source: str, *words: object) -> subprocess.CompletedProcess[str]:
    plugin = tmp_path / "lingering.py"
    plugin.write_text(source)
    command = [sys.executable, "-m", "advbench", *map(str, words), "--plugin", str(plugin)]
    environment = {**os.environ, "ADVBENCH_DISABLE_PLUGINS": "*"}
    # Pipes, so that this waits for everybody who holds them.
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("source", [ATEXIT, THREAD], ids=["atexit", "thread"])
def test_a_hook_or_thread_that_does_not_end_is_ended(tmp_path: Path, source: str) -> None:
    began = time.monotonic()
    ended = _run(tmp_path, source + HOOK, "list", "executors")
    assert time.monotonic() - began < 60
    assert ended.returncode == 0, ended.stderr
    assert "serial" in ended.stdout
    assert "did not end within 5 s after the command; it was ended" in ended.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_a_forked_child_ends_with_the_command(tmp_path: Path) -> None:
    axes = ("--datasets", "toy", "--models", "toy-linear", "--attacks", "toy-sign", "--defenses", "forking")
    ended = _run(tmp_path, FORK, "matrix", *axes, "--plugin", TOY, "--store", tmp_path / "store")
    assert ended.returncode == 1, ended.stderr
    assert "ERR" in ended.stdout
