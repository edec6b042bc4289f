"""Every block of the README runs as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.following import blocks, follow

pytestmark = pytest.mark.slow(minutes=2)

ROOT = Path(__file__).parents[2]
OF_CI = ("pip install -e . && advbench matrix", 'pip install -e ".[test]" && pytest')
"""The README's first two commands are what continuous integration runs, and this test is a part of the second."""


def test_the_readme_can_be_followed_literally(tmp_path: Path, own_cache: Path) -> None:
    printed = follow(ROOT / "README.md", tmp_path, {"XDG_CACHE_HOME": str(own_cache)}, skip=OF_CI)
    assert any("worst case" in text for text in printed)
    assert any("dim:factor=0.8" in text for text in printed)
    assert "sequential" in printed[-1]


def test_the_commands_of_ci_are_the_readmes_and_run_by_it() -> None:
    commands = [block.content.strip() for block in blocks(ROOT / "README.md") if block.language == "bash"]
    assert tuple(commands[:2]) == OF_CI
    assert OF_CI[1] in (ROOT / ".ci" / "run").read_text()
