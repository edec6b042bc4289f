"""The page in a browser: a board with twelve attacks, and charts with many lines."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from advbench.report import Html

pytestmark = pytest.mark.slow

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LONG = "gaussian:radius=2,border=mirrored+jpeg:quality=50"


def results_with_attacks(results: dict[str, Any], count: int) -> dict[str, Any]:
    """The results of one threat, with more budgets of the same attack and a defense that has a long name."""
    made = copy.deepcopy(results)
    (board,) = made["leaderboards"]
    first = next(c["attack"] for c in board["columns"] if c["attack"].startswith("pgd:eps=0.05"))
    board["threats"] = ["oblivious"]
    board["columns"] = [
        {**board["columns"][0], "threat": "oblivious", "attack": first.replace("eps=0.05", f"eps={(number + 1) / 100}")}
        for number in range(count)
    ]
    cells = [c for c in made["cells"] if c["attack"] == first and c["threat"] == "oblivious"]
    made["cells"] = []
    for number, column in enumerate(board["columns"]):
        for cell in copy.deepcopy(cells):
            eps = (number + 1) / 100
            cell["short"]["attack"] = cell["short"]["attack"].replace("eps=0.05", f"eps={(number + 1) / 100}")
            cell["budget"]["eps"] = eps
            made["cells"].append({**cell, "attack": column["attack"]})
    for cell in made["cells"]:
        if cell["short"]["defense"] == "tvm":
            cell["short"]["defense"] = LONG
    made.pop("details", None)
    return made


@pytest.fixture(scope="module")
def page(real_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("needs chromium on the PATH")
    api = pytest.importorskip("playwright.sync_api")
    results = results_with_attacks(json.loads((real_run / "board.json").read_text()), 12)
    file = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(Html().render(results), encoding="utf-8")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.goto(file.as_uri())
        yield opened
        browser.close()


@pytest.mark.parametrize("width", [1200, 1440])
def test_the_name_and_the_worst_case_stay_in_sight_and_hidden_columns_are_counted(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    for scrolled in (0, 150, 10_000):
        page.evaluate("left => { document.querySelector('.scroll').scrollLeft = left; }", scrolled)
        page.wait_for_timeout(100)
        area = page.locator(".scroll").bounding_box()
        for selector in ("tbody th", "td.worst", "td.interval", "th.worst", "th.interval"):
            box = page.locator(f".board {selector}").first.bounding_box()
            assert area["x"] <= box["x"] and box["x"] + box["width"] <= area["x"] + area["width"] + 1, selector
        seen = page.evaluate(
            "() => document.elementsFromPoint(...(box => [box.x + box.width / 2, box.y + box.height / 2])"
            "(document.querySelector('td.worst').getBoundingClientRect()))"
            ".some(element => element.matches('td.worst'))"
        )
        assert seen
    assert page.locator(".more button:visible").all_inner_texts()[0].startswith("← ")
    page.evaluate("() => { document.querySelector('.scroll').scrollLeft = 0; }")
    page.wait_for_timeout(100)
    (hint,) = page.locator(".more button:visible").all_inner_texts()
    assert hint.endswith("more columns →") and 0 < int(hint.split()[0]) < 12


def test_on_a_phone_the_worst_case_stays_in_sight(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 900})
    box = page.locator("td.worst").first.bounding_box()
    assert box["x"] + box["width"] <= 390
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("width", [390, 1280])
def test_names_break_after_separators_only(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    lines = page.evaluate(
        """name => {
          const code = [...document.querySelectorAll('.board tbody code')].find(each => each.textContent === name);
          const lines = new Map();
          for (const node of code.childNodes) {
            for (let at = 0; at < (node.length ?? 0); at++) {
              const range = document.createRange();
              range.setStart(node, at);
              range.setEnd(node, at + 1);
              const top = Math.round(range.getBoundingClientRect().top);
              lines.set(top, (lines.get(top) ?? '') + node.data[at]);
            }
          }
          return [...lines.values()];
        }""",
        LONG,
    )
    assert len(lines) > 1 and "".join(lines) == LONG
    if width == 1280:
        assert all(line.endswith((":", ",", "+")) for line in lines[:-1]), lines


def test_with_more_than_four_bands_one_band_is_shown_while_somebody_points_at_it(
    page: Any, real_run: Path, tmp_path: Path
) -> None:
    results = results_with_attacks(json.loads((real_run / "board.json").read_text()), 2)
    extra = copy.deepcopy([cell for cell in results["cells"] if cell["short"]["defense"] == LONG])
    for number in range(3):
        results["cells"] += [
            {**cell, "defense": f"other{number}", "short": {**cell["short"], "defense": f"other{number}"}}
            for cell in extra
        ]
    file = tmp_path / "page.html"
    file.write_text(Html().render(results), encoding="utf-8")
    opened = page.context.browser.new_page()
    opened.goto(file.as_uri())
    chart = opened.locator("figure.few").first
    shown = "bands => bands.filter(band => getComputedStyle(band).opacity > 0).length"
    assert chart.locator(".band").count() > 4
    assert chart.locator(".band").evaluate_all(shown) == 0
    chart.locator(".legend li").nth(2).hover()
    assert chart.locator(".band").evaluate_all(shown) == 1
    opened.close()
