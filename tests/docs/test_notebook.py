"""The example notebook runs from its first cell to its last, in a fresh folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow(minutes=1)

NOTEBOOK = Path(__file__).parents[2] / "examples" / "evaluate-a-network.ipynb"

DRIVER = """
import ast, json, pathlib, sys
notebook = json.loads(pathlib.Path(sys.argv[1]).read_text("utf-8"))
cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
shown = []
for cell in cells:
    tree = ast.parse("".join(cell["source"]))
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), globals())
    if last is not None:
        value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), globals())
        forms = [getattr(value, name, None) for name in ("_repr_html_", "_repr_markdown_", "__repr__")]
        shown.append(next(form for form in forms if form)())
print(json.dumps(shown))
"""
"""Does what Jupyter does: runs each cell in one namespace, in no file, and shows the value of its last expression."""


def test_the_notebook_trains_evaluates_and_writes_files_with_samples(tmp_path: Path, own_cache: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", DRIVER, str(NOTEBOOK)]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    loss, board, findings, compared, figures = json.loads(made.stdout.splitlines()[-1])
    assert float(loss) < 1
    assert "<table>" in board
    assert all(f"{name}<" in board for name in ("none", "binarise", "sign"))
    assert "mine" in board
    assert "reference" in board
    assert "zero-gradients" in findings
    assert "binarise" in compared
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "are not shown" not in page
    assert page.count("data:image/png") > 20
    assert {path.name.partition("-")[0] for path in (tmp_path / "figures").iterdir()} == {
        "attacks",
        "reconstructions",
        "strips",
    }
    assert "PosixPath" in figures
    assert "binarise" in (tmp_path / "board.md").read_text("utf-8")
    assert r"\toprule" in (tmp_path / "board.tex").read_text("utf-8")
