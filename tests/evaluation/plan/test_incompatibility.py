"""A defense that cannot take images of a shape is skipped with its reason, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TOY, Called

from advbench.api import Defense
from advbench.discovery.loading import discover
from advbench.specs import resolve_chain

PLUGIN = '''
from dataclasses import dataclass

from advbench.api import Defense, WeightsError, hookimpl, param


@dataclass(frozen=True)
class Picky(Defense):
    """Takes images of one width alone."""

    name = "picky"
    width: int = param(4, min=1, help="the width")
    how: str = param("answers", choices=("answers", "raises", "is wrong"), help="what incompatibility does")

    def incompatibility(self, image_shape):
        if self.how == "raises":
            raise RuntimeError("cannot tell")
        if self.how == "is wrong":
            return 7
        return "" if image_shape[2] == self.width else f"picky takes images {self.width} wide,\\n not {image_shape}"

    def weights_digest(self):
        if self.width != 4:
            raise WeightsError("no weights for this width: incompatibility was not asked first")
        return "0" * 64

    def apply(self, images, rng):
        return images


@hookimpl
def register_defenses(register):
    register(Picky)
'''

Run = Callable[..., tuple[Called, dict[str, Any]]]


@pytest.fixture
def run(call: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs toys through some defenses."""
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    plugin, target = tmp_path / "picky.py", tmp_path / "r.json"
    plugin.write_text(PLUGIN)

    def call_with(*defenses: str) -> tuple[Called, dict[str, Any]]:
        axes = ("--datasets", "toy", "--models", "toy-linear", "--attacks", "toy-sign", "--defenses", *defenses)
        files = ("--plugin", TOY, "--plugin", plugin, "--store", tmp_path / "store", "--export", target)
        called = call("matrix", *axes, *files)
        return called, json.loads(target.read_text()) if target.exists() else {}

    return call_with


def test_a_defense_that_does_not_fit_is_skipped_with_its_reason(run: Run) -> None:
    called, results = run("toy-keep", "picky:width=9", "toy-keep+picky:width=9", "picky", "toy-keep+picky")
    assert called.code == 0
    assert [cell["status"] for cell in results["cells"]] == ["ok", "skipped", "skipped", "ok", "ok"]
    assert results["cells"][1]["error"] == "picky takes images 9 wide, not (1, 4, 4)"
    assert results["cells"][2]["error"] == results["cells"][1]["error"], "each part of a chain is asked"
    assert "2 skipped" in called.err
    assert "skipped: picky takes images 9 wide, not (1, 4, 4)" in called.out
    assert len(results["leaderboards"][0]["rows"]) == 3


def test_when_nothing_fits_nothing_runs(run: Run) -> None:
    called, _ = run("picky:width=9", "picky:width=8")
    assert called.code == 2
    assert called.error_line().endswith("no cell can be run: picky takes images 9 wide, not (1, 4, 4)")


@pytest.mark.parametrize(
    ("how", "message"), [("raises", "RuntimeError: cannot tell"), ('"is wrong"', "returned 7 from incompatibility()")]
)
def test_a_defense_that_cannot_answer_fails_its_own_cells(run: Run, how: str, message: str) -> None:
    called, results = run("toy-keep", f"picky:how={how}")
    assert called.code == 1
    assert [cell["status"] for cell in results["cells"]] == ["ok", "error"]
    assert message in results["cells"][1]["error"]


def test_a_defense_takes_every_shape_unless_it_says_otherwise() -> None:
    class Any_(Defense):
        name = "any"

        def apply(self, images: Any, rng: Any) -> Any:
            return images

    assert Any_().incompatibility((7, 3, 1)) == ""
    (chain,) = resolve_chain(discover(), "jpeg+gaussian")
    assert chain.incompatibility((1, 28, 28)) == ""
