"""What :class:`advbench.Results` offers besides its numbers: findings, comparisons, files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.toy_plugin import Dim, Linear

import advbench
from advbench.errors import UsageError

pytestmark = pytest.mark.slow


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


def test_two_models_and_two_attacks_are_compared(evaluate: Callable[..., advbench.Results]) -> None:
    results = evaluate(
        models=["toy-linear", Rounded()], attacks=["toy-sign:eps=0.05", "toy-sign:eps=0.3"], defenses="toy-keep"
    )
    accuracy = {
        (cell["short"]["model"], cell["short"]["attack"]): cell["robust_accuracy"] for cell in results.data["cells"]
    }
    weak, strong = "toy-sign:eps=0.05", "toy-sign:eps=0.3"
    attacks = results.compare(attacks=(weak, strong))
    assert [(row["first"], row["second"]) for row in attacks.rows] == [
        (accuracy[model, weak], accuracy[model, strong]) for model in ("rounded", "toy-linear")
    ]
    models = results.compare(models=("toy-linear", "rounded"))
    assert models.names == ("toy-linear", "rounded")
    assert [(row["first"], row["second"]) for row in models.rows[:2]] == [
        (accuracy["toy-linear", attack], accuracy["rounded", attack]) for attack in (weak, strong)
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give either other results, or defenses=(FIRST, SECOND)"),
        ({"other": "latest", "defenses": ("a", "b")}, "give either"),
        ({"other": "latest~7"}, "'latest~7' names no run"),
        ({"models": ("a", "b"), "defenses": ("a", "b")}, "give either"),
        ({"defenses": "toy-keep"}, "defenses must be a pair of defenses, such as defenses=(FIRST, SECOND)"),
        ({"attacks": ("toy-sign", "fgsm")}, "no cell has attack='fgsm'; there are: toy-sign"),
        ({"defenses": ("toy-keep", "toy-bright")}, "no cell has defense='toy-bright'; there are: toy-keep, toy-dim"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    evaluate: Callable[..., advbench.Results], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as raised:
        evaluate(limit=5).compare(**given)
    assert message in str(raised.value)


def test_page_and_figures_show_samples_of_live_objects(
    evaluate: Callable[..., advbench.Results], tmp_path: Path
) -> None:
    images = torch.rand(30, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    data = (images, Linear(1.0)(images).argmax(dim=1))
    results = evaluate(
        datasets={"mine": data}, models=Linear(1.0), defenses=["toy-keep", darker], threats=["oblivious", "adaptive"]
    )
    page = results.report(tmp_path / "report.html", samples=3)
    assert page == tmp_path / "report.html"
    assert "samples are not shown" not in page.read_text("utf-8").lower()
    assert page.read_text("utf-8").count("data:image/png") >= 6
    without = results.report(tmp_path / "without.html", samples=0)
    assert "data:image/png" not in without.read_text("utf-8")
    (exported,) = results.export(tmp_path / "exported.html")
    assert "data:image/png" in exported.read_text("utf-8")
    figures = results.figures(tmp_path / "figures", ["png", "pdf"], samples=2)
    assert {path.name.partition("-")[0] for path in figures} >= {"attacks", "reconstructions", "strips", "confusion"}
    assert {path.suffix for path in figures} == {".png", ".pdf"}
    assert all(path.stat().st_size for path in figures)
    some = results.figures(tmp_path / "some", "svg", only="confusion")
    assert some
    assert {path.name.partition("-")[0] for path in some} == {"confusion"}


def test_a_network_that_was_trained_since_is_not_shown(
    evaluate: Callable[..., advbench.Results], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = Linear(1.0)
    results = evaluate(models=[network, "toy-linear"], quiet=False)
    with torch.no_grad():
        network.weights += 1
    page = results.report(tmp_path / "report.html", samples=7)  # one more than are stored
    note = "Samples of toy, linear, toy-keep are not shown: the model has changed since it was evaluated"
    assert note in page.read_text("utf-8")
    assert note in " ".join(capsys.readouterr().err.split())
    assert "data:image/png" in page.read_text("utf-8")
    results.figures(tmp_path, only="attacks")
    assert sorted(path.name for path in tmp_path.glob("attacks-*")) == ["attacks-toy-toy-linear.png"]


def test_results_are_exported_in_each_format(evaluate: Callable[..., advbench.Results], tmp_path: Path) -> None:
    results = evaluate(defenses=["toy-keep", darker])
    (tmp_path / "README.md").write_text("# Mine\n<!-- advbench:begin x -->\n<!-- advbench:end x -->\n")
    files = [tmp_path / name for name in ("cells.json", "board.tex", "cells.csv")]
    paths = results.export(*files, f"{tmp_path / 'README.md'}#x")
    assert paths == [*files, tmp_path / "README.md"]
    assert json.loads(files[0].read_text())["cells"] == results.data["cells"]
    assert r"\toprule" in files[1].read_text()
    assert "darker" in files[2].read_text()
    assert (tmp_path / "README.md").read_text().startswith("# Mine\n")
    assert "darker" in (tmp_path / "README.md").read_text()
    assert results.export([tmp_path / "list.md", f"{tmp_path}/list.csv"]) == [
        tmp_path / "list.md",
        tmp_path / "list.csv",
    ]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda results: results.export(), "export(): give at least one file"),
        (lambda results: results.export("a.docx"), "export(): a.docx: no report has the suffix '.docx'; there are:"),
        (lambda results: results.export([]), "export(): give at least one file"),
        (
            lambda results: results.export("a.md", None),
            "export(): file: an object of NoneType is not a path; give text",
        ),
        (lambda results: results.report(["a.html"]), "report(): file: an object of list is not a path; give text or"),
        (lambda results: results.figures(["a"]), "figures(): folder: an object of list is not a path; give text or"),
        (lambda results: results.figures("f", None), "figures(): formats: unknown None; there are: png, svg, pdf"),
        (lambda results: results.export("no/such/a.md"), "export(): no/such/a.md: the folder no/such does not exist"),
        (lambda results: results.report("a.pdf"), "report(): a.pdf: no report has the suffix '.pdf'"),
        (lambda results: results.report(samples=-1), "report(): samples: -1: must be a whole number of at least 0"),
        (lambda results: results.figures("f", "jpg"), "figures(): formats: unknown 'jpg'; there are: png, svg, pdf"),
        (lambda results: results.figures("f", []), "figures(): formats: is empty; give at least one of png, svg, pdf"),
        (lambda results: results.figures("f", only="strip"), "figures(): only: unknown 'strip'; there are: attacks"),
        (lambda results: results.figures(__file__), "cannot be made"),
    ],
)
def test_what_cannot_be_written_is_refused(
    evaluate: Callable[..., advbench.Results],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[advbench.Results], object],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    results = evaluate(limit=5)
    with pytest.raises(UsageError) as raised:
        write(results)
    assert message in str(raised.value)
    assert {path.name for path in tmp_path.iterdir()} <= {"store", "cache"}
