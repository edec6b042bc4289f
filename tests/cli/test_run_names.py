"""``--name`` calls a run what its user calls it, wherever it is shown."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Called

Toy = Callable[..., tuple[Called, dict[str, Any]]]
Call = Callable[..., Called]


def exported(toy: Toy, tmp_path: Path, *flags: str) -> dict[str, str]:
    """What each kind of export of a run holds, by its suffix."""
    files = {suffix: tmp_path / f"out.{suffix}" for suffix in ("html", "md", "tex", "csv")}
    toy(*flags, *(word for file in files.values() for word in ("--export", file)))
    return {suffix: file.read_text() for suffix, file in files.items()}


def test_the_name_is_in_every_export_and_in_the_list_of_runs(toy: Toy, call: Call, tmp_path: Path) -> None:
    texts = exported(toy, tmp_path, "--name", "Baseline & co")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["run"]["name"] == "Baseline & co"
    assert "--name 'Baseline & co'" in results["run"]["command"]
    assert "<title>Baseline &amp; co · advbench</title>" in texts["html"]
    assert "<h1>Baseline &amp; co</h1>" in texts["html"]
    assert "- name: `Baseline & co`" in texts["md"]
    assert r"Baseline \& co" in texts["tex"]
    assert {row["run_name"] for row in csv.DictReader(texts["csv"].splitlines())} == {"Baseline & co"}
    (run,) = json.loads(call("cache", "ls", "--store", tmp_path / "store", "--format", "json").out)["runs"]
    assert run["name"] == "Baseline & co"
    assert "Baseline & co" in call("cache", "ls", "--store", tmp_path / "store").out


def test_a_page_of_a_run_without_a_name_says_what_it_is_about(toy: Toy, tmp_path: Path) -> None:
    page = exported(toy, tmp_path)["html"]
    assert "<h1>toy · toy-linear</h1>" in page
    assert "<title>toy · toy-linear · advbench</title>" in page


def test_a_name_changes_no_key_and_a_repeated_command_renames_the_run(toy: Toy) -> None:
    _, first = toy("--name", "one")
    called, second = toy("--name", "two")
    assert "2 in the store, 0 to do" in called.err
    assert first["run"]["run"] == second["run"]["run"]
    assert second["run"]["name"] == "two"


def test_commands_find_a_run_by_its_name(toy: Toy, call: Call, tmp_path: Path) -> None:
    runs = [toy("--name", name, "--limit", limit)[1]["run"]["run"] for name, limit in (("a run", 9), ("mine", 8))]
    store = ("--store", tmp_path / "store")
    assert runs[0] in call("leaderboard", "a run", *store).out
    called = call("leaderboard", "their run", *store)
    assert called.code == 2
    assert "'their run' names no run in" in called.error_line()


@pytest.mark.parametrize("name", ["week one", "bad"])
def test_a_name_of_several_runs_means_the_latest_and_a_line_lists_the_others(
    toy: Toy, call: Call, tmp_path: Path, name: str
) -> None:
    first, second = (toy("--name", name, "--limit", limit)[1]["run"]["run"] for limit in (9, 8))
    store = ("--store", tmp_path / "store")
    called = call("leaderboard", name, *store)
    assert called.code == 0
    assert called.error_line() == f"{name!r} is the name of several runs: {second} is the latest; others: {first}"
    assert second in called.out
    assert first not in called.out
    called = call("cache", "rm", name, *store)
    assert called.code == 2
    message = f"{name!r} is the name of several runs in {tmp_path / 'store'}: {second} is the latest, others: {first}"
    assert f"{message}; give the id of one" in called.error_line()
    assert call("cache", "rm", second, *store).code == 0
    assert call("leaderboard", name, *store).err == ""


def test_a_comparison_of_named_runs_shows_their_names(toy: Toy, call: Call, tmp_path: Path) -> None:
    for name, draws in (("before", 1), ("after", 3)):
        toy("--name", name, "--score-draws", draws, defenses=["toy-noise"])
    called = call("compare", "before", "after", "--store", tmp_path / "store")
    assert called.code == 0, called.err
    assert {"before", "after"} <= set(called.out.split())
    shown = json.loads(call("compare", "before", "after", "--store", tmp_path / "store", "--format", "json").out)
    assert [shown["first_name"], shown["second_name"]] == ["before", "after"]


@pytest.mark.parametrize("name", ["", " ", "two\nlines", "\x1b[31mred", "a\u202eb", "n" * 101])
def test_a_name_is_one_printable_line(toy: Toy, name: str) -> None:
    called, _ = toy("--name", name)
    assert called.code == 2
    assert called.error_line().startswith("advbench matrix: error: --name: ")
    assert called.error_line().isprintable()


@pytest.mark.parametrize("name", ["latest", " latest ", "latest~1", "latest~x"])
def test_a_name_that_means_another_run_is_refused(toy: Toy, name: str) -> None:
    called, _ = toy("--name", name)
    assert called.code == 2
    assert f"{name.strip()}: 'latest' and 'latest~N' mean the last runs; choose another name" in called.error_line()
