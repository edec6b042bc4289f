"""Every block of the guides runs as it stands."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.docs.following import blocks, follow

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
SCRIPTS = ROOT / "docs" / "guides" / "from-python.md"
INSTALLED = ROOT / "docs" / "guides" / "write-a-defense.md"
"""The page that installs a package is followed in an environment of its own."""

pytestmark = pytest.mark.slow(minutes=3)


@pytest.mark.parametrize(
    "page", [page for page in GUIDES if page not in (INSTALLED, SCRIPTS)], ids=lambda page: page.stem
)
def test_a_guide_can_be_followed_literally(
    page: Path, tmp_path: Path, own_cache: Path, programs: Mapping[str, str]
) -> None:
    follow(page, tmp_path, {"XDG_CACHE_HOME": str(own_cache), **programs})


def test_every_block_says_whether_it_runs() -> None:
    for page in (*GUIDES, ROOT / "README.md"):
        for block in blocks(page):
            known = block.language in ("bash", "text") or (block.language in ("python", "toml") and block.title)
            assert known, f"{page.name}: a block of {block.language!r} that nothing runs:\n{block.content}"


def test_the_guide_of_scripts_can_be_followed_and_gives_what_the_command_gives(
    tmp_path: Path, own_cache: Path, programs: Mapping[str, str]
) -> None:
    environment = {"XDG_CACHE_HOME": str(own_cache), **programs}
    said, *_ = follow(SCRIPTS, tmp_path, environment)
    assert "data:image/png" in (tmp_path / "report.html").read_text("utf-8")
    assert {path.suffix for path in (tmp_path / "figures").glob("attacks-*")} == {".png", ".pdf"}
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
