"""``alias=spec`` calls a component by its alias in tables, pages, exports and comparisons."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.conftest import TOY, Called

import advbench
from advbench.api import DataSources
from advbench.discovery.loading import discover
from advbench.evaluation.plan.build import build_plan, resolve_axes
from advbench.session.live_board import LiveBoard
from advbench.specs import Suite

pytestmark = pytest.mark.slow

Toy = Callable[..., tuple[Called, dict[str, Any]]]
Call = Callable[..., Called]


def test_every_axis_takes_aliases_and_every_table_shows_them_with_the_full_spec(toy: Toy, tmp_path: Path) -> None:
    files = {suffix: tmp_path / f"out.{suffix}" for suffix in ("html", "md", "tex")}
    called, results = toy(
        *(word for file in files.values() for word in ("--export", file)),
        datasets=["digits=toy:size=30"],
        models=["mine=toy-linear:scale=2"],
        attacks=["weak=toy-sign:eps=0.01", "toy-sign"],
        defenses=["base=toy-keep", "both=toy-dim+toy-flip", "toy-dim:factor={0.3,0.6}"],
    )
    assert called.code == 0, called.err
    aliases = {
        "dataset": {"digits": "toy:size=30"},
        "model": {"mine": "toy-linear:scale=2"},
        "attack": {"weak": "toy-sign:eps=0.01,jitter=false,delay=0"},
        "defense": {"base": "toy-keep", "both": "toy-dim:factor=0.5+toy-flip"},
    }
    assert results["run"]["aliases"] == aliases
    shown = {axis: {cell["short"][axis] for cell in results["cells"]} for axis in aliases}
    assert shown == {
        "dataset": {"digits"},
        "model": {"mine"},
        "attack": {"weak", "toy-sign"},
        "defense": {"base", "both", "toy-dim:factor=0.3", "toy-dim:factor=0.6"},
    }
    assert {cell["model"] for cell in results["cells"]} == {"toy-linear:scale=2"}
    for text in (called.out, *(file.read_text().replace("{-}", "-") for file in files.values())):
        assert "digits" in text
        assert "mine" in text
        assert "weak" in text
        assert "both" in text
    assert "mine = toy-linear:scale=2" in called.out
    assert "- alias: `mine = toy-linear:scale=2`" in files["md"].read_text()
    assert "mine = toy-linear:scale=2" in files["html"].read_text()


def test_an_alias_changes_no_key(toy: Toy) -> None:
    _, plain = toy(models=["toy-linear:scale=2"])
    called, aliased = toy(models=["mine=toy-linear:scale=2"])
    assert "2 in the store, 0 to do" in called.err
    assert plain["run"]["run"] == aliased["run"]["run"]
    assert "aliases" not in plain["run"]


def test_a_component_may_be_called_by_its_own_name(toy: Toy) -> None:
    _, results = toy(defenses=["toy-keep", "toy-dim=toy-dim:factor=0.25"])
    assert [cell["short"]["defense"] for cell in results["cells"]] == ["toy-keep", "toy-dim"]


def test_the_aliased_one_of_a_sweep_keeps_its_alias(toy: Toy) -> None:
    _, results = toy(defenses=["toy-dim", "half=toy-dim:factor=0.6", "toy-dim:factor=0.7"])
    assert {cell["short"]["defense"] for cell in results["cells"]} == {"toy-dim", "half", "toy-dim:factor=0.7"}
    page = results["leaderboards"][0]["rows"]
    assert len(page) == 3


def test_comparisons_take_aliases(toy: Toy, call: Call, tmp_path: Path) -> None:
    toy(models=["mine=toy-linear:scale=2", "toy-linear"])
    called = call("compare", "--store", tmp_path / "store", "--models", "mine", "toy-linear", "--format", "json")
    assert called.code == 0, called.err
    assert json.loads(called.out)["first"] == "mine"


def test_a_suite_may_have_aliases_and_flags_may_select_its_components_by_another(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    suite = tmp_path / "suite.toml"
    suite.write_text(
        'attacks = ["toy-sign"]\ndefenses = ["toy-keep"]\ndatasets = ["toy"]\n'
        '[[parts]]\nmodels = ["big=toy-linear:scale=2"]\n[[parts]]\nmodels = ["toy-linear"]\n'
    )
    words = ("matrix", "--suite", suite, "--plugin", TOY, "--dry-run")
    assert call(*words).out.split("\n")[0].split() == ["to", "do", "toy", "big", "toy-sign", "oblivious", "toy-keep"]
    assert call(*words, "--models", "toy-linear:scale=2").out.split()[3] == "big"
    assert call(*words, "--models", "huge=toy-linear:scale=2").out.split()[3] == "huge"


@pytest.mark.parametrize(
    ("defenses", "message"),
    [
        (["one=toy-dim:factor={0.3,0.6}"], "'toy-dim:factor={0.3,0.6}' is a sweep, which has no alias"),
        (["one=toy-keep", "one=toy-dim"], "'one=toy-dim' is called 'one', too; use another alias"),
        (["toy-keep", "toy-keep=toy-dim"], "'toy-keep' is called 'toy-keep', too; use another alias"),
        (["toy-keep", "toy-flip=toy-dim"], "defenses: 'toy-flip' is the name of another defense; use another alias"),
        (["toy-dim=toy-dim+toy-keep"], "'toy-dim' is the name of another defense"),
        (["one=toy-keep", "two=toy-keep"], "are the same after defaults"),
        (["one=two=toy-keep"], "'two=toy-keep'"),
        (["8=toy-keep"], "'8=toy-keep'"),
        (["one="], "''"),
        (["one+two=toy-keep"], "'one+two=toy-keep'"),
    ],
)
def test_an_alias_that_is_not_clear_is_refused_in_one_line(toy: Toy, defenses: list[str], message: str) -> None:
    called, _ = toy(defenses=defenses)
    assert called.code == 2
    assert message in called.error_line()


def test_the_live_board_shows_aliases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    suite = Suite(
        "aliases", datasets=("digits=toy",), models=("mine=toy-linear",),
        attacks=("weak=toy-sign:eps=0.01", "toy-sign"),
        defenses=("base=toy-keep", "toy-dim"),
    )  # fmt: skip
    plan = build_plan(resolve_axes(discover((), [TOY]), suite), DataSources(tmp_path, None), "cpu")
    console = Console(width=80, file=io.StringIO())
    console.print(LiveBoard(plan.cells, {}).render(80, 20))
    words = set(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert {"digits", "mine", "weak", "toy-sign", "base", "toy-dim"} <= words
    assert not {"toy", "toy-linear", "toy-keep"} & words


def test_python_finds_cells_by_the_alias_of_a_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    results = advbench.matrix(
        datasets="toy", models="mine=toy-linear", attacks="toy-sign", defenses="toy-keep", plugin=[TOY], quiet=True,
        name="from Python",
    )  # fmt: skip
    assert results.data["run"]["name"] == "from Python"
    assert len(results.adversarial(model="mine").images) == 40
