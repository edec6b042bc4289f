"""Plugins that override names of an earlier version keep working, and their authors are warned."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Called

PLUGIN = Path(__file__).parents[1] / "old_names_plugin.py"


def test_overrides_under_old_names_count_and_warn_once(
    toy: Callable[..., tuple[Called, dict[str, Any]]],
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        called, results = toy(
            "--plugin", PLUGIN, attacks=("toy-sign", "old-attack"), defenses=("toy-keep", "old-defense")
        )
    assert called.code == 0
    skipped = [cell["error"] for cell in results["cells"] if cell["defense"] == "old-defense"]
    assert skipped == ["old-defense takes images 8 wide"] * 2
    (minimal,) = (c for c in results["cells"] if (c["attack"], c["defense"]) == ("old-attack", "toy-keep"))
    assert minimal["status"] == "ok"
    assert minimal["norm"] == "l2"
    lines = PLUGIN.read_text().splitlines()
    overrides = [one for one in caught if "Old" in str(one.message)]
    assert sorted(str(one.message).partition(", ")[0] for one in overrides) == [
        "OldAttack overrides Attack.minimises",
        "OldAttack overrides Attack.run",
        "OldDefense overrides Defense.misfit",
    ]
    for one in overrides:
        assert one.category is DeprecationWarning
        assert Path(one.filename) == PLUGIN
        assert lines[one.lineno - 1].strip() in (
            "def minimises(self):",
            "def misfit(self, image_shape):",
            "def run(self, model, images, labels, rng):",
        )


@pytest.mark.parametrize("overrides_run", [False, True])
def test_a_module_of_the_first_api_version_works_and_is_warned_about_once(
    toy: Callable[..., tuple[Called, dict[str, Any]]], tmp_path: Path, overrides_run: bool
) -> None:
    method = (
        "run(self, model, images, labels, rng)" if overrides_run else "craft(self, model, images, goal, rng, fitted)"
    )
    plugin = tmp_path / f"first_version_{overrides_run}.py"
    plugin.write_text(
        "from dataclasses import dataclass\nfrom advbench.api import Attack, hookimpl\nAPI_VERSION = 1\n"
        "@dataclass(frozen=True)\nclass First(Attack):\n    'Nothing.'\n    name = 'first'\n"
        f"    def {method}:\n        return images\n"
        "@hookimpl\ndef register_attacks(register):\n    register(First)\n"
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        called, results = toy("--plugin", plugin, attacks=("first",), defenses=("toy-keep",))
    assert called.code == 0
    assert results["cells"][0]["status"] == "ok"
    (one,) = (one for one in caught if "first_version" in str(one.message) or "First" in str(one.message))
    assert one.category is DeprecationWarning
    assert "use Attack.craft" in str(one.message) or "API_VERSION = 2" in str(one.message)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["check", "list"])
def test_the_check_command_shows_authors_what_is_deprecated(command: str, tmp_path: Path) -> None:
    """Python hides such warnings from the users of a library, who can do nothing about them."""
    words = ["attacks"] if command == "list" else []
    done = subprocess.run(
        [sys.executable, "-m", "advbench", command, *words, "--plugin", PLUGIN],
        env={**os.environ, "ADVBENCH_DISABLE_PLUGINS": "*", "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    shown = "OldAttack overrides Attack.minimises, which is deprecated since advbench 0.2" in done.stderr
    assert shown == (command == "check"), done.stderr
