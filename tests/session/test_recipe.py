"""The command that a board prints makes the same board again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TOY, Called

pytestmark = pytest.mark.slow

Toy = Callable[..., tuple[Called, dict[str, Any]]]

BOTH = ("--threats", "oblivious", "adaptive")


@pytest.mark.parametrize(
    "flags",
    [
        *(("--limit", "9"), ("--seed", "3"), ("--seeds", "3", "4"), ("--precision", "bf16"), ("--check-convergence",)),
        *((*BOTH, "--eot", "2"), ("--score-draws", "2"), ("--device", "cpu"), ("--cell-timeout", "60")),
        ("--threats", "transfer", "--surrogate", "toy-linear:scale=2"),
    ],
    ids=lambda flags: flags[-2].strip("-") if len(flags) > 1 else flags[0],
)
def test_every_flag_that_shapes_the_board_is_in_its_command(toy: Toy, flags: tuple[str, ...]) -> None:
    _, results = toy(*flags, defenses=["toy-keep", "toy-noise"])
    assert " ".join(flags) in results["run"]["command"]


@pytest.mark.parametrize(
    "flags", [("--jobs", "1"), ("--batch-size", "7"), ("--rerun", "all"), ("-q",), ("--fail-fast",)]
)
def test_how_it_runs_is_not(toy: Toy, flags: tuple[str, ...]) -> None:
    _, results = toy(*flags)
    assert results["run"]["command"].endswith(f"--defenses toy-keep toy-dim --plugin {TOY}")


def test_so_is_the_users_own_folder_of_data(toy: Toy, tmp_path: Path) -> None:
    _, results = toy("--data-dir", tmp_path)
    assert f"--data-dir {tmp_path}" in results["run"]["command"]


def test_where_nothing_can_be_run_nothing_is_said_to_come_from_the_store(toy: Toy, tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom advbench.api import Defense, hookimpl\n"
        "@dataclass(frozen=True)\nclass Odd(Defense):\n    name = 'odd'\n"
        "    def incompatibility(self, image_shape):\n        raise OSError('nothing is known of shapes')\n"
        "    def apply(self, images, rng):\n        return images\n"
        "@hookimpl\ndef register_defenses(register):\n    register(Odd)\n"
    )
    called, results = toy("--plugin", file, defenses=["odd"])
    assert called.code == 1
    assert [cell["status"] for cell in results["cells"]] == ["error"]
    assert "come from the store" not in called.err
    assert "nothing to compute of 1 cells: 1 cannot be run" in called.err
    toy(defenses=["toy-keep"])
    called, _ = toy("--plugin", file, defenses=["toy-keep", "odd"])
    assert "nothing to compute of 2 cells: 1 in the store" in called.err
    assert "1 cannot be run" in called.err
    assert "come from the store" not in called.err
    called, _ = toy(defenses=["toy-keep"])
    assert "all 1 cells come from the store" in called.err


def test_the_undefended_model_is_not_marked_as_a_defense_where_its_cells_fail(toy: Toy) -> None:
    called, results = toy(models=["toy-linear"], attacks=["toy-rogue:how=raise"], defenses=["toy-keep", "toy-dim"])
    marks = {row["defense"].split(":")[0]: row["marks"] for row in results["leaderboards"][0]["rows"]}
    assert marks == {"toy-keep": [], "toy-dim": ["not adaptively attacked"]}
    assert "toy-keep †" not in called.out


def test_nor_where_the_model_cannot_be_loaded(toy: Toy, tmp_path: Path) -> None:
    file = tmp_path / "lost.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom advbench.api import Model, hookimpl\n"
        "@dataclass(frozen=True)\nclass Lost(Model):\n    name = 'lost'\n    image_shape = (1, 4, 4)\n"
        "    num_classes = 3\n"
        "    def load(self):\n        raise OSError('gone')\n"
        "    def weights_digest(self):\n        raise OSError('gone')\n"
        "@hookimpl\ndef register_models(register):\n    register(Lost)\n"
    )
    called, results = toy("--plugin", file, models=["lost"], defenses=["toy-keep"])
    assert called.code == 1
    assert results["leaderboards"][0]["rows"][0]["marks"] == []
    assert "†" not in called.out
