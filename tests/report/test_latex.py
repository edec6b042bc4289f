"""LaTeX tables compile, agree with the results, and escape text from plugins."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from advbench.report.latex import Latex, escape

pytestmark = pytest.mark.slow

LATEX = shutil.which("pdflatex")
AWKWARD = r"<img src=x onerror=alert(1)> \input{/etc/passwd} 50% $x$ a_b^c #1 & ~ -- ?` ''"
FOREIGN = "naïve Größe 中文 🙂 \x07 ε λ"

compiles = pytest.mark.skipif(LATEX is None, reason="needs pdflatex on the PATH")


@pytest.fixture(scope="module")
def results(real_run: Path) -> dict[str, Any]:
    """Results of a real run."""
    loaded: dict[str, Any] = json.loads((real_run / "board.json").read_text())
    assert (real_run / "board.tex").read_text() == Latex().render(loaded)
    return loaded


@pytest.fixture
def awkward(results: dict[str, Any]) -> dict[str, Any]:
    """The same results with names and messages that contain LaTeX commands."""
    text = json.dumps(results).replace("jpeg", "JPEG-NAME")
    loaded: dict[str, Any] = json.loads(text.replace("JPEG-NAME", json.dumps(AWKWARD)[1:-1]))
    loaded["cells"][0].update(status="error", error=f"{AWKWARD} {FOREIGN}", robust_accuracy=None)
    return loaded


def compile_tex(folder: Path, name: str) -> str:
    """Compiles a file and returns the log."""
    assert LATEX is not None
    words = [LATEX, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", name]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / name).with_suffix(".pdf").stat().st_size > 5000
    return (folder / name).with_suffix(".log").read_text(errors="replace")


def rows(text: str) -> list[list[str]]:
    """The cells of the rows of all tables, in order."""
    lines = [line for line in text.splitlines() if line.endswith(r" \\") and not line.startswith(r"\begin")]
    return [line.removesuffix(r" \\").split(" & ") for line in lines]


def test_every_number_equals_the_results(results: dict[str, Any]) -> None:
    (board,) = results["leaderboards"]
    cells = {(cell["defense"], cell["threat"], cell["attack"]): cell for cell in results["cells"]}
    names = {row["defense"]: row for row in board["rows"]}
    shown = rows(Latex().render(results))
    assert len(shown) == len(names)
    for line in shown:
        plain = [re.sub(r"\\textbf\{(.*?)\}", r"\1", cell) for cell in line]
        short = plain[0].replace("{-}", "-")
        (defense,) = [full for full in names if re.fullmatch(re.escape(short) + "([:,].*)?", full)]
        expected = [f"{100 * names[defense]['clean_accuracy']:.1f}"]
        for column in board["columns"]:
            cell = cells[defense, column["threat"], column["attack"]]
            low, high = cell["robust_accuracy_ci95"]
            ends = rf"\advbenchci{{{100 * low:.1f}}}{{{100 * high:.1f}}}"
            expected.append(f"{100 * cell['robust_accuracy']:.1f}{ends}")
        low, high = names[defense]["worst_case"]["ci95"]
        expected.append(f"{100 * names[defense]['worst_case']['accuracy']:.1f}")
        assert plain[1:-1] == expected
        assert plain[-1] == f"{100 * low:.1f}--{100 * high:.1f}"


def test_the_best_of_a_column_is_bold(results: dict[str, Any]) -> None:
    (board,) = results["leaderboards"]
    bold = [line[0] for line in rows(Latex().render(results)) if line[1].startswith(r"\textbf")]
    best = max(row["clean_accuracy"] for row in board["rows"])
    assert len(bold) == sum(row["clean_accuracy"] == best for row in board["rows"])


def test_rows_of_a_sweep_are_separated(results: dict[str, Any]) -> None:
    text = Latex().render(results)
    assert text.count(r"\addlinespace") == 2, "none, two of jpeg, tvm"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b", r"a\_b"),
        ("50 %", r"50 \%"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("--", "{-}{-}"),
        ("L∞ ≤ 0.3", r"L$\infty$ $\le$ 0.3"),
        ("é中", "é{[}U+4E2D{]}"),
        ("a\nb", "a b"),
        ("a\\\n", r"a\textbackslash{}"),
    ],
)
def test_escape_leaves_no_commands(text: str, expected: str) -> None:
    assert escape(text) == expected


def test_names_from_plugins_are_escaped(awkward: dict[str, Any]) -> None:
    text = Latex().render(awkward)
    assert "<img" not in text
    assert r"\input{/etc" not in text
    assert "$x$" not in text


@compiles
@pytest.mark.parametrize("kind", ["results", "awkward"])
def test_the_file_compiles_on_its_own(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    (tmp_path / "board.tex").write_text(Latex().render(request.getfixturevalue(kind)))
    log = compile_tex(tmp_path, "board.tex")
    wide = [float(width) for width in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\)", log)]
    assert not [points for points in wide if points > 5], log


@compiles
@pytest.mark.parametrize("intervals", [True, False])
def test_a_document_can_include_the_file(results: dict[str, Any], tmp_path: Path, intervals: bool) -> None:
    (tmp_path / "board.tex").write_text(Latex().render(copy.deepcopy(results)))
    off = "" if intervals else r"\newcommand{\advbenchci}[2]{}"
    (tmp_path / "paper.tex").write_text(
        r"\documentclass[twocolumn]{article}\usepackage[utf8]{inputenc}\usepackage{booktabs,graphicx}" + off + "\n"
        r"\begin{document}As table~\ref{tab:advbench-1} shows."
        "\n"
        r"\input{board.tex}"
        "\nThe end.\\end{document}\n"
    )
    compile_tex(tmp_path, "paper.tex")
    if shutil.which("pdftotext"):
        words = ["pdftotext", "-layout", "paper.pdf", "-"]
        printed = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        assert "The end." in printed
        assert ("[0.0, 16.1]" in printed) == intervals


def test_only_standard_packages_are_used(results: dict[str, Any]) -> None:
    lines = [line.strip() for line in Latex().render(results).splitlines() if not line.startswith("%")]
    asked = [
        re.findall(r"\\usepackage(?:\[.*?\])?\{(.*?)\}", line) for line in lines if line.startswith("\\usepackage")
    ]
    assert asked == [["inputenc"], ["geometry"], ["booktabs,graphicx"]]
