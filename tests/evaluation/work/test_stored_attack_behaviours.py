"""Stored results are used again only if an attack does what it did when they were computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Called

pytestmark = [pytest.mark.slow(minutes=1), pytest.mark.usefixtures("quick_workers")]

Run = Callable[..., tuple[Called, dict[str, Any]]]

ATTACK = """
import os, pathlib
from dataclasses import dataclass
import numpy as np, torch
from advbench.api import Attack, Budget, for_rows, hookimpl, param

@dataclass(frozen=True)
class Pull(Attack):
    "Goes toward grey, or past it, by a share that is neither in its code nor in its parameters."

    name = "pull"
    how: str = param("variable", help="where the share is from")

    def budget(self):
        return Budget("linf", 0.6)

    def run(self, model, images, labels, rng):
        share = 1.0
        if self.how == "raises":
            raise ValueError("on purpose")
        if self.how == "ends":
            os._exit(7)
        if self.how == "variable":
            share = float(os.environ["SHARE"])
        if self.how == "file":
            share = float((pathlib.Path(__file__).parent / "share.txt").read_text())
        if self.how == "long":  # asks more often than it is let, each time a little further on
            for step in range(1200):
                model(images * (1 - float(os.environ["SHARE"]) * step / 1200))
        if self.how == "search":  # random search, one image after another
            eps = float((pathlib.Path(__file__).parent / "share.txt").read_text()) / 2
            for row in range(len(images)):
                one = for_rows(model, torch.tensor([row]))
                for _ in range(400):
                    noise = rng[torch.tensor([row])].uniform(*images.shape[1:], low=-eps, high=eps)
                    one((images[row : row + 1] + noise).clamp(0, 1))
            return (images + (0.5 - images).sign() * eps).clamp(0, 1)
        if self.how == "global":
            share = float(np.random.rand() + torch.rand(())) / 2
        if self.how == "random":
            share = float(np.random.default_rng().random())
        return images + (0.5 - images) * share

@hookimpl
def register_attacks(register):
    register(Pull)
"""

Pulled = Callable[..., tuple[Called, list[dict[str, Any]]]]


@pytest.fixture
def pulled(toy: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pulled:
    """Runs a plugin's attack beside another, with a share in a variable and in a file; the call, and the cells."""
    plugin = tmp_path / "pull_plugin.py"
    plugin.write_text(ATTACK)

    def run(
        how: str, share: str = "1.1", jobs: int = 1, flags: Sequence[object] = ()
    ) -> tuple[Called, list[dict[str, Any]]]:
        monkeypatch.setenv("SHARE", share)
        (tmp_path / "share.txt").write_text(share)
        attacks = ["toy-sign", f"pull:how={how}"]
        called, results = toy("--plugin", plugin, "--jobs", jobs, *flags, attacks=attacks, defenses=["toy-keep"])
        return called, results["cells"]

    return run


@pytest.mark.parametrize(("how", "jobs"), [("variable", 1), ("file", 1), ("file", 2)])
def test_what_shapes_a_plugins_attack_is_in_the_key(pulled: Pulled, how: str, jobs: int) -> None:
    _, before = pulled(how, jobs=jobs)
    called, after = pulled(how, "0.1", jobs)
    assert before[0]["robust_accuracy"] == after[0]["robust_accuracy"]
    assert before[1]["robust_accuracy"] < after[1]["robust_accuracy"]
    assert f"attack 'pull{'' if how == 'variable' else ':how=file'}' has other outputs" in " ".join(called.err.split())
    called, again = pulled(how, jobs=jobs)
    assert again == before
    assert "all 2 cells come from the store" in called.err


def test_an_attack_that_asks_very_often_is_known_by_what_it_asked(pulled: Pulled) -> None:
    pulled("long")
    assert "all 2 cells come from the store" in pulled("long")[0].err
    assert "has other outputs" in pulled("long", "0.8")[0].err


@pytest.mark.parametrize("jobs", [1, 2])
def test_so_is_one_that_searches_one_image_after_another(pulled: Pulled, jobs: int) -> None:
    called, before = pulled("search", "0.1", jobs)
    assert "queries the model more than 1,000 times, and only the beginning is compared" in called.err
    assert "all 2 cells come from the store" in pulled("search", "0.1", jobs)[0].err
    for share in ("0.12", "1.1"):
        called, after = pulled("search", share, jobs)
        assert "has other outputs" in called.err
    assert before[1]["robust_accuracy"] > after[1]["robust_accuracy"]


def test_with_a_memory_limit_plugins_are_observed_in_a_worker(pulled: Pulled) -> None:
    limit = ("--memory", 8)
    _, before = pulled("file", flags=limit)
    called, after = pulled("file", "0.1", flags=limit)
    assert "has other outputs" in called.err
    assert before[1]["robust_accuracy"] < after[1]["robust_accuracy"]
    assert "all 2 cells come from the store" in pulled("file", "0.1")[0].err, "the same as without a limit"


def test_an_attack_that_draws_from_global_generators_is_found_again_and_one_of_its_own_is_not(pulled: Pulled) -> None:
    pulled("global")
    assert "all 2 cells come from the store" in pulled("global")[0].err
    pulled("random")
    called, _ = pulled("random")
    assert "1 in the store, 1 to do" in called.err
    assert "attack 'pull:how=random' is random: two passes" in called.err


@pytest.mark.parametrize(
    ("how", "jobs", "message"),
    [("raises", 1, "ValueError: on purpose"), ("ends", 1, "os._exit(7)"), ("ends", 2, "its worker process died")],
)
def test_an_attack_that_fails_when_it_is_asked_fails_in_its_own_cells(
    pulled: Pulled, how: str, jobs: int, message: str
) -> None:
    called, cells = pulled(how, jobs=jobs)
    assert called.code == 1
    assert [cell["status"] for cell in cells] == ["ok", "error"]
    assert message in cells[1]["error"]
