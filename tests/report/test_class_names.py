"""Pages and figures show class names with any characters, without changing their width."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from advbench.cli.main import main

pytestmark = pytest.mark.slow

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

NAMES = (
    "cat", "a class name without end " + "x" * 300, "line\nbreak", "<img src=x onerror=alert(1)>", "|pipe|*star*`code`",
    "</script><script>alert(2)</script>", "", "esc\x1b[31mred", "日本語", "$x^2$",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on images whose classes have unusual names, with its page."""
    folder = tmp_path_factory.mktemp("named")
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    labels = np.arange(20) % 10
    np.savez(folder / "named.npz", images=images, labels=labels, class_names=np.array(NAMES))
    axes = ("--datasets", f"npz:path={folder / 'named.npz'}", "--models", "mnist-cnn")
    axes = (*axes, "--attacks", "noise:eps=0.5", "fgsm:goal=0")
    files = ("--store", folder / "store", "--export", folder / "page.html", "--export", folder / "board.json")
    code = main([str(word) for word in ("matrix", *axes, "--defenses", "none", "jpeg", *files, "-q")])
    logging.getLogger("advbench").handlers.clear()
    assert code == 0
    return folder


@pytest.fixture
def shown(folder: Path) -> Any:
    """Opens a cell of the page in a window of some width; checks that no script runs and that the dialog fits."""
    if BROWSER is None:
        pytest.skip("needs chromium on the PATH")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        messages: list[str] = []

        def open_cell(width: int) -> Any:
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.on("console", lambda message: messages.append(message.text))
            page.on("dialog", lambda dialog: messages.append(dialog.message))
            page.on("pageerror", lambda error: messages.append(str(error)))
            page.goto(f"{(folder / 'page.html').as_uri()}#cell-0")
            return page

        yield open_cell
        assert messages == []
        browser.close()


def test_results_have_each_class_name_on_one_line(folder: Path) -> None:
    run = json.loads((folder / "board.json").read_text())["run"]
    ((_, names),) = run["class_names"].items()
    assert names[0] == "cat"
    assert names[2] == "line break"
    assert names[7] == r"esc\x1b[31mred"
    assert all(name.isprintable() for name in names)


def test_findings_and_facts_name_classes_beside_their_numbers(folder: Path) -> None:
    (finding,) = json.loads((folder / "board.json").read_text())["findings"]
    assert "predicts class 8 (日本語) for 20 of 20 clean samples" in finding["message"]
    assert '"class 0 (cat)"' in (folder / "page.html").read_text()


def test_class_names_are_escaped_in_the_page(folder: Path) -> None:
    page = (folder / "page.html").read_text()
    assert "<img src=x" not in page
    assert "<script>alert" not in page


@pytest.mark.parametrize("width", [1280, 420])
def test_confusion_matrices_and_samples_show_the_names(shown: Callable[[int], Any], width: int) -> None:
    page = shown(width)
    heads = page.locator(".confusion").first.locator("tbody th bdi")
    texts = heads.all_text_contents()
    assert texts[0] == "cat"
    assert texts[3] == "<img src=x onerror=alert(1)>"
    assert texts[6] == "6", "a class without a name is shown by its number"
    assert heads.nth(1).get_attribute("title").startswith("1: a class name without end xxx")
    assert heads.nth(1).bounding_box()["width"] <= 130
    assert page.locator(".confusion").first.locator("thead th bdi").nth(1).bounding_box()["height"] <= 130
    assert page.locator(".confusion").first.bounding_box()["width"] <= min(460, width - 20)
    assert page.evaluate("document.getElementById('cell').scrollWidth <= window.innerWidth")
    labels = page.locator(".samples .prediction bdi").all_text_contents()
    assert labels
    assert set(labels) <= {*texts}


def test_figures_show_the_names(folder: Path, call: Callable[..., Any]) -> None:
    pytest.importorskip("matplotlib")
    called = call("figures", "--store", folder / "store", "--output", folder / "figures", "--format", "svg")
    assert called.code == 0, called.err
    assert list((folder / "figures").glob("confusion-*.svg"))


def test_labels_of_figures_are_truncated_names() -> None:
    pytest.importorskip("matplotlib")
    from advbench.report.figures.confusions import Pair, confusion_pairs

    counts = np.eye(3, dtype=int).tolist()
    for names, expected in (
        (("cat", "x" * 40, ""), ["cat", "x" * 13 + "…", "2"]),
        (("cat",), ["cat", "1", "2"]),
        ((), ["0", "1", "2"]),
    ):
        figure = confusion_pairs([Pair("none", counts, counts)], names)
        figure.draw_without_rendering()
        axis = figure.axes[0]
        assert [label.get_text() for label in axis.get_yticklabels()] == expected
        assert [label.get_text() for label in axis.get_xticklabels()] == expected


def test_strips_show_the_name_of_the_predicted_class() -> None:
    pytest.importorskip("matplotlib")
    from advbench.analysis import CellExamples, Views
    from advbench.report.figures.strips import Named, attack_examples

    views = Views(np.zeros((1, 1, 4, 4), np.float32), np.array([1]), np.array([0.5], np.float32))
    for names, expected in ((("cat", "automobile"), "✗ automobile\n(50 %)"), ((), "✗ 1 (50 %)")):
        examples = CellExamples((7,), np.array([0]), views, views, views, views, names)
        figure = attack_examples([Named("fgsm", examples)], 1)
        assert figure.axes[0].get_xlabel() == expected


def test_cifar10_names_its_classes() -> None:
    from advbench_datasets.cifar10 import Cifar10
    from advbench_datasets.cifar10_20 import Cifar10First20

    assert Cifar10().class_names == Cifar10First20().class_names
    assert Cifar10().class_names[3] == "cat"
    assert len(Cifar10().class_names) == Cifar10.num_classes
