"""The page in a browser: a board with twelve attacks, and charts with many lines."""

from __future__ import annotations

import copy
import json
import re
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
        opened = browser.new_page(reduced_motion="reduce")  # it scrolls at once
        opened.goto(file.as_uri())
        yield opened
        browser.close()


def scroll(page: Any, left: int) -> None:
    page.evaluate("left => { document.querySelector('.scroll').scrollLeft = left; }", left)
    page.wait_for_timeout(100)


def ends(page: Any, selector: str) -> tuple[float, float]:
    """The left and the right end of the first such element, which must be visible at its center."""
    left, right, uncovered = page.evaluate(
        """selector => {
          const element = document.querySelector(selector);
          const box = element.getBoundingClientRect();
          const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
          return [box.left, box.right, element.contains(top)];
        }""",
        selector,
    )
    assert uncovered, f"{selector} is out of sight"
    return left, right


def hidden_columns(page: Any) -> tuple[int, int]:
    """The numbers of columns that the hints say are out of sight on the left and on the right."""
    hints = page.locator(".more button:visible").all_inner_texts()
    left = [hint for hint in hints if re.fullmatch(r"← \d+ more columns?", hint)]
    right = [hint for hint in hints if re.fullmatch(r"\d+ more columns? →", hint)]
    assert len(hints) == len(left) + len(right)
    return (int(left[0].split()[1]) if left else 0), (int(right[0].split()[0]) if right else 0)


@pytest.mark.parametrize("width", [1200, 1280, 1440])
@pytest.mark.parametrize("scrolled", [0, 150, 10_000])
def test_the_worst_case_and_its_interval_stay_next_to_the_name_and_hidden_columns_are_counted(
    page: Any, width: int, scrolled: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    scroll(page, scrolled)
    area = page.locator(".scroll").bounding_box()
    for name, worst, interval in (
        ("thead th", "th.worst", "th.interval"),
        ("tbody th", "td.worst", "td.interval"),
    ):
        edge = area["x"]
        for selector in (name, worst, interval):
            left, right = ends(page, f".board {selector}")
            assert abs(left - edge) <= 1.5, f"{selector} stands next to the column before it"
            edge = right
    boxes = [head.bounding_box() for head in page.locator("thead th:not(:first-child, .worst, .interval)").all()]
    assert len(boxes) == 13, "clean and twelve attacks"
    before = sum(box["x"] < edge - 8 for box in boxes)
    after = sum(box["x"] + box["width"] > area["x"] + area["width"] - 1 + 8 for box in boxes)  # 1 pixel of border
    assert hidden_columns(page) == (before, after) != (0, 0)
    assert (before == 0) == (scrolled == 0) and (after == 0) == (scrolled == 10_000)
    assert before + after < 10, "most columns have space beside the frozen ones"


@pytest.mark.parametrize("width", [390, 1280])
def test_hints_scroll_to_the_columns_that_they_count(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    scroll(page, 0)
    for side, arrow in ((1, "→"), (0, "←")):
        hidden = [hidden_columns(page)[side]]
        while hidden[-1] and len(hidden) < 20:
            page.locator(".more button:visible", has_text=arrow).click()
            page.wait_for_timeout(100)
            hidden.append(hidden_columns(page)[side])
        assert hidden[0] > 0 == hidden[-1] and hidden == sorted(set(hidden), reverse=True)
    assert page.evaluate("() => document.querySelector('.scroll').scrollLeft") == 0


def test_on_a_phone_the_worst_case_stays_next_to_the_name(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 900})
    for scrolled in (0, 200, 10_000):
        scroll(page, scrolled)
        name, worst = ends(page, ".board tbody th"), ends(page, ".board td.worst")
        assert abs(worst[0] - name[1]) <= 1.5 and worst[1] <= 0.6 * 390, "space is left for attacks"
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    before, after = hidden_columns(page)
    assert before > 10 and after == 0, "the interval, clean and most attacks are on the left"


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_a_board_begins_with_its_first_columns_also_when_the_window_changes_its_width(page: Any, width: int) -> None:
    opened = page.context.browser.new_page(viewport={"width": 1000, "height": 900})
    opened.goto(page.url)
    for size in (1000, width):
        opened.set_viewport_size({"width": size, "height": 900})
        opened.wait_for_timeout(100)
        before, after = hidden_columns(opened)
        assert before == 0 < after
    opened.close()


def test_a_board_that_fits_has_no_hint(page: Any, real_run: Path, tmp_path: Path) -> None:
    results = results_with_attacks(json.loads((real_run / "board.json").read_text()), 2)
    file = tmp_path / "page.html"
    file.write_text(Html().render(results), encoding="utf-8")
    opened = page.context.browser.new_page(viewport={"width": 1280, "height": 900})
    opened.goto(file.as_uri())
    assert hidden_columns(opened) == (0, 0)
    heads = [text.split("\n")[0] for text in opened.locator("thead th").all_inner_texts()]
    assert heads[:4] == ["defense", "worst case", "95 % interval", "clean"]
    opened.close()


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
