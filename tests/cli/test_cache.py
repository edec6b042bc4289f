"""``advbench cache`` on stores of real runs of the toy plugin."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Called

pytestmark = pytest.mark.slow

Toy = Callable[..., tuple[Called, dict[str, Any]]]
Cache = Callable[..., Called]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def cache(call: Callable[..., Called], store: Path) -> Cache:
    return lambda *words: call("cache", *words, "--store", store)


@pytest.fixture
def two_runs(toy: Toy) -> list[str]:
    """Ids of two runs that share an attack and a defense."""
    return [
        toy(attacks=["toy-sign"], defenses=defenses)[1]["run"]["run"]
        for defenses in (["toy-keep", "toy-dim"], ["toy-keep", "toy-flip"])
    ]


def entries(store: Path) -> set[str]:
    kinds = ("adversarial", "clean", "cells", "examples", "runs")
    return {f"{kind}/{path.name}" for kind in kinds for path in (store / kind).rglob("*.*")}


def age(path: Path, hours: float) -> None:
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))


def test_runs_are_listed_with_what_they_take(cache: Cache, two_runs: list[str], store: Path) -> None:
    listing = json.loads(cache("ls", "--format", "json").out)
    assert [run["run"] for run in listing["runs"]] == two_runs[::-1]
    for run in listing["runs"]:
        assert run["cells"] == {"stored": 2, "all": 2}
        assert 0 < run["bytes_alone"] < run["bytes"]
    kinds = ("adversarial", "clean", "cells", "examples", "networks", "runs")
    assert {kind: listing["totals"][kind]["files"] for kind in kinds} == {
        "adversarial": 1, "clean": 3, "cells": 3, "examples": 3, "networks": 0, "runs": 2,
    }  # fmt: skip
    total = sum(listing["totals"][kind]["bytes"] for kind in kinds)
    assert total == sum(path.stat().st_size for path in store.rglob("*.*") if path.suffix in (".json", ".safetensors"))
    shown = cache("ls").out
    assert all(run in shown for run in two_runs)
    assert "KiB" in shown


@pytest.mark.parametrize("kind", ["adversarial", "clean", "cells", "runs"])
@pytest.mark.parametrize("how", ["truncated", "flipped", "empty"])
def test_damage_is_found_listing_and_collected(
    cache: Cache, two_runs: list[str], store: Path, kind: str, how: str
) -> None:
    assert cache("verify").out.endswith("all are intact\n")
    path = sorted((store / kind).rglob("*.*"))[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    path.write_bytes({"truncated": content[: len(content) // 2], "flipped": content, "empty": b""}[how])
    called = cache("verify")
    assert called.code == 1
    assert str(path) in called.out
    assert "1 damaged" in called.out
    called = cache("gc")
    assert called.code == 0
    assert path.exists() == (kind == "runs"), "of a damaged manifest it is not known what its run needs"
    if kind == "runs":
        assert "is damaged" in called.out


def _replace(path: Path, how: str) -> None:
    path.unlink()
    if how == "fifo":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how == "loop":
        path.symlink_to(path)
    else:
        path.write_text("[" * 200_000)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
@pytest.mark.parametrize("kind", ["adversarial", "cells", "runs"])
@pytest.mark.parametrize("how", ["fifo", "folder", "loop", "nested"])
def test_the_advice_on_what_is_no_file_mends_it(
    call: Callable[..., Called], cache: Cache, two_runs: list[str], store: Path, kind: str, how: str
) -> None:
    path = sorted((store / kind).rglob("*.*"))[0]
    _replace(path, how)
    assert cache("ls").code == 0
    shown = call("leaderboard", path.stem if kind == "runs" else "latest", "--store", store)
    assert shown.code == (2 if kind == "runs" else 0), shown
    called = cache("verify")
    assert (called.code, called.err) == (1, "")
    assert f"damaged: {path}" in called.out.replace("damaged manifest", "damaged").replace("damaged folder", "damaged")
    if how == "folder":
        assert "move it out of the store, or delete it" in called.out
        assert cache("gc").code == 0
        path.rmdir()
    elif kind == "runs":
        assert f"advbench cache rm {path.stem}" in called.out
        assert cache("rm", path.stem).code == 0
    else:
        assert "'advbench cache gc' deletes it" in called.out
        assert cache("gc").code == 0
    assert cache("verify").out.endswith("all are intact\n")


def test_what_no_run_refers_to_goes_when_it_is_old_and_a_dry_run_deletes_nothing(
    cache: Cache, two_runs: list[str], store: Path
) -> None:
    (store / "runs" / f"{two_runs[1]}.json").unlink()
    before = entries(store)
    assert "that no run refers to, less than an hour old" in cache("gc").out
    assert entries(store) == before
    for path in store.rglob("*.*"):
        age(path, 2)
    assert "would free" in cache("gc", "--dry-run").out
    assert entries(store) == before
    called = cache("gc")
    assert "no run refers to: 1 clean, 1 cell" in called.out
    assert len(entries(store)) == len(before) - 3
    assert cache("verify").code == 0


def test_left_and_foreign_files_are_listing_and_only_the_left_ones_deleted(
    cache: Cache, two_runs: list[str], store: Path
) -> None:
    chunk = next((store / "adversarial").rglob("*.safetensors"))
    part = chunk.with_name(f"{chunk.stem}.0-20.safetensors")
    part.write_bytes(chunk.read_bytes())
    temporary = store / "tmp" / f"{'0' * 15}.left.tmp"
    temporary.write_bytes(b"half")
    age(temporary, 2)
    foreign = store / "notes.txt"
    foreign.write_text("mine")
    called = cache("verify")
    assert called.code == 1
    for path in (part, temporary, foreign):
        assert str(path) in called.out
    called = cache("gc")
    assert not part.exists()
    assert not temporary.exists()
    assert foreign.read_text() == "mine"
    assert f"foreign, not touched: {foreign}" in called.out


def test_a_removed_run_takes_along_what_is_its_own_and_the_other_is_shown_as_before(
    call: Callable[..., Called], cache: Cache, two_runs: list[str], store: Path
) -> None:
    shown = call("leaderboard", two_runs[1], "--store", store).out
    before = entries(store)
    assert "would free" in cache("rm", two_runs[0], "--dry-run").out
    assert entries(store) == before
    called = cache("rm", two_runs[0])
    assert called.code == 0
    assert "1 clean, 1 cell, 1 cell's samples, 1 manifest" in called.out
    assert len(entries(store)) == len(before) - 4
    assert call("leaderboard", "latest", "--store", store).out == shown
    assert cache("verify").code == 0


@pytest.mark.parametrize("action", ["ls", "verify", "gc"])
def test_where_there_is_no_store_one_line_says_so(cache: Cache, store: Path, action: str) -> None:
    called = cache(action)
    assert called.code == 0
    assert called.error_line() == f"there is no store at {store} yet; 'advbench matrix' creates it"
    assert not store.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rm", "nope"], "'nope' names no run"),
        (["rm"], "RUN"),
        (["gc", "--older-than", "-1"], "--older-than"),
        (["gc", "--dry"], "unknown argument --dry; did you mean --dry-run?"),
        (["list"], "unknown 'list'; did you mean"),
        ([], "ls|verify|gc|rm"),
    ],
)
def test_bad_input_is_one_line(
    call: Callable[..., Called], two_runs: list[str], store: Path, words: list[str], message: str
) -> None:
    called = call("cache", *words, *(["--store", store] if words[:1] in (["rm"], ["gc"]) else []))
    assert called.code == 2
    assert message in called.error_line()
    assert len(entries(store)) == 12
