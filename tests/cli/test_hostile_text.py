"""Texts of plugins, suites, files and flags are shown and have no other effect, in every format of output."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from markdown_it import MarkdownIt
from tests.hostile_text_plugin import CONTROL, FORMULA, MARKUP, TEXT

from advbench.printable import one_line, printable

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LATEX = shutil.which("pdflatex")
SUITE = "[red]<b>=1+1\x1b[7m\u202e**s**\\input{x}.toml"
FORMATS = ("json", "csv", "md", "tex", "html")
PLUGINS = [word for name in ("toy", "hostile_text") for word in ("--plugin", str(TESTS / f"{name}_plugin.py"))]


class Run(NamedTuple):
    """A finished command."""

    folder: Path
    out: str
    err: str

    def read(self, suffix: str) -> str:
        return (self.folder / f"board.{suffix}").read_bytes().decode()


def not_printable(text: str) -> set[str]:
    return {character for character in text if not character.isprintable()} - {"\n"}


def advbench(folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "ADVBENCH_DISABLE_PLUGINS": "*", "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-m", "advbench", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)


@pytest.fixture(scope="module")
def run(once: Callable[[str, Callable[[Path], object]], Path]) -> Run:
    """A run of the hostile components from a hostile suite, exported in every format."""

    def fill(folder: Path) -> None:
        axes = {
            "datasets": ["hostile-digits"],
            "models": ["toy-linear"],
            "attacks": ["toy-sign:eps={0.05,0.1}"],
            "defenses": [
                "toy-keep",
                "hostile-text",
                f"hostile-text:mark={json.dumps(FORMULA + MARKUP)}",
                "hostile-error",
            ],
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in {"description": TEXT, **axes}.items()]
        (folder / SUITE).write_text("\n".join(lines).replace("\x7f", "\\u007f"))
        exports = [word for suffix in FORMATS for word in ("--export", f"board.{suffix}")]
        done = advbench(folder, "matrix", "--suite", SUITE, "--store", "store", *PLUGINS, *exports)
        (folder / "out").write_bytes(done.stdout)
        (folder / "err").write_bytes(done.stderr)
        assert (folder / "board.html").exists(), done.stderr.decode()

    folder = once("hostile-text", fill)
    return Run(folder, *((folder / name).read_bytes().decode() for name in ("out", "err")))


def test_a_command_writes_no_control_character_and_shows_markup_as_it_is(run: Run) -> None:
    for text in (run.out, run.err):
        assert not not_printable(text)
        assert r"\x1b[7mINVERTED" in text
    assert "[bold red]RICH[/] :smile:" in re.sub(r"\s+", " ", run.out)
    assert "[bold red]RICH[/] :smile:" in re.sub(r"\s+", " ", run.err)


def test_in_a_terminal_only_the_styles_of_advbench_are_escape_sequences(run: Run) -> None:
    from advbench.report.terminal import print_results
    from advbench.session.opening import tables

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    console = tables(stream)
    print_results(console, json.loads(run.read("json")))
    console.print(TEXT)
    shown = stream.getvalue()
    assert "\x1b[7m" not in shown
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert not not_printable(plain)
    assert "[bold red]RICH[/] :smile:" in plain


def test_the_texts_of_charts_and_figures_are_printable(run: Run) -> None:
    from advbench.report.charts import eps_charts, scatter_charts
    from advbench.report.figures.style import shortened

    results = json.loads(run.read("json"))
    for cell in results["cells"]:
        cell["short"] = {**cell["short"], "defense": f"{cell['short']['defense']}{CONTROL}"}
    charts = [*eps_charts(results), *scatter_charts(results)]
    names = [line.name for chart in charts for line in chart.lines]
    names += [point.name for chart in charts for line in chart.lines for point in line.points]
    assert any(r"\u202eTHGIR" in name for name in names)
    for text in (*names, *(chart.title for chart in charts), shortened(TEXT, 2000)):
        assert text.isprintable()


def test_json_has_the_texts_and_no_control_character(run: Run) -> None:
    assert not not_printable(run.read("json"))
    results = json.loads(run.read("json"))
    assert results["run"]["name"] == SUITE.removesuffix(".toml")


def test_no_field_of_the_csv_file_is_a_formula(run: Run) -> None:
    rows = list(csv.reader(io.StringIO(run.read("csv"), newline="")))
    assert len(rows) == 9
    for field in (field for row in rows for field in row):
        assert not not_printable(field) and "\n" not in field
        assert field.lstrip()[:1] not in tuple("=+-@")


def test_csv_marks_a_text_that_a_spreadsheet_would_compute(run: Run) -> None:
    from advbench.report.data_files import Csv

    results = json.loads(run.read("json"))
    for sign in "=+-@＝":
        results["cells"][0]["error"] = f" {sign}1+1"
        (row, *_) = csv.DictReader(io.StringIO(Csv().render(results)))
        assert row["error"] == f"' {sign}1+1"


def test_markdown_has_no_markup_of_plugins(run: Run) -> None:
    text = run.read("md")
    assert not not_printable(text)
    for html in (MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(text), rendered(text)):
        for tag in ("img", "a", "script", "del", "em", "h1", "h2", "h3", "pre"):
            assert not re.search(rf"<{tag}\b", html), tag
        assert "<strong>STRONG" not in html
        assert "&lt;img src=x" in html


def rendered(text: str) -> str:
    """The Markdown as MkDocs renders it."""
    markdown = pytest.importorskip("markdown")
    html: str = markdown.markdown(text, extensions=["tables", "fenced_code"])
    return html


@pytest.mark.skipif(LATEX is None, reason="needs pdflatex on the PATH")
def test_latex_compiles_and_runs_nothing(run: Run, tmp_path: Path) -> None:
    text = run.read("tex")
    assert not not_printable(text)
    (tmp_path / "board.tex").write_text(text)
    command = [str(LATEX), "-shell-escape", "-recorder", "-interaction=nonstopmode", "-halt-on-error", "board.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert not (tmp_path / "written-by-latex").exists()
    assert "/etc/passwd" not in (tmp_path / "board.fls").read_text()


@pytest.mark.skipif(BROWSER is None, reason="needs chromium on the PATH")
def test_the_page_shows_the_texts_and_runs_nothing(run: Run, tmp_path: Path) -> None:
    api = pytest.importorskip("playwright.sync_api")
    target = tmp_path / "page.html"
    done = advbench(run.folder, "report", "--store", "store", *PLUGINS, "--output", str(target))
    assert done.returncode == 0, done.stderr.decode()
    assert not not_printable(done.stderr.decode())
    seen: list[str] = []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("dialog", lambda dialog: (seen.append("dialog"), dialog.dismiss()))
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.on("request", lambda request: seen.append(request.url) if request.url.startswith("http") else None)
        page.goto(target.as_uri())
        whole = page.evaluate("document.body.innerText")
        title = page.title()
        page.locator("button.open").first.click()
        cell = page.locator("#cell")
        detail = cell.inner_text()
        tooltips = page.evaluate("[...document.querySelectorAll('[title]')].map((one) => one.title).join(' ')")
        images = page.locator("img[onerror], a[href^=http]").count()
        browser.close()
    assert seen == []
    assert images == 0
    assert title == f"{printable(SUITE.removesuffix('.toml'))} · advbench"
    for text in (whole, detail, tooltips):
        assert not not_printable(text) - {"\t", "\xa0"}
    assert "<img src=x onerror=document.title='XSS'>" in whole
    assert r"\u202eTHGIR" in whole
    assert r"\x1b[7mINVERTED" in detail
    assert r"\x1b[7mINVERTED" in tooltips


def test_lists_show_descriptions_and_defaults_without_effect(call: Callable[..., Any]) -> None:
    for words in (
        ("list", "defenses", "datasets"),
        ("info", "hostile-text"),
        ("plugins", "--verbose"),
        ("list", "--format", "json"),
    ):
        called = call(*words, *PLUGINS)
        assert called.code == 0, called.err
        assert not not_printable(called.out + called.err), words
    entries = json.loads(call("list", "defenses", "--format", "json", *PLUGINS).out)
    assert TEXT in [entry["source"] for entry in entries], "JSON keeps every character"
    shown = call("info", "hostile-text", *PLUGINS).out
    assert "[bold red]RICH[/]" in re.sub(r"\s+", " ", shown)


def test_names_and_defaults_with_control_characters_are_refused_in_one_line_each(call: Callable[..., Any]) -> None:
    called = call("list", "defenses", *PLUGINS)
    default, name = called.err.splitlines()
    assert "the default of 'mark' has the control character U+001B" in default
    assert "hostile-default" not in called.out
    assert "must be text such as 'my-defense'" in name
    assert r"\x1b[7mINVERTED" in called.err
    assert "hostile\\x1b" not in called.out.replace(" ", "")


def test_errors_about_files_and_flags_are_one_printable_line(call: Callable[..., Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "keys.npz", **{f"{CONTROL}[red]": np.zeros(2)})
    for words in (
        ("matrix", "--datasets", f"npz:path={tmp_path / 'keys.npz'}", "--dry-run"),
        ("matrix", "--datasets", CONTROL),
        ("matrix", f"--{CONTROL}"),
        ("info", CONTROL),
        (CONTROL,),
        ("report", CONTROL, "--store", tmp_path / CONTROL),
        ("list", "--plugin", tmp_path / f"{CONTROL}.py"),
    ):
        called = call(*words)
        assert called.code == 2, (words, called)
        assert called.out == ""
        assert not not_printable(called.error_line()), words


def test_text_stays_the_same_where_all_characters_print() -> None:
    assert printable("L∞ ≤ 8/255 · σ=0.3 中文 é") == "L∞ ≤ 8/255 · σ=0.3 中文 é"
    assert printable("\x1b\u202e\ud800\n\xa0") == r"\x1b\u202e\ud800\n\xa0"
    assert one_line(" a\n\tb\x1b ") == r"a b\x1b"
