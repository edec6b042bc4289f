"""Every block of the README and the guides runs as it stands."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.docs.following import blocks, follow

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
INSTALLED = ROOT / "docs" / "guides" / "write-a-defense.md"
"""The page that installs a package is followed in an environment of its own."""

OF_CI = ("pip install -e . && advbench matrix", 'pip install -e ".[test]" && pytest')
"""The README's first two commands are what continuous integration runs, and this test is a part of the second."""


@pytest.mark.parametrize("page", [page for page in GUIDES if page != INSTALLED], ids=lambda page: page.stem)
def test_a_guide_can_be_followed_literally(page: Path, tmp_path: Path, own_cache: Path) -> None:
    follow(page, tmp_path, {"XDG_CACHE_HOME": str(own_cache)})


def test_the_readme_can_be_followed_literally(tmp_path: Path, own_cache: Path) -> None:
    printed = follow(ROOT / "README.md", tmp_path, {"XDG_CACHE_HOME": str(own_cache)}, skip=OF_CI)
    assert any("worst case" in text for text in printed)
    assert any("dim:factor=0.8" in text for text in printed)
    assert "sequential" in printed[-1]


def test_the_commands_of_ci_are_the_readmes_and_run_by_it() -> None:
    commands = [block.content.strip() for block in blocks(ROOT / "README.md") if block.language == "bash"]
    assert tuple(commands[:2]) == OF_CI
    assert OF_CI[1] in (ROOT / ".ci" / "run").read_text()


def test_every_block_says_whether_it_runs() -> None:
    for page in (*GUIDES, ROOT / "README.md"):
        for block in blocks(page):
            known = block.language in ("bash", "text") or (block.language in ("python", "toml") and block.title)
            assert known, f"{page.name}: a block of {block.language!r} that nothing runs:\n{block.content}"


def test_the_script_of_the_guide_gives_what_the_command_gives(tmp_path: Path, own_cache: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(own_cache)}
    (said,) = follow(ROOT / "docs" / "guides" / "from-python.md", tmp_path, environment)
    (tmp_path / "net.py").write_text(
        "import torch\n\ntorch.manual_seed(0)\n"
        "network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))\n"
    )
    command = (
        "advbench matrix --datasets mnist-20 --models torch-module:build=net.py:network --attacks fgsm:eps=0.05 "
        "pgd:eps=0.05 --defenses none jpeg --threats oblivious adaptive --export cells.json"
    )
    subprocess.run(["bash", "-ec", command], cwd=tmp_path, env={**os.environ, **environment}, check=True)
    cells = json.loads((tmp_path / "cells.json").read_text())["cells"]
    assert len(cells) == 8
    for cell in cells:
        line = f"{cell['attack']} {cell['threat']} {cell['defense']} {cell['robust_accuracy']}"
        assert line in said.splitlines()
