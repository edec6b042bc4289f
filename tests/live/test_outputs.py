"""What :class:`advbench.Results` offers besides its numbers: findings, comparisons, files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.toy_plugin import Dim, Linear

import advbench
from advbench.errors import UsageError

pytestmark = pytest.mark.slow

TOY = Path(__file__).parents[1] / "toy_plugin.py"


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., advbench.Results]:
    """Evaluates the toys, but for what is given."""
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    toys = {"datasets": "toy", "models": "toy-linear", "attacks": "toy-sign", "defenses": ["toy-keep", "toy-dim"]}
    where = {"plugin": [TOY], "store": tmp_path / "store", "quiet": True}
    return lambda **given: advbench.matrix(**{**toys, **where, **given})


class Rounded(torch.nn.Module):
    """The toy model without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear(1.0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.round(images * 8) / 8)  # type: ignore[no-any-return]


def darker(images: torch.Tensor) -> torch.Tensor:
    return images * 0.5


def test_findings_name_the_criterion_and_the_cells(evaluate: Callable[..., advbench.Results]) -> None:
    results = evaluate(models=["toy-linear", Rounded()], defenses="toy-keep")
    (finding,) = [found for found in results.findings if found["criterion"] == "zero-gradients"]
    assert [results.rows()[index]["model"] for index in finding["cells"]] == ["rounded"]
    assert finding["message"].startswith("the gradient is zero for")
    assert finding["advice"]


def test_two_runs_are_compared(evaluate: Callable[..., advbench.Results]) -> None:
    weak = evaluate(attacks="toy-sign:eps=0.05")
    strong = evaluate(attacks="toy-sign:eps=0.3")
    compared = weak.compare(strong)
    assert [(row["first"], row["second"]) for row in compared.rows if row["short"]["defense"] == "toy-keep"] == [
        (weak.rows()[0]["robust_accuracy"], strong.rows()[0]["robust_accuracy"])
    ]
    assert ("attack toy-sign: eps", "0.05", "0.3") in compared.differing
    assert "attack toy-sign: eps: 0.05 → 0.3" in str(compared)
    assert "eps=0.3" in compared._repr_markdown_()
    assert strong.compare("latest~1").rows[0]["second"] == compared.rows[0]["first"]


def test_two_defenses_are_compared(evaluate: Callable[..., advbench.Results]) -> None:
    results = evaluate(defenses=["toy-keep", darker, "toy-dim:factor=0.25"])
    (row,) = results.compare(defenses=("toy-keep", "darker")).rows
    assert [row["first"], row["second"]] == [cell["robust_accuracy"] for cell in results.rows()[:2]]
    assert results.compare(defenses=("darker", Dim(0.25))).names == ("darker", "toy-dim:factor=0.25")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give either other results or defenses=(FIRST, SECOND)"),
        ({"other": "latest", "defenses": ("a", "b")}, "give either"),
        ({"other": "latest~7"}, "'latest~7' names no run"),
        ({"defenses": "toy-keep"}, "defenses must be two specs"),
        ({"defenses": ("toy-keep", "toy-bright")}, "no cell has defense='toy-bright'; there are: toy-keep, toy-dim"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    evaluate: Callable[..., advbench.Results], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as raised:
        evaluate(limit=5).compare(**given)
    assert message in str(raised.value)
