"""What a real terminal shows while a matrix runs and afterwards, and what a pipe gets."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.conftest import Called

from advbench.report.markdown import Markdown
from advbench.session import progress
from advbench.session.live_board import window

pytestmark = pytest.mark.slow(minutes=2)

TMUX = shutil.which("tmux")
TOY = Path(__file__).parents[1] / "toy_plugin.py"
SLOW = """
import os
import time
from dataclasses import dataclass
import torch
from advbench.api import Attack, Budget, Defense, hookimpl, param

@dataclass(frozen=True)
class Slow(Attack):
    name = "slow"
    source = "nowhere"
    eps: float = param(0.1, min=0, help="radius")
    learning_rate: float = param(0.05, min=0, help="rate")
    def budget(self): return Budget("linf", self.eps)
    def run(self, model, images, labels, rng):
        if len(images) > 4:  # not while its behaviour is checked, on four images
            time.sleep(float(os.environ.get("SLOW_SECONDS", "0.6")))
        return (images + self.eps).clamp(0, 1)
    def passes(self): return 1

@dataclass(frozen=True)
class Failing(Defense):
    name = "failing"
    def apply(self, images, rng): raise ValueError("no image today")

@hookimpl
def register_attacks(register): register(Slow)

@hookimpl
def register_defenses(register): register(Failing)
"""
ADVBENCH = (sys.executable, "-m", "advbench")
AXES = (
    "--datasets", "toy", "--models", "toy-linear", "--attacks",
    "slow:eps={0.1,0.2,0.3},learning_rate=0.125", "toy-sign",
    "--defenses", "toy-keep", "toy-dim:factor={0.5,0.8}", "failing",
)  # fmt: skip

in_terminal = pytest.mark.skipif(TMUX is None, reason="needs tmux on the PATH")


class Terminal:
    """A command in a real terminal."""

    def __init__(self, socket: Path, width: int, height: int, words: list[str]) -> None:
        self.tmux = [str(TMUX), "-S", str(socket)]
        size = ["-x", str(width), "-y", str(height)]
        self._run("new-session", "-d", *size, f"{shlex.join(words)}; echo exit code $?; sleep 60")

    def _run(self, *words: str) -> str:
        # readline, which pytest loads, puts the size of its own terminal into the environment: here unseen by
        # os.environ, but not in the processes that pytest starts to share the tests.
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        words = (*self.tmux, *words)
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=30)
        return done.stdout

    def screen(self, *, whole: bool = False) -> str:
        return self._run("capture-pane", "-p", *(("-S", "-1000") if whole else ()))

    def wait_for(self, pattern: str, *, whole: bool = False) -> str:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            screen = self.screen(whole=whole)
            if re.search(pattern, screen, re.DOTALL):
                return screen
            time.sleep(0.1)
        raise AssertionError(f"{pattern!r} did not come:\n{screen}")

    def resize(self, width: int, height: int) -> None:
        self._run("resize-window", "-x", str(width), "-y", str(height))

    def press(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def close(self) -> None:
        subprocess.run([*self.tmux, "kill-server"], capture_output=True, check=False)


@pytest.fixture
def matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A matrix that takes a few seconds."""
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    files = ("--plugin", str(TOY), "--plugin", str(tmp_path / "slow.py"), "--store", str(tmp_path / "store"))
    return [*ADVBENCH, "matrix", *AXES, *files]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def make(width: int, height: int, words: list[str]) -> Terminal:
        opened.append(Terminal(tmp_path / "tmux", width, height, words))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@in_terminal
@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_the_matrix_fills_in_and_the_board_stays(
    terminal: Callable[..., Terminal], matrix: list[str], width: int, height: int
) -> None:
    shown = terminal(width, height, matrix)
    early = shown.wait_for(r"toy-keep +\d\d\.\d +… +·")
    assert "robust accuracy in %" in early
    assert re.search(r"cells \d+/16 ", early)
    assert re.search(r"toy-dim:factor=0\.5 .*\n *toy-dim:factor=0\.8 ", early), (
        "rows are named as the final board's are"
    )
    assert not re.search(r"\] toy .*robust", early), "in a terminal only failures have a line of their own"
    late = shown.wait_for(r"failing +ERR", whole=False)
    assert "no image today" in late
    final = shown.wait_for(r"exit code 1", whole=True)
    assert all(len(line) <= width for line in final.splitlines())
    for remains in ("robust accuracy in %", "attacks\n\n", "cells 1", "━", "·  "):
        assert remains not in final, "the live view has gone"
    board = final[final.index("finished in") :]
    assert re.search(r"defense +worst( case)? +95 %( interval)? +clean", board), "it is split, at 120 columns, too"
    assert re.search(r"(?<!\S)(learning_rate=)?0\.125(?!\S)", board), "headings break no number"
    for line in board.splitlines():
        if re.match(r" *toy-keep", line):
            assert len(re.findall(r"(?<!\S)\d+\.\d(?!\S)", line)) >= 1, line
    sweep = re.search(r"\n *\n toy-dim:factor=0\.5 .*\n toy-dim:factor=0\.8 .*\n *\n", board)
    assert sweep, "the rows of a sweep stand together, with room around them"


@in_terminal
def test_a_low_terminal_shows_the_rows_in_work(
    terminal: Callable[..., Terminal], matrix: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW_SECONDS", "20")  # so that it is in work when it is looked at, however busy the machine
    defenses = [f"toy-dim:factor={{{','.join(f'0.{digits}' for digits in range(10, 40))}}}"]
    words = [*matrix[: matrix.index("--defenses") + 1], *defenses, *matrix[matrix.index("--plugin") :]]
    shown = terminal(50, 16, words)
    screen = shown.wait_for(r"…[ ·]*\n[^+]*\+\d attacks?, \+\d+ defenses\s+\S cells +\d+/120 ")  # with some in work
    assert len([line for line in screen.splitlines() if line.startswith("toy-dim")]) >= 3


@in_terminal
def test_a_terminal_that_changes_its_size_keeps_one_board(
    terminal: Callable[..., Terminal], matrix: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW_SECONDS", "20")
    # What scrolls out at the top, nothing can erase, and a wider terminal brings it back; so there is room for all.
    shown = terminal(120, 90, [*matrix, "--threats", "oblivious", "adaptive"])
    shown.wait_for(r"toy-keep [^\n]*…")
    for width in (80, 70, 100):
        shown.resize(width, 90)
        time.sleep(0.5)
        screen = shown.wait_for(r"robust accuracy in %")  # it is drawn anew in a while
        until = time.monotonic() + 20
        while not _one_board(screen) and time.monotonic() < until:
            time.sleep(0.1)
            screen = shown.screen()
        assert _one_board(screen), screen


def _one_board(screen: str) -> bool:
    return all(
        len(re.findall(text, screen, re.MULTILINE)) == 1 for text in ("robust accuracy in %", "^defense ", "toy-keep")
    )


@in_terminal
def test_verbose_prints_a_line_a_cell_above_the_board(terminal: Callable[..., Terminal], matrix: list[str]) -> None:
    shown = terminal(120, 40, [*matrix, "-v"])
    screen = shown.wait_for(r"\] toy toy-linear slow:[^ ]* oblivious toy-keep +robust \d\d\.\d %.*robust accuracy in %")
    assert screen.count("robust accuracy in %") == 1


@in_terminal
def test_stored_cells_are_there_from_the_beginning(
    terminal: Callable[..., Terminal], matrix: list[str], call: Callable[..., Called]
) -> None:
    place = matrix.index("--attacks")
    stored = [*matrix[: place + 1], "toy-sign", *matrix[matrix.index("--defenses") :]]
    assert call(*stored[len(ADVBENCH) :]).code == 1
    screen = terminal(120, 40, matrix).wait_for(r"robust accuracy in %")
    (row,) = [line for line in screen.splitlines() if line.startswith("toy-keep")]
    assert re.search(r"\d\d\.\d$", row.rstrip()), row


@in_terminal
def test_an_interrupt_leaves_the_terminal_clean(terminal: Callable[..., Terminal], matrix: list[str]) -> None:
    shown = terminal(100, 30, [*matrix, "--threats", "oblivious", "adaptive"])
    shown.wait_for(r"toy-keep .*\d\d\.\d.*·")
    shown.press("C-c")
    final = shown.wait_for(r"exit code 130", whole=True)
    assert "cells are finished and stored" in final
    assert "robust accuracy in %" not in final
    assert "━" not in final
    shown.press("x", "y")
    assert shown.wait_for("xy"), "what is typed is shown, so the cursor and the echo are back"


@pytest.mark.parametrize("room", [0, 5, 20, 33])
def test_what_does_not_fit_moves_out_of_view_only_when_it_must(room: int) -> None:
    sizes, before = [5, 9, 7, 14, 5, 5, 9], 0
    for at in [*range(7), *reversed(range(7)), 0, 6, 3]:
        view = window(sizes, at, before, room)
        assert at in view
        assert len(view) == 1 or sum(sizes[place] for place in view) <= room
        assert view == window(sizes, view[-1], view.start, room)
        before = view.start
    assert window(sizes, 3, 0, 54) == range(7)


def run(words: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, **more)


def test_a_view_that_takes_long_to_draw_is_drawn_less_often() -> None:
    console, drawn = Console(width=40, height=10, file=io.StringIO()), []

    def render(width: int, height: int) -> str:
        drawn.append(width)
        ends = time.thread_time() + 0.05
        while time.thread_time() < ends:
            pass
        return "board"

    view = progress._View(console, render)
    began = time.monotonic()
    while time.monotonic() - began < 1:
        view.draw()
        time.sleep(0.01)
    assert 1 <= len(drawn) <= 3  # a tenth of the time, not nearly all of it
    console.width = 30
    assert view.draw()
    assert drawn[-1] == 30, "another width waits for nothing"


def test_pipes_get_a_line_a_cell_and_no_control_codes(matrix: list[str]) -> None:
    done = run(matrix)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout + done.stderr
    assert len(re.findall(r"^\[ ?\d+/16\] toy toy-linear", done.stderr, re.MULTILINE)) == 16


@pytest.mark.parametrize("form", ["plain", "markdown"])
def test_other_formats_are_for_pipes_and_hold_the_numbers(
    matrix: list[str], call: Callable[..., Called], form: str, tmp_path: Path
) -> None:
    target = tmp_path / "results.json"
    shown = call(*matrix[len(ADVBENCH) :], "--format", form, "--export", target, "-q").out
    assert "\x1b" not in shown
    results = json.loads(target.read_text())
    if form == "markdown":
        assert shown == Markdown().render(results)
    else:
        assert shown.isascii()
    assert call("leaderboard", "--format", form, "--store", tmp_path / "store").out == shown
    lines = [re.sub(r"[*|\\†#]", " ", line).split() for line in shown.splitlines()]
    for row in results["leaderboards"][0]["rows"]:
        cells = [cell for cell in results["cells"] if cell["defense"] == row["defense"]]
        names = {row["defense"], row["defense"].partition(":")[0]}
        (row_shown,) = [line[1:] for line in lines if line and line[0] in names]
        numbers = [cell["robust_accuracy"] for cell in cells]
        expected = ["ERR" if number is None else f"{100 * number:.1f}" for number in numbers]
        assert row_shown[1 : 1 + len(cells)] == expected
