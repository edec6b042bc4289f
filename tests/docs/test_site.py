"""The documentation's site: built strictly, complete, and loading nothing from elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from advbench.cli.main import COMMANDS
from advbench.discovery import discover

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ROOT = Path(__file__).parents[2]
FOREIGN = re.compile(r'<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)="(?:https?:)?//(?!example\.org)[^"]*"')
LINK = re.compile(r'<link[^>]*rel="(?:canonical|next|prev)"[^>]*>')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    made = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return folder


def test_every_command_and_component_is_in_the_reference(site: Path) -> None:
    commands = (site / "reference" / "cli.html").read_text()
    assert all(f"advbench {name}</h2>" in re.sub(r"<a class=\"headerlink.*?</a>", "", commands) for name in COMMANDS)
    assert "--check-convergence" in commands
    components = (site / "reference" / "components.html").read_text()
    for kind in ("attacks", "defenses", "models", "datasets"):
        for registered in discover().all(kind):
            if registered.plugin.distribution == "advbench":
                assert f'id="{registered.component.name}' in components
    assert "JPEG quality" in components


def test_public_names_are_in_the_python_reference(site: Path) -> None:
    page = (site / "reference" / "python.html").read_text()
    for name in ("Defense", "Attack", "Model", "Dataset", "assert_conforms", "Results", "param"):
        assert name in page
    assert "Transforms images before the model sees them" in page


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        found = FOREIGN.search(LINK.sub("", page.read_text()))
        assert found is None, f"{page.name}: {found[0] if found else ''}"
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text()


@pytest.mark.skipif(BROWSER is None, reason="needs chromium on the PATH")
def test_the_pages_open_in_a_browser_without_a_message_on_its_console(site: Path, tmp_path: Path) -> None:
    for page in (
        "index",
        "guides/write-a-defense",
        "reference/cli",
        "reference/components",
        "reference/python",
        "threats",
    ):
        made = subprocess.run(
            [
                str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
                "--enable-logging=stderr", "--virtual-time-budget=3000", "--dump-dom", (site / f"{page}.html").as_uri(),
            ],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        assert "<h1" in made.stdout
        assert "CONSOLE" not in made.stderr, made.stderr
