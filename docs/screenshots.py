"""Pictures of reports on a desktop and a phone, light and dark: ``python docs/screenshots.py REPORT DIR [WIDE]``.

WIDE is a report with many attacks, such as of the run in ``terminal_screens.py``. Its board is shown on a desktop and
on a phone.
Needs playwright (``pip install playwright``) and chromium on the PATH.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

DESKTOP, PHONE = {"width": 1280, "height": 1010}, {"width": 390, "height": 844}


def main(report: Path, folder: Path, wide: Path | None = None) -> None:
    """Writes the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=DESKTOP)
        page.goto(report.resolve().as_uri())
        save(page, folder / "report.webp")
        page.emulate_media(color_scheme="dark")
        open_cell(page)
        save(page, folder / "report-dark.webp")
        page.keyboard.press("Escape")
        page.emulate_media(color_scheme="light")
        page.set_viewport_size(PHONE)
        page.evaluate("scrollTo(0, 0)")
        save(page, folder / "report-phone.webp")
        if wide is not None:
            page.goto(wide.resolve().as_uri())
            save(page, folder / "wide-phone.webp")
            page.set_viewport_size({**DESKTOP, "height": 760})
            heading = page.locator(".board thead th").nth(6)
            heading.evaluate("heading => heading.scrollIntoView({ inline: 'start', block: 'nearest' })")
            page.wait_for_timeout(1000)  # it scrolls smoothly
            save(page, folder / "wide.webp")
        browser.close()


def save(page: Page, file: Path) -> None:
    """Writes a screenshot without loss, in a third of the bytes of a PNG."""
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.save(file, "WEBP", lossless=True, quality=100, method=6)


def open_cell(page: Page) -> None:
    """Opens the details of an attack on a defense."""
    page.locator("tbody tr", has_text="tvm").locator("button.open").nth(2).click()
    page.mouse.move(5, 5)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
