"""``list`` and ``info`` in terminals: narrow and wide, without markup, wrapped between words."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Called

from advbench.cli.docstrings import plain, unwrapped, without_parameters


def in_terminal(width: int, *words: str, code: int = 0) -> list[str]:
    """The lines that a command prints in a terminal of this width; it must end with this exit code."""
    driver, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 100, width, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}
    environment.pop("COLUMNS", None)
    command = [sys.executable, "-m", "advbench", *words]
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, stdin=terminal, env=environment)
    os.close(terminal)
    output = b""
    try:
        while part := os.read(driver, 65536):
            output += part
    except OSError:  # the end of a terminal on Linux
        pass
    assert process.wait() == code
    text = re.sub(r"\x1b\[[\d;]*m", "", output.decode())
    return [line.rstrip() for line in text.splitlines()]


@pytest.mark.slow
def test_list_in_a_narrow_terminal_has_two_columns_and_a_hint() -> None:
    lines = in_terminal(80, "list", "attacks")
    assert next(line for line in lines if line.strip().startswith("name")).split() == ["name", "what", "it", "is"]
    assert "'advbench info NAME' shows parameters, source and plugin of one of them" in lines
    assert len(lines) < 80
    assert max(map(len, lines)) <= 80


def test_list_shows_docstrings_without_markup(call: Callable[..., Called]) -> None:
    text = call("list", "models", "datasets").out
    assert "torch-module:build=net.py:make,weights=net.safetensors" in text
    assert "`" not in text


@pytest.mark.slow
def test_info_wraps_between_words(call: Callable[..., Called]) -> None:
    words = {*" ".join(call("info", "cw").out.split()).split(" ")}
    lines = in_terminal(80, "info", "cw")
    assert max(map(len, lines)) <= 80
    for line in lines:
        assert {word for word in line.split() if "─" not in word} <= words, line
    assert len([line for line in lines if line.startswith("construction")]) == 0, "paragraphs are wrapped again"


@pytest.mark.slow
def test_info_in_a_pipe_is_one_line_a_paragraph_without_markup(call: Callable[..., Called]) -> None:
    shown = call("info", "pgd").out
    assert "``" not in shown
    assert "With norm=l2, the step is along" in " ".join(shown.split())


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 160])
def test_runs_are_told_apart_by_their_whole_commands(
    toy: Callable[..., tuple[Called, object]], tmp_path: Path, width: int
) -> None:
    for factor in (0.25, 0.5):
        toy(
            defenses=(
                "toy-keep",
                *(f"toy-dim:factor={0.8 + step / 100}" for step in range(8)),
                f"toy-dim:factor={factor}",
            )
        )
    lines = in_terminal(width, "cache", "ls", "--store", str(tmp_path / "store"))
    assert max(map(len, lines)) <= width
    shown = "".join("".join(lines).split())
    assert "toy-dim:factor=0.25" in shown and "toy-dim:factor=0.5" in shown


@pytest.mark.slow
@pytest.mark.parametrize("width", [60, 80, 99, 100])
def test_the_list_of_runs_cuts_no_id_and_no_heading(
    toy: Callable[..., tuple[Called, object]],
    call: Callable[..., Called],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    width: int,
) -> None:
    name = "a name of 24 characters!"
    runs = [
        toy("--name", name, "--limit", limit)[1]["run"]["run"]  # type: ignore[index]
        for limit in (9, 8)
    ]
    monkeypatch.setenv("COLUMNS", str(width))
    lines = call("cache", "ls", "--store", tmp_path / "store").out.splitlines()
    assert max(map(len, lines)) <= width
    few = ["run", "name", "created", "cells"]
    assert lines[1].split() == (few if width < 100 else [*few[:3], "used", "cells", "size", "unshared"])
    rows = [line for line in lines if "2/2" in line]
    assert [row.split()[0] for row in rows] == runs[::-1]
    assert all(name in row and "…" not in row for row in rows)


@pytest.mark.slow
def test_the_width_of_tables_in_a_pipe_is_that_of_the_environment(
    call: Callable[..., Called], monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns, least, most in (("80", 60, 80), ("120", 81, 120), ("no number", 121, 200), ("0", 121, 200)):
        monkeypatch.setenv("COLUMNS", columns)
        width = max(map(len, call("list", "attacks").out.splitlines()))
        assert least <= width <= most, columns


@pytest.mark.slow
@pytest.mark.parametrize("name", ["foolbox", "jpeg", "mnist"])
def test_info_shows_parameters_once(call: Callable[..., Called], name: str) -> None:
    shown = call("info", name).out
    assert shown.splitlines()[0].startswith(f"{name}  ")
    assert not re.search("^(Args|Attributes|Parameters)", shown, re.MULTILINE)


@pytest.mark.slow
def test_a_board_with_twelve_attacks_shows_the_worst_case_in_its_first_table(
    toy: Callable[..., tuple[Called, object]], tmp_path: Path
) -> None:
    toy(attacks=[f"toy-sign:eps={number / 100}" for number in range(1, 13)])
    lines = in_terminal(80, "leaderboard", "--store", str(tmp_path / "store"))
    assert max(map(len, lines)) <= 80
    starts = [number for number, line in enumerate(lines) if line.startswith(" defense ")]
    assert len(starts) > 1, "the board is split"
    first = lines[starts[0] : starts[1]]
    assert first[0].split()[:2] == ["defense", "worst"]
    (row,) = [line.split() for line in first if line.startswith(" toy-keep ")]
    assert re.fullmatch(r"[\d.]+", row[-1]) and re.fullmatch(r"[\d.]+–[\d.]+", row[2])
    assert lines[starts[0] - 2].endswith("The worst case is over all 12 attacks.")


@pytest.mark.slow
def test_messages_and_errors_break_between_words(toy: Callable[..., tuple[Called, object]], tmp_path: Path) -> None:
    toy()
    store = str(tmp_path / "store")
    error = in_terminal(50, "list", "defences", "of", "every", "kind", code=2)
    assert len(error) > 1
    assert " ".join(error) == "advbench list: error: unknown kind 'defences'; did you mean 'defenses'?"
    lines = in_terminal(40, "figures", "--store", store, "--output", str(tmp_path / "f"), "--only", "eps")
    assert "has no data for these figures" in " ".join(lines)
    assert all(line.split()[-1] in ("has", "data", "for", "these", "figures", "no") for line in lines), lines


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("``norm=l2`` and :class:`~a.b.Name`", "norm=l2 and Name"),
        (":func:`a.b` or :py:meth:`text <a.b.c>`", "a.b or text"),
        ("see `the paper <https://example.org>`_", "see the paper (https://example.org)"),
        ("a **strong** `word`", "a strong word"),
        ("2 * 3 * 4, x**2, f(*args)", "2 * 3 * 4, x**2, f(*args)"),
    ],
)
def test_markup_is_removed(markup: str, text: str) -> None:
    assert plain(markup) == text


def test_paragraphs_are_joined_and_lists_kept() -> None:
    docstring = (
        "One line\nand the next.\n\nA list:\n\n- one\n  continued\n- two\n\n"
        "Args:\n    eps: Largest\n        change.\n    steps: Number.\n"
    )
    assert unwrapped(docstring).splitlines() == [
        "One line and the next.",
        "",
        "A list:",
        "",
        "- one continued",
        "- two",
        "",
        "Args:",
        "    eps: Largest change.",
        "    steps: Number.",
    ]


@pytest.mark.parametrize(
    "section",
    [
        "Args:\n    eps: Largest\n        change.\n\n    steps: Number.\n",
        "Attributes:\n    eps: Largest change.\n",
        "Parameters\n----------\neps : float\n    Largest change.\n\nsteps : int\n    Number.\n",
        ":param eps: Largest\n    change.\n:type eps: float\n",
    ],
)
def test_sections_on_parameters_are_left_out(section: str) -> None:
    after = "Notes\n-----\nAnother line." if "--" in section else "Raises:\n    ValueError: never."
    assert without_parameters(f"What it does.\n\n{section}\n{after}\n") == f"What it does.\n\n{after}"
    assert without_parameters(f"Args: none are needed.\n\n{section}") == "Args: none are needed."
