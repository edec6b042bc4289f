"""Pictures of reports on a desktop and a phone, light and dark: ``python docs/screenshots.py REPORT DIR [WIDE]``.

WIDE is a report with many attacks, such as of the run in ``terminal_screens.py``. Its board is shown on a desktop and
on a phone.
Needs playwright (``pip install playwright``) and chromium on the PATH.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

DESKTOP, PHONE = {"width": 1280, "height": 1010}, {"width": 390, "height": 844}


def main(report: Path, folder: Path, wide: Path | None = None) -> None:
    """Writes the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=DESKTOP)
        page.goto(report.resolve().as_uri())
        page.screenshot(path=folder / "report.png")
        page.emulate_media(color_scheme="dark")
        open_cell(page)
        page.screenshot(path=folder / "report-dark.png")
        page.keyboard.press("Escape")
        page.emulate_media(color_scheme="light")
        page.set_viewport_size(PHONE)
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=folder / "report-phone.png")
        if wide is not None:
            page.goto(wide.resolve().as_uri())
            page.screenshot(path=folder / "wide-phone.png")
            page.set_viewport_size({**DESKTOP, "height": 760})
            heading = page.locator(".board thead th").nth(6)
            heading.evaluate("heading => heading.scrollIntoView({ inline: 'start', block: 'nearest' })")
            page.wait_for_timeout(1000)  # it scrolls smoothly
            page.screenshot(path=folder / "wide.png")
        browser.close()


def open_cell(page: Page) -> None:
    """Opens the details of an attack on a defense."""
    page.locator("tbody tr", has_text="tvm").locator("button.open").nth(2).click()
    page.mouse.move(5, 5)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
