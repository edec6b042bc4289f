"""Pages of data with many classes and large images: the most frequent errors, and images of a small size."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from advbench.analysis.confusion import confused_pairs
from advbench.cli.main import main

pytestmark = pytest.mark.slow

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

NETWORK = """
import torch

def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(192, 40))
"""


def test_pairs_are_sorted_by_their_number() -> None:
    record = {"labels": [3, 3, 3, 1, 0, 2], "clean_predictions": [1, 1, 3, 0, 4, 0]}
    assert confused_pairs(record, "clean_predictions", 9) == [[3, 1, 2], [0, 4, 1], [1, 0, 1], [2, 0, 1]]
    assert confused_pairs(record, "clean_predictions", 2) == [[3, 1, 2], [0, 4, 1]]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run on 40 classes and smooth images of 160×160 pixels."""
    folder = tmp_path_factory.mktemp("large")
    small = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    images = np.stack([np.asarray(Image.fromarray(one).resize((160, 160))) for one in small])
    names = np.array([f"thing {number}" for number in range(40)])
    np.savez(folder / "large.npz", images=images, labels=np.arange(12) * 3, class_names=names)
    (folder / "net.py").write_text(NETWORK)
    axes = ("--datasets", f"npz:path={folder / 'large.npz'}", "--models", f"torch-module:build={folder / 'net.py'}:net")
    files = ("--store", folder / "store", "--export", folder / "page.html", "-q")
    code = main([str(word) for word in ("matrix", *axes, "--attacks", "noise:eps=0.02", "--defenses", "none", *files)])
    logging.getLogger("advbench").handlers.clear()
    assert code == 0
    return folder / "page.html"


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_large_images_are_scaled_down_and_take_little_space(page: Path) -> None:
    uris = data_of(page)["images"]
    assert len(uris) >= 12
    for uri in uris:
        kind, content = uri.split(";base64,")
        assert kind == "data:image/jpeg"
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            assert image.size == (128, 128)
    assert sum(map(len, uris)) / len(uris) < 15_000


def test_errors_are_listed_as_pairs_with_names(page: Path) -> None:
    (cell,) = data_of(page)["cells"]
    assert "before" not in cell
    assert 0 < len(cell["confused_before"]) <= 12
    assert all(label != prediction for label, prediction, _ in cell["confused_before"])
    if BROWSER is None:
        pytest.skip("needs chromium on the PATH")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 420, "height": 900})
        tab.goto(f"{page.as_uri()}#cell-0")
        label, prediction, count = cell["confused_before"][0]
        first = tab.locator(".confused").first.locator("tbody tr").first
        assert first.locator("bdi").all_text_contents() == [f"thing {label}", f"thing {prediction}"]
        assert first.locator(".count").text_content() == str(count)
        assert tab.evaluate("document.getElementById('cell').scrollWidth <= window.innerWidth")
        browser.close()
