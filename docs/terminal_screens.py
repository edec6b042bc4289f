"""Pictures of boards in a terminal of 80 and of 120 columns: ``python docs/terminal_screens.py DIR``.

Runs the quickstart and a matrix of twelve attacks in a store of its own, and shows in each picture what one command
prints. Needs tmux and chromium on the PATH, and playwright (``pip install playwright``).
"""

from __future__ import annotations

import io
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

TWELVE_ATTACKS = (
    "matrix", "--name", "twelve attacks", "--models", "mnist-cnn-robust", "--limit", "100", "--attacks",
    "fgsm:eps={0.1,0.2,0.3}", "pgd:eps={0.1,0.2,0.3},steps=20", "apgd:eps=0.3", "square:eps=0.3,queries=200",
    "noise:eps=0.3", "deepfool", "ddn", "fmn",
    "--defenses", "none", "jpeg:quality={50,75}", "gaussian", "kmeans", "tvm", "gaussian+jpeg",
)  # fmt: skip
SCREENS = (
    ("terminal-80.png", 80, ("matrix",), ""),
    ("terminal-120.png", 120, ("leaderboard", "quickstart"), ""),
    ("terminal-wide-80.png", 80, ("leaderboard", "twelve attacks"), "attacks "),
)
"""File, width, command, and how the first line begins that is not shown any more."""

ROWS = 200
"""Height of the terminal: the output of each command fits."""

LONGEST = 600
"""Seconds after which a command is given up."""

THEME = TerminalTheme(
    (27, 31, 39), (226, 229, 234),
    [(27, 31, 39), (255, 123, 114), (86, 211, 100), (227, 179, 65), (121, 176, 255), (210, 168, 255), (86, 212, 221),
     (226, 229, 234)],
)  # fmt: skip
PAGE = """<!DOCTYPE html><meta charset="utf-8"><style>
body {{ margin: 0; background: #1b1f27; color: #e2e5ea; width: max-content; padding: 14px 18px; }}
pre {{ margin: 0; font: 14px/18px "DejaVu Sans Mono", Menlo, Consolas, monospace; width: {width}ch; }}
</style><pre>{lines}</pre>"""


def main(folder: Path) -> None:
    """Writes the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        subprocess.run(
            [sys.executable, "-m", "advbench", *TWELVE_ATTACKS, "-q"],
            env=environment(work),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        for name, width, words, end in SCREENS:
            draw(browser, shown(words, width, Path(work)), width, folder / name, end)
        browser.close()


def environment(work: str) -> dict[str, str]:
    """The environment of the commands: a store in the work folder, and no settings of this terminal."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    return {**inherited, "XDG_CACHE_HOME": work}


def shown(words: tuple[str, ...], width: int, work: Path) -> str:
    """What a terminal shows when a command has ended, with escape codes for its styles."""
    prompt = f"\033[1m$ {shlex.join(('advbench', *words))}\033[0m"
    command = shlex.join([sys.executable, "-m", "advbench", *words])
    ended = work / "ended"
    ended.unlink(missing_ok=True)
    script = f"printf '%s\\n' {shlex.quote(prompt)}; {command}; echo $? > {shlex.quote(str(ended))}; sleep 60"
    tmux = ["tmux", "-f", "/dev/null", "-S", str(work / "tmux")]
    size = ["-x", str(width), "-y", str(ROWS)]
    subprocess.run([*tmux, "new-session", "-d", *size, script], env=environment(str(work)), cwd=work, check=True)
    try:
        deadline = time.monotonic() + LONGEST
        while not ended.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{command} has not ended after {LONGEST} s")
            time.sleep(0.2)
        captured = subprocess.run([*tmux, "capture-pane", "-e", "-p"], capture_output=True, text=True, check=True)
        if (code := ended.read_text().strip()) != "0":
            raise RuntimeError(f"{command} has ended with exit code {code}:\n{captured.stdout}")
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
    return captured.stdout.rstrip()


def draw(browser: Browser, text: str, width: int, file: Path, end: str) -> None:
    """Draws text with escape codes as a terminal would, up to a line that begins with ``end``, as a PNG file."""
    lines = Text.from_ansi(text).split()
    if end:
        lines = lines[: next(number for number, line in enumerate(lines) if line.plain.startswith(end))]
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(Text("\n").join(lines), no_wrap=True, crop=False)
    html = console.export_html(theme=THEME, inline_styles=True, code_format="{code}")
    page = browser.new_page(device_scale_factor=1.5)
    page.set_content(PAGE.format(width=width, lines=html))
    picture = Image.open(io.BytesIO(page.locator("body").screenshot()))
    page.close()
    few_colours = picture.convert("RGB").quantize(64, Image.Quantize.MAXCOVERAGE)  # text needs no more
    few_colours.save(file, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
