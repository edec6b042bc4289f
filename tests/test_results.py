"""``advbench.results``: suites run and earlier runs read from Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from advbench import results
from advbench.errors import UsageError
from tests.conftest import TOY

SUITE = """
datasets = ["toy"]
models = ["toy-linear"]
attacks = ["toy-sign"]
defenses = ["toy-keep", "toy-dim"]
limit = 8
"""


def test_a_suite_is_run_and_its_run_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    (tmp_path / "toys.toml").write_text(SUITE)
    store = tmp_path / "store"
    made = results.run_suite(tmp_path / "toys.toml", store=store, plugin=[TOY], quiet=True)
    assert made.ok
    assert [cell["n"] for cell in made.data["cells"]] == [8, 8]
    again = results.read_run("latest", store)
    assert again["run"]["run"] == made.data["run"]["run"]
    assert [cell["robust_accuracy"] for cell in again["cells"]] == [c["robust_accuracy"] for c in made.data["cells"]]
    with pytest.raises(UsageError, match="names no run"):
        results.read_run("zzz", store)
    with pytest.raises(UsageError, match=r"unknown suite 'tosy'"):
        results.run_suite("tosy", store=store, quiet=True)


def test_two_components_of_a_stored_run_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    (tmp_path / "toys.toml").write_text(SUITE)
    made = results.run_suite(tmp_path / "toys.toml", store=tmp_path / "store", plugin=[TOY], quiet=True)
    manifest, records = results.read_records("latest", tmp_path / "store")
    assert [cell["key"] for cell in manifest["cells"]] == list(records)
    keep, dim = (cell["defense"] for cell in manifest["cells"])
    (row,) = results.compare_components(manifest, records, "defense", keep, dim)
    assert [row["first"], row["second"]] == [cell["robust_accuracy"] for cell in made.data["cells"]]
    with pytest.raises(UsageError, match="the axis is 'dataset'; it must be one of model, attack, defense"):
        results.compare_components(manifest, records, "dataset", "toy", "toy")


def test_a_run_is_read_from_the_default_store(own_cache: Path) -> None:
    with pytest.raises(UsageError, match=f"the store {own_cache}/advbench/store holds no run yet"):
        results.read_run()
