"""The documentation's site: built strictly, complete, loading nothing from elsewhere, with plugins that run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.docs.following import blocks

from advbench import api, results
from advbench.cli.main import COMMANDS
from advbench.discovery.loading import discover

pytestmark = pytest.mark.slow(minutes=1)

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ROOT = Path(__file__).parents[2]
LOADED = re.compile(r"<(?:script|link|img|iframe|source|form)\b[^>]*\b(?:src|href|action)=[\"']?(?:https?:)?//[^>]*>")
IN_STYLE = re.compile(r"url\(\s*[\"']?(?:https?:)?//|@import")
PLUGINS = {
    (page.stem, block.title): block
    for page in sorted((ROOT / "docs" / "guides").glob("*.md"))
    for block in blocks(page)
    if block.language == "python" and "@hookimpl" in block.content
}
"""The blocks of the guides that are plugins."""


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
    assert "seed of all randomness (default: 0)" in commands
    assert "[RUN]" in commands
    assert "--defenses SPEC SPEC" in commands
    assert "folder in which results are stored (default: in the user's cache folder)" in commands
    components = (site / "reference" / "components.html").read_text()
    for kind in ("attacks", "defenses", "models", "datasets"):
        for registered in discover().all(kind):
            if registered.plugin.distribution == "advbench":
                assert f'id="{registered.component.name}' in components
    assert "JPEG quality" in components


def test_public_names_are_in_the_python_reference(site: Path) -> None:
    page = (site / "reference" / "python.html").read_text()
    assert [name for name in api.__all__ if f'id="advbench.api.{name}"' not in page] == []
    assert [name for name in results.__all__ if f'id="advbench.results.{name}"' not in page] == []
    assert [name for name in ("live.Results", "testing.assert_conforms") if f'id="advbench.{name}"' not in page] == []
    assert "transforms images before the model classifies them" in page


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        assert [found[0] for found in LOADED.finditer(page.read_text())] == [], page.name
    for style in site.rglob("*.css"):
        assert IN_STYLE.search(style.read_text()) is None, style.name


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


def test_the_guides_have_a_plugin_of_each_kind() -> None:
    hooks = {hook for block in PLUGINS.values() for hook in re.findall(r"def (register_\w+)", block.content)}
    kinds = {"attacks", "defenses", "models", "datasets", "suites", "commands"}
    assert hooks == {f"register_{kind}" for kind in kinds}


@pytest.mark.parametrize("where", PLUGINS, ids=" ".join)
def test_a_plugin_of_the_guides_loads_and_runs(
    where: tuple[str, str], tmp_path: Path, call: Callable[..., Any]
) -> None:
    page = ROOT / "docs" / "guides" / f"{where[0]}.md"
    for beside in blocks(page):
        if beside.language == "toml":
            (tmp_path / beside.title).write_text(beside.content)
    file = tmp_path / where[1]
    file.write_text(PLUGINS[where].content)
    registry = discover(files=[file])
    assert registry.problems == []
    axes = {"datasets": ["mnist-20"], "models": ["mnist-cnn"], "attacks": ["fgsm:eps=0.1"], "defenses": ["none"]}
    for kind in axes:
        for registered in registry.all(kind):
            if registered.plugin.from_file:
                axes[kind] = [registered.component.name]
                if kind == "models":
                    axes["datasets"] = [f"npz:path={_images(tmp_path, registered.component)}"]
                elif kind == "datasets":
                    axes["models"] = ["cifar10-densenet"]
    words = [word for kind, specs in axes.items() for word in (f"--{kind}", *specs)]
    flags = ("--limit", 4, "--fit-samples", 16, "--plugin", file, "--strict-plugins", "--store", tmp_path / "store")
    called = call("matrix", *words, *flags)
    assert called.code == 0, called.err
    assert "ERR" not in called.out


def _images(folder: Path, model: Any) -> Path:
    """A few images of the shape that a model takes, one a class."""
    random, target = np.random.default_rng(0), folder / "images.npz"
    images = random.integers(0, 256, (model.num_classes, *model.image_shape), dtype=np.uint8)
    np.savez(target, images=images.transpose(0, 2, 3, 1), labels=np.arange(model.num_classes))
    return target
