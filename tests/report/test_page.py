"""The page agrees with the results, is complete without a script, and escapes text from plugins."""

from __future__ import annotations

import base64
import copy
import io
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from advbench.analysis import Views, sample_rows
from advbench.report import Gallery, Html

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=alert(1)>"
TEXTS = ("dataset", "model", "attack", "defense")


class Elements(HTMLParser):
    """Every element with its attributes and text, in document order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self._open: list[int] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))
        if tag not in ("meta", "input", "br"):
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self.elements[self._open.pop()][0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        for index in self._open:
            self.elements[index][2].append(data)

    def all(self, tag: str, **attributes: str) -> list[tuple[dict[str, str], str]]:
        """Attributes and text of the elements with these attributes."""
        return [
            (given, " ".join("".join(text).split()))
            for name, given, text in self.elements
            if name == tag and all(value in given.get(key.rstrip("_"), "").split() for key, value in attributes.items())
        ]


@pytest.fixture(scope="module")
def results(real_run: Path) -> dict[str, Any]:
    """Results of a real run."""
    loaded: dict[str, Any] = json.loads((real_run / "board.json").read_text())
    return loaded


def payload(page: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    data: dict[str, Any] = json.loads(match[1])
    return data


def test_the_page_loads_nothing_and_allows_one_script(results: dict[str, Any]) -> None:
    page = Html().render(results)
    elements = Elements(page)
    assert not [tag for tag, _, _ in elements.elements if tag in ("link", "img", "iframe", "object", "base")]
    assert not [given for _, given, _ in elements.elements if any(name.startswith("on") for name in given)]
    assert [given.get("type", "") for given, _ in elements.all("script")] == ["application/json", ""]
    policy = next(given["content"] for given, _ in elements.all("meta") if "http-equiv" in given)
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert "http://" not in re.sub(r"http://www\.w3\.org/2000/svg", "", page)
    assert "https://" not in page


def test_the_page_has_every_cell_with_its_interval(results: dict[str, Any]) -> None:
    elements = Elements(Html().render(results))
    openers = {int(given["data-cell"]): (given, text) for given, text in elements.all("button", class_="open")}
    assert sorted(openers) == list(range(len(results["cells"])))
    for index, cell in enumerate(results["cells"]):
        given, text = openers[index]
        low, high = cell["robust_accuracy_ci95"]
        assert text.lstrip("!") == f"{100 * cell['robust_accuracy']:.1f}"
        assert given["title"] == f"95 % interval {100 * low:.1f}–{100 * high:.1f}"


def test_the_page_has_the_worst_case_over_all_threats_and_for_each(results: dict[str, Any]) -> None:
    elements = Elements(Html().render(results))
    shown = Counter((given["data-under"], text) for given, text in elements.all("span", class_="under"))
    expected: Counter[tuple[str, str]] = Counter()
    for row in results["leaderboards"][0]["rows"]:
        for threat, worst in (("", row["worst_case"]), *row["worst_case_under"].items()):
            low, high = worst["ci95"]
            expected[threat, f"{100 * worst['accuracy']:.1f}"] += 1
            expected[threat, f"{100 * low:.1f}–{100 * high:.1f}"] += 1
    assert shown == expected


def test_a_number_with_a_finding_has_a_mark_and_the_reason(results: dict[str, Any]) -> None:
    doubted = copy.deepcopy(results)
    doubted["cells"][3]["findings"] = ["black-box"]
    doubted["cells"][3]["warnings"] = ["black-box: noise beats it; look at the gradient"]
    doubted["findings"] = [
        {"criterion": "black-box", "cells": [3], "message": "noise beats it", "advice": "look at the gradient"}
    ]
    page = Html().render(doubted)
    elements = Elements(page)
    marked = [given for given, text in elements.all("button", class_="open") if text.startswith("!")]
    assert [given["data-cell"] for given in marked] == ["3"]
    assert payload(page)["cells"][3]["warnings"] == doubted["cells"][3]["warnings"]
    assert any("black-box noise beats it. look at the gradient." in text for _, text in elements.all("li"))


def test_badges_show_threats_and_missing_adaptive_attacks(results: dict[str, Any]) -> None:
    rows = {text: given for given, text in Elements(Html().render(results)).all("th", scope="row")}
    assert {text for text in rows if "stochastic" in text} == {text for text in rows if text.startswith("tvm")}
    oblivious = copy.deepcopy(results)
    for row in oblivious["leaderboards"][0]["rows"]:
        row["marks"] = [] if row["defense"] == "none" else ["not adaptively attacked"]
    rows = {text: given for given, text in Elements(Html().render(oblivious)).all("th", scope="row")}
    assert sorted("not adaptively attacked" in text for text in rows) == [False, True, True, True]


def test_a_sweep_is_one_group_and_one_curve(results: dict[str, Any]) -> None:
    page = Html().render(results)
    (body,) = [body for body in re.findall(r"<tbody>.*?</tbody>", page) if "jpeg" in body]
    assert re.findall(r"<code>(.*?)</code>", body.replace("<wbr>", "")) == ["jpeg:quality=25", "jpeg:quality=75"]
    captions = [text for _, text in Elements(page).all("figcaption")]
    assert any(text.startswith("jpeg by quality, oblivious") for text in captions)
    assert any(text.startswith("jpeg by quality, adaptive") for text in captions)


def test_points_of_charts_equal_the_results(results: dict[str, Any]) -> None:
    titles = [text for _, text in Elements(Html().render(results)).all("title")]
    for cell in results["cells"]:
        if cell["attack_kind"] == "budget":
            low, high = (100 * end for end in cell["robust_accuracy_ci95"])
            number = f"{100 * cell['robust_accuracy']:.1f} % ({low:.1f}–{high:.1f})"
            name = {"jpeg": "jpeg:quality=75"}.get(cell["short"]["defense"], cell["short"]["defense"])
            assert f"{name} at {cell['budget']['eps']:g}: {number}" in titles


def test_text_from_plugins_is_escaped(results: dict[str, Any]) -> None:
    text = json.dumps(results, ensure_ascii=False)
    for word in ("jpeg", "deepfool", "mnist-20"):
        text = text.replace(word, HOSTILE)
    hostile = json.loads(text)
    hostile["cells"][0].update(status="error", error=f"{HOSTILE}</script><script>alert(2)</script>")
    hostile["cells"][1]["warnings"] = [HOSTILE]
    hostile["run"]["plugins"] = [{"name": HOSTILE, "distribution": HOSTILE, "version": HOSTILE}]
    hostile["details"] = {"cells": {}, "images": [], "notes": [HOSTILE]}
    page = Html().render(hostile)
    elements = Elements(page)
    assert "<img" not in page
    assert not elements.all("img")
    assert len(elements.all("script")) == 2
    assert any(HOSTILE in text for _, text in elements.all("code"))


def test_a_run_without_finished_cells_can_be_rendered(results: dict[str, Any]) -> None:
    empty = copy.deepcopy(results)
    measures = ("clean_accuracy", "robust_accuracy", "robust_accuracy_ci95", "median_linf", "median_l2", "curve")
    for cell in empty["cells"]:
        cell.update(dict.fromkeys(measures), status="error", error="broken")
    for row in empty["leaderboards"][0]["rows"]:
        row.update(clean_accuracy=None, worst_case=None, worst_case_under={"oblivious": None, "adaptive": None})
    page = Html().render(empty)
    assert [text for _, text in Elements(page).all("button", class_="open")] == ["ERR"] * len(empty["cells"])


def examples(images: Any, change: float) -> dict[str, Any]:
    """Two samples; the second is changed by ``change``."""
    moved = images.copy()
    moved[1, :, 0, 0] += change
    predicted = np.array([3, 4]), np.array([0.5, 0.25], dtype=np.float32)
    clean, adversarial = Views(images, *predicted), Views(moved, *predicted)
    return sample_rows((11, 12), (3, 3), clean, adversarial, adversarial)


def pixels(uri: str) -> Any:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_are_the_images_and_the_difference_has_its_scale(channels: int) -> None:
    gallery = Gallery()
    images = np.linspace(0, 0.8, 2 * channels * 16, dtype=np.float32).reshape(2, channels, 4, 4)
    gallery.add_samples(0, examples(images, 0.04))
    shown = gallery.details["cells"]["0"]["samples"]
    pictures = [pixels(uri) for uri in gallery.details["images"]]
    assert shown["scale"] == 10
    first, second = shown["rows"]
    assert (first["id"], first["label"]) == (11, 3)
    assert first["clean"][1:] == [3, "50"]
    assert second["adversarial"][1:] == [4, "25"]
    expected = np.rint(255 * images[1]).transpose(1, 2, 0).squeeze()
    assert np.array_equal(pictures[second["clean"][0]], expected)
    difference = pictures[second["difference"]].reshape(4, 4, channels)
    assert (abs(difference[0, 0].astype(int) - 255 * 0.9) <= 1).all()
    assert (difference[1:] == 128).all()
    assert first["clean"][0] == first["adversarial"][0], "equal images are kept once"


def test_a_difference_is_never_clipped() -> None:
    for change in (0.0, 1e-6, 0.003, 0.1, 0.26, 0.9):
        gallery = Gallery()
        gallery.add_samples(0, examples(np.zeros((2, 1, 2, 2), dtype=np.float32), change))
        scale = gallery.details["cells"]["0"]["samples"]["scale"]
        assert scale == 1 or scale * change <= 0.5 + 1e-6


def test_large_images_are_scaled_down_with_a_note() -> None:
    gallery = Gallery()
    gallery.add_samples(0, examples(np.random.default_rng(0).random((2, 3, 256, 200), dtype=np.float32), 0.04))
    assert {pixels(uri).shape for uri in gallery.details["images"]} == {(128, 100, 3)}
    assert gallery.details["cells"]["0"]["samples"]["reduced"]
    gallery.add_samples(1, examples(np.zeros((2, 1, 128, 128), dtype=np.float32), 0.04))
    assert not gallery.details["cells"]["1"]["samples"]["reduced"]


@pytest.mark.parametrize(("room", "rows"), [(1.0, 1), (1e6, 2)])
def test_a_cell_has_as_many_samples_as_the_limit_permits(room: float, rows: int) -> None:
    gallery = Gallery()
    gallery.add_samples(0, examples(np.random.default_rng(0).random((2, 3, 32, 32), dtype=np.float32), 0.04), room)
    assert len(gallery.details["cells"]["0"]["samples"]["rows"]) == rows
    assert gallery.size == sum(map(len, gallery.details["images"]))


def test_a_step_line_keeps_its_value_to_the_edge(results: dict[str, Any]) -> None:
    lines = re.findall(r'<path class="line[^"]*" d="(M[^"]*V[^"]*)"><title>', Html().render(results))
    assert len(lines) > 2
    assert all(line.endswith("H546") for line in lines)
