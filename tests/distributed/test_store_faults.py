"""Whatever befalls the store: never a wrong number, never a traceback, and a message that says what to do."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TOY, Called
from tests.distributed.helpers import bits, command, environment, leftovers

from advbench.cli.main import main
from advbench.store import Store

pytestmark = [pytest.mark.slow(minutes=1), pytest.mark.usefixtures("quick_workers")]

SMALL = (
    "--datasets", "toy:size=1200", "--models", "toy-linear", "--attacks", "toy-sign:eps={0.1,0.2}", "--defenses",
    "toy-keep", "toy-noise", "--batch-size", "300",
)  # fmt: skip
WITH_TOY = (*SMALL, "--plugin", str(TOY))
Again = Callable[..., Called]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a run that nothing befell."""
    store = tmp_path_factory.mktemp("whole") / "store"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
        assert main(["matrix", *WITH_TOY, "--store", str(store)]) == 0
    return store


@pytest.fixture
def again(call: Callable[..., Called], monkeypatch: pytest.MonkeyPatch) -> Again:
    """Runs the same matrix on a store."""
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    return lambda store, *flags: call("matrix", *WITH_TOY, "--store", store, *flags)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    others = [other for other in path.parent.parent.rglob(f"*{path.suffix}") if other != path]
    shutil.copy(others[0], path)


@pytest.mark.parametrize("damage", [truncate, flip, empty, foreign])
def test_damaged_entries_are_made_again_and_the_numbers_are_those_of_before(
    whole: Path, tmp_path: Path, call: Callable[..., Called], again: Again, damage: Callable[[Path], None]
) -> None:
    store = tmp_path / "store"
    shutil.copytree(whole, store)
    for kind in ("adversarial", "clean", "cells"):
        damage(next(path for path in (store / kind).rglob("*") if path.is_file()))
    _, *cells = sorted((store / "cells").rglob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in cells:  # so that all that cells are made of is read again
        path.unlink()
    done = again(store)
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    assert "is damaged and is not used" in done.err.replace("\n", " ")
    assert bits(store) == bits(whole)
    verified = call("cache", "verify", "--store", store)
    assert verified.code == 0, verified.out


def test_a_damaged_manifest_is_written_again(whole: Path, tmp_path: Path, again: Again) -> None:
    store = tmp_path / "store"
    shutil.copytree(whole, store)
    truncate(next((store / "runs").glob("*.json")))
    done = again(store)
    assert done.code == 0, done.err
    assert "4 in the store, 0 to do" in done.err


def test_what_a_killed_writer_left_is_swept_and_never_read(whole: Path, tmp_path: Path, again: Again) -> None:
    store = tmp_path / "store"
    (store / "tmp").mkdir(parents=True)
    half = next((whole / "cells").rglob("*.json"))
    (store / "tmp" / f"{'0' * 15}.half.tmp").write_bytes(half.read_bytes()[:100])
    done = again(store)
    assert done.code == 0, done.err
    assert bits(store) == bits(whole)
    assert leftovers(store) == []


DIES_ONCE = """
import os
from dataclasses import dataclass
from pathlib import Path
from advbench.api import Defense, hookimpl

@dataclass(frozen=True)
class DiesOnce(Defense):
    name = "dies-once"
    def apply(self, images, rng):
        half = Path(os.environ["HALF"])
        died = half.with_name("died")
        if len(images) == 300 and not died.exists():  # not while the defense is only looked at
            died.touch()
            half.parent.mkdir(parents=True, exist_ok=True)
            half.write_bytes(b"half")
            os._exit(9)
        return images

@hookimpl
def register_defenses(register): register(DiesOnce)
"""


def test_what_a_worker_was_writing_when_it_died_is_swept_at_the_end_of_the_run(
    call: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, plugin = tmp_path / "store", tmp_path / "dies_once.py"
    plugin.write_text(DIES_ONCE)
    half = store / "tmp" / f"{'0' * 15}.half.tmp"
    axes = (*SMALL[:-2], "dies-once", *SMALL[-2:], "--plugin", TOY, "--plugin", plugin)
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    monkeypatch.setenv("HALF", str(half))
    done = call("matrix", *axes, "--jobs", 2, "--store", store)
    assert done.code == 0, done.err
    assert half.with_name("died").exists()
    half.with_name("died").unlink()
    assert leftovers(store) == []


def test_parts_of_a_chunk_that_is_whole_are_swept_unless_it_is_being_made_again(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "store")
    store = Store(tmp_path / "store")
    chunk = next((tmp_path / "store" / "adversarial").rglob("*.safetensors"))
    older, newer = (chunk.with_name(f"{chunk.stem}.{part}.safetensors") for part in ("0-300", "300-600"))
    for part, seconds in ((older, -60), (newer, 60)):
        part.write_bytes(chunk.read_bytes())
        os.utime(part, (chunk.stat().st_mtime + seconds,) * 2)
    of_none = chunk.with_name(f"{'0' * 40}.0-300.safetensors")  # its chunk is not whole: the next run goes on from it
    of_none.write_bytes(chunk.read_bytes())
    store.remove_leftovers()
    assert not older.exists()
    assert newer.exists()
    assert of_none.exists()
    assert chunk.exists()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_disk_that_is_full_stops_the_run_and_what_was_kept_is_whole(
    whole: Path, tmp_path: Path, call: Callable[..., Called], again: Again, jobs: str
) -> None:
    store = tmp_path / "store"
    limit = 12_000  # bytes a file: a manifest is smaller, adversarial images are not

    def no_larger_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        command(store, "--jobs", jobs, axes=WITH_TOY), env=environment(), stdin=subprocess.DEVNULL, timeout=300,
        capture_output=True, text=True, check=False, preexec_fn=no_larger_files,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    error = done.stderr.strip().splitlines()[-1]
    assert f"store {store} cannot be written: " in error
    assert "File too large" in error
    assert "choose another with --store DIR" in error
    assert leftovers(store) == []
    assert call("cache", "verify", "--store", store).code == 0
    assert again(store, "--jobs", jobs).code == 0
    assert bits(store) == bits(whole)


@pytest.mark.skipif(os.geteuid() == 0, reason="a superuser may write to read-only folders")
def test_a_folder_that_cannot_be_written_is_refused_before_any_work(whole: Path, tmp_path: Path, again: Again) -> None:
    store = tmp_path / "store"
    shutil.copytree(whole, store)
    store.chmod(0o500)
    done = again(store, "--seed", "1")
    store.chmod(0o700)
    assert done.code == 2
    assert "cannot be written: Permission denied" in done.err


def test_a_disk_without_room_is_told_before_any_work(
    call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    small = ("--datasets", "mnist-20", "--models", "mnist-cnn", "--attacks", "fgsm", "--defenses", "none")
    called = call("matrix", *small, "--store", tmp_path)
    assert called.code == 2
    line = called.err.strip().splitlines()[-1]
    assert f"store {tmp_path} has 9.8 KiB of free disk space, and this run stores up to 77.0 KiB" in line
    assert not list(tmp_path.rglob("*.safetensors"))
