"""Every block of the README runs unchanged, and the home page of the site shows its board."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.docs.following import blocks, follow

pytestmark = pytest.mark.slow(minutes=2)

ROOT = Path(__file__).parents[2]
HOME = ROOT / "docs" / "index.md"
OF_CI = ("pip install -e . && advbench matrix", 'pip install -e ".[test]" && pytest')
"""The README's first two commands are what continuous integration runs, and this test is a part of the second."""


def test_the_readme_can_be_followed_literally_and_the_home_page_shows_the_board_that_its_command_writes_too(
    tmp_path: Path, own_cache: Path, programs: Mapping[str, str]
) -> None:
    printed = follow(ROOT / "README.md", tmp_path, {"XDG_CACHE_HOME": str(own_cache), **programs}, skip=OF_CI)
    assert any("worst case" in text for text in printed)
    assert any("dim:factor=0.8" in text for text in printed)
    assert "sequential" in printed[-1]
    written = rows(tmp_path / "board.md")
    for page in (ROOT / "README.md", HOME):
        shown = rows(page)
        assert [row[0] for row in shown] == [row[0] for row in written]
        for row, other in zip(shown, written, strict=True):
            # A processor that rounds differently may change the outcome of an image or two.
            assert [float(cell) for cell in row[1:-1]] == pytest.approx([float(cell) for cell in other[1:-1]], abs=2)


def test_the_command_above_the_board_of_the_home_page_is_that_of_the_readme() -> None:
    (command,) = [block.content for block in blocks(HOME) if "--export" in block.content]
    (readme,) = [block.content for block in blocks(ROOT / "README.md") if "--export" in block.content]
    assert command.replace("\\\n", " ").split() == readme.replace("board.md", "docs/index.md").split()


def rows(page: Path) -> list[list[str]]:
    """The rows of a page's block of the board, without the heading."""
    block = page.read_text("utf-8").split("<!-- advbench:begin ")[1].split("<!-- advbench:end ")[0]
    lines = [line for line in block.splitlines() if line.startswith("|")]
    return [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_commands_of_ci_are_the_readmes_and_run_by_it() -> None:
    commands = [block.content.strip() for block in blocks(ROOT / "README.md") if block.language == "bash"]
    assert tuple(commands[:2]) == OF_CI
    assert OF_CI[1] in (ROOT / ".ci" / "run").read_text()
