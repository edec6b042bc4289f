"""``advbench report``: the page of a real run, driven in a real browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.store.stores import lose_plugin_files

pytestmark = pytest.mark.slow

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TOY = Path(__file__).parents[1] / "toy_plugin.py"
WORST, FIRST_ATTACK = 2, 5
"""The numbers of two columns of a board, from 1: defense, worst case, interval, clean, attacks."""

in_browser = pytest.mark.skipif(BROWSER is None, reason="needs chromium on the PATH")


@pytest.fixture(scope="module")
def store(real_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a real run."""
    copied = tmp_path_factory.mktemp("run") / "store"
    return Path(shutil.copytree(real_run / "store", copied))


@pytest.fixture(scope="module")
def page_file(store: Path) -> Path:
    """Its page."""
    from advbench.cli.main import main

    target = store.parent / "report.html"
    assert main(["report", "--store", str(store), "--output", str(target)]) == 0
    return target


class Seen:
    """An open page, and what must stay empty: its console, its errors and what it asks for."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.console: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.console.append(message.text))
        page.on("pageerror", lambda error: self.console.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def open(self, file: Path) -> Any:
        self.page.goto(file.as_uri())
        return self.page

    def check(self, file: Path) -> None:
        assert self.console == []
        assert [url for url in self.asked if url.partition("#")[0] != file.as_uri() and url[:5] != "data:"] == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def seen(browser: Any, page_file: Path) -> Iterator[Seen]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    found = Seen(context.new_page())
    yield found
    found.check(page_file)
    context.close()


def defenses(page: Any) -> list[str]:
    found: list[str] = page.locator(".board tbody th code:visible").all_text_contents()
    return found


def numbers(page: Any, column: int) -> list[float]:
    cells = page.locator(f".board tbody tr:visible > *:nth-child({column}) .number:visible")
    return [float(text) for text in cells.all_text_contents()]


@in_browser
@pytest.mark.parametrize("column", [WORST, FIRST_ATTACK])
def test_columns_sort_down_up_and_back(seen: Seen, page_file: Path, column: int) -> None:
    page = seen.open(page_file)
    before = defenses(page)
    head = page.locator(f".board thead th:nth-child({column})")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert numbers(page, column) == sorted(numbers(page, column), reverse=True)
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert numbers(page, column) == sorted(numbers(page, column))
    head.locator("button").click()
    assert head.get_attribute("aria-sort") is None
    assert defenses(page) == before
    page.locator(".board thead th button").first.click()
    assert defenses(page) == sorted(before)


@in_browser
def test_filters_leave_what_was_asked_for(seen: Seen, page_file: Path) -> None:
    page = seen.open(page_file)
    page.locator('[data-filter="family"]').select_option("jpeg")
    assert defenses(page) == ["jpeg:quality=25", "jpeg:quality=75"]
    assert page.locator("#shown").text_content() == "2 of 4 rows"
    page.locator('[data-filter="family"]').select_option("")
    page.locator('[data-filter="text"]').fill("TV")
    assert defenses(page) == ["tvm"]
    page.locator('[data-filter="text"]').fill("")
    both = numbers(page, WORST)
    page.locator('[data-filter="threat"]').select_option("oblivious")
    assert page.locator(".board thead th:visible").count() == 7
    alone = [float(text) for text in page.locator(".worst .under:visible .number").all_text_contents()]
    assert all(one >= other for one, other in zip(alone, both, strict=True))
    assert alone != both


@in_browser
def test_a_cell_opens_by_key_and_shows_its_samples(seen: Seen, page_file: Path) -> None:
    page = seen.open(page_file)
    opener = page.locator("button.open").nth(1)
    opener.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.cell") != opener.get_attribute("data-cell")
    page.keyboard.press("Enter")
    dialog = page.locator("dialog#cell")
    assert dialog.is_visible()
    title = page.locator("#cell-title").text_content()
    assert dialog.locator(".samples img").count() == 6 * 4
    assert all(dialog.locator(".samples img").evaluate_all("all => all.map(one => one.naturalWidth === 28)"))
    assert dialog.locator(".confusion").count() == 2
    total = sum(int(text or 0) for text in dialog.locator(".confusion").first.locator("td").all_text_contents())
    assert total == 20
    assert dialog.locator(".histogram rect").count() == 20
    page.keyboard.press("ArrowRight")
    assert page.locator("#cell-title").text_content() != title or "cell-" in page.url
    shown = page.url.rpartition("-")[2]
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.evaluate("document.activeElement.dataset.cell") == shown


def test_samples_are_of_different_classes_and_right_when_clean(page_file: Path) -> None:
    embedded = re.search(r'<script type="application/json" id="data">(.*?)</script>', page_file.read_text(), re.DOTALL)
    assert embedded is not None
    data = json.loads(embedded[1])
    for cell in data["cells"]:
        rows = cell["samples"]["rows"]
        assert len(rows) == 6
        assert len({row["label"] for row in rows}) == 6
        assert all(row["clean"][1] == row["label"] for row in rows)


@in_browser
def test_an_address_with_a_cell_opens_it(seen: Seen, page_file: Path) -> None:
    seen.page.goto(f"{page_file.as_uri()}#cell-2")
    assert seen.page.locator("dialog#cell").is_visible()


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_dark_and_light_follow_the_system_and_the_button(seen: Seen, page_file: Path, scheme: str) -> None:
    seen.page.emulate_media(color_scheme=scheme)
    page = seen.open(page_file)

    def brightness() -> int:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour[4:-1].split(","))

    assert (brightness() > 600) == (scheme == "light")
    page.locator("#theme").click()
    assert brightness() > 600
    page.locator("#theme").click()
    assert brightness() < 150
    page.emulate_media(media="print")
    assert brightness() > 600, "paper is white"


@in_browser
def test_a_phone_scrolls_the_table_and_not_the_page(seen: Seen, page_file: Path) -> None:
    seen.page.set_viewport_size({"width": 360, "height": 740})
    page = seen.open(page_file)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator("button.open").first.click()
    assert page.evaluate("document.getElementById('cell').scrollWidth") <= 360


@in_browser
def test_without_a_script_the_numbers_are_there(browser: Any, page_file: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert page.locator("button.open .number").first.is_visible()
    assert page.locator("figure svg .line").first.is_visible()
    assert not page.locator("#filters").is_visible()
    assert page.locator("noscript p").is_visible()
    context.close()


@in_browser
def test_what_a_plugin_says_is_not_run(
    browser: Any, call: Callable[..., Any], toy: Callable[..., Any], tmp_path: Path
) -> None:
    plugin = tmp_path / "hostile.py"
    plugin.write_text(
        "from dataclasses import dataclass\nfrom advbench.api import Defense, hookimpl\n\n"
        "@dataclass(frozen=True)\nclass Hostile(Defense):\n    name = 'hostile'\n"
        "    def apply(self, images, rng):\n"
        "        raise ValueError('<img src=x onerror=document.title=1></script><script>document.title=2</script>')\n\n"
        "@hookimpl\ndef register_defenses(register):\n    register(Hostile)\n"
    )
    toy("--plugin", plugin, defenses=("toy-keep", "hostile"))
    target = tmp_path / "page.html"
    called = call("report", "--store", tmp_path / "store", "--plugin", TOY, "--plugin", plugin, "--output", target)
    assert called.code == 0, called.err
    context = browser.new_context()
    page = context.new_page()
    page.goto(target.as_uri())
    page.locator("button.open").last.click()
    page.locator("#next").click()
    assert page.title() not in ("1", "2")
    assert page.locator("img[onerror]").count() == 0
    assert "<img src=x onerror" in page.locator("#messages").text_content()
    context.close()


@in_browser
@pytest.mark.parametrize("width", [360, 1280])
def test_long_names_make_no_page_wider(browser: Any, store: Path, tmp_path: Path, width: int) -> None:
    from advbench.report import Html
    from advbench.session.stored_runs import find_run, read_results
    from advbench.store import Store

    results, _ = read_results(Store(store), find_run(Store(store), "latest"))
    long = {"tvm": "t" * 3000, "mnist-20": "m" * 300, "deepfool": "d" * 300}
    text = json.dumps(results)
    for word, name in long.items():
        text = text.replace(word, name)
    target = tmp_path / "page.html"
    target.write_text(Html().render(json.loads(text)))
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(target.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("tbody tr", has_text="tttt").bounding_box()["height"] < 300
    page.locator("button.open").last.click()
    assert page.evaluate("document.getElementById('cell').scrollWidth") <= width
    page.close()


@in_browser
def test_a_link_within_the_page_leads_below_the_filters(seen: Seen, page_file: Path) -> None:
    page = seen.open(page_file)
    page.set_viewport_size({"width": 1280, "height": 300})
    page.emulate_media(reduced_motion="reduce")
    page.locator('header a[href="#messages"]').click()
    bar = page.locator("#filters").bounding_box()
    assert page.locator("#messages h2").bounding_box()["y"] >= bar["y"] + bar["height"]


def test_a_page_of_large_images_can_still_be_sent(
    call: Callable[..., Any], toy: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from advbench.session import page_details

    toy("--plugin", TOY)
    target = tmp_path / "page.html"

    def counted() -> list[int]:
        words = ("report", "--store", tmp_path / "store", "--plugin", TOY, "--output", target)
        assert call(*words).code == 0
        data = re.search(r'id="data">(.*?)</script>', target.read_text(), re.DOTALL)
        assert data is not None
        return [len(cell.get("samples", {}).get("rows", [])) for cell in json.loads(data[1])["cells"]]

    everything = counted()
    monkeypatch.setattr(page_details, "MOST_CHARACTERS", 2000)
    some = counted()
    assert 0 < sum(some) < sum(everything)
    assert sum(map(len, re.findall(r"data:image/png[^\"]*", target.read_text()))) < 5000


def test_the_page_is_small(page_file: Path) -> None:
    assert page_file.stat().st_size < 1_000_000


def test_without_its_plugin_file_a_run_has_a_page_without_samples(
    call: Callable[..., Any], toy: Callable[..., Any], tmp_path: Path
) -> None:
    toy()
    lose_plugin_files(tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "examples")
    target = tmp_path / "page.html"
    called = call("report", "latest", "--store", tmp_path / "store", "--output", target)
    assert called.code == 0
    assert "Samples of toy, toy-linear, toy-keep are not shown: " in called.err
    assert '"samples":{' not in target.read_text()
    assert '"before"' in target.read_text()


def test_no_samples_load_no_component(call: Callable[..., Any], store: Path, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    called = call("report", "--store", store, "--samples", 0, "--output", target)
    assert called.err == f"wrote {target}\n"
    assert '"samples":{' not in target.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "report.pdf"], "--output report.pdf: no report has the suffix '.pdf'; there are: .html"),
        (["--output", "no/such/report.html"], "--output no/such/report.html: the folder no/such does not exist"),
        (["feed"], "'feed' names no run in"),
        (["--samples", "some"], "--samples: some: must be a whole number of at least 0"),
    ],
)
def test_bad_input_is_one_line(call: Callable[..., Any], store: Path, words: list[str], message: str) -> None:
    called = call("report", *words, "--store", store)
    assert called.code == 2
    assert message in called.error_line()


def test_a_page_exported_by_the_matrix_has_samples_and_one_of_the_leaderboard_has_none(
    call: Callable[..., Any], toy: Callable[..., Any], tmp_path: Path
) -> None:
    made, again = tmp_path / "made.html", tmp_path / "again.html"
    _, results = toy("--export", made)
    assert '"samples":{' in made.read_text()
    assert "details" not in results
    called = call("leaderboard", "--store", tmp_path / "store", "--export", again)
    assert called.code == 0, called.err
    assert '"samples":{' not in again.read_text()
    assert '"before":[' in again.read_text()
