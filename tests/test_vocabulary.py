"""Retired names and phrases do not come back: docs/retired-names.txt lists them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from advbench.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    file
    for folder in ("harness", "plugins")
    for file in (ROOT / folder).rglob("*.py")
    if file.name != "_deprecated.py"  # which keeps old names alive
)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])


def retired(section: str) -> list[str]:
    text = (ROOT / "docs" / "retired-names.txt").read_text("utf-8")
    lines = text.partition(f"\n[{section}]\n")[2].partition("\n[")[0].splitlines()
    return [line for line in lines if line and not line.startswith("#")]


NAMES = frozenset(retired("names"))
PHRASES = re.compile("|".join(map(re.escape, retired("phrases"))), re.IGNORECASE)
NO_WORDS = re.compile(r"\b(" + "|".join(name for name in sorted(NAMES) if "_" in name or not name.islower()) + r")\b")


def shown(text: str) -> str:
    """A text as readers see it: in one line."""
    return " ".join(text.split())


def public_names(file: Path) -> Iterator[str]:
    """The names that a module defines for others: its own, those of its classes, and the parameters of both."""
    yield from file.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef):
            yield node.name
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    yield line.target.id
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name
            yield from (argument.arg for argument in (*node.args.args, *node.args.kwonlyargs))


def docstrings(tree: ast.AST) -> set[int]:
    """Where docstrings are, by the ids of their nodes."""
    return {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }


def messages(file: Path) -> Iterator[str]:
    """The texts of a module that are no docstrings."""
    tree = ast.parse(file.read_text("utf-8"))
    skipped = docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.value


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_module_uses_a_retired_name_or_phrase(file: Path) -> None:
    assert not NAMES & set(public_names(file)), "public names"
    spoken = [text for text in map(shown, messages(file)) if " " in text]  # keys of stored files are no messages
    assert not [text for text in spoken if NO_WORDS.search(text)], "messages"
    text = shown(re.sub(r"\n\s*#", " ", file.read_text("utf-8")))
    assert not PHRASES.findall(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_uses_a_retired_phrase(page: Path) -> None:
    assert not PHRASES.findall(shown(page.read_text("utf-8")))


@pytest.mark.parametrize("command", COMMANDS)
def test_no_help_uses_a_retired_name_or_phrase(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = shown(capsys.readouterr().out)
    assert "usage" in text
    assert not NO_WORDS.findall(text)
    assert not PHRASES.findall(text)
    assert not NAMES & set(re.findall(r"--([a-z-]+)", text))


def test_the_check_sees_a_retired_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    file = tmp_path / "crew.py"
    file.write_text(
        "class Watched:\n    room: int\n    def reach(self, at_once): raise ValueError('no run_todo here')\n"
    )
    assert {"crew", "Watched", "room", "at_once"} <= NAMES & set(public_names(file))
    assert any(NO_WORDS.search(text) for text in messages(file))
    assert PHRASES.search("It Costs what it was at.")
